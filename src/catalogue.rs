use serde_json::{Map, Value};
use xr_data::{Corpus, Embeddings, Picture, Skipped, Source, dataset, text_key};
use xr_index::{Catalogue, Condition, Found, Item, NewItem, Query};
use xr_models::{embed, embed::Embedder};

use crate::{Options, Result, Retriever};

/// Items that are put into a catalogue together.
const ITEMS: usize = 64;

/// Among how many of the nearest by cosine the correction decides, for each picture wanted.
const CANDIDATES: usize = 10;
/// And at least among these.
const FEWEST_CANDIDATES: usize = 100;

/// The id of an item of this source: the same whenever it is added, so that adding it again
/// replaces it.
pub fn item_id(source: &str) -> u64 {
    let key = text_key(source);
    u64::from_le_bytes(*key.first_chunk().expect("32 bytes"))
}

/// The path of a picture, or the name of a generated one.
pub fn source_of(picture: &Picture) -> String {
    match &picture.source {
        Source::File(path) => path.display().to_string(),
        Source::Scene(_) => picture.name.clone(),
    }
}

/// What [`Retriever::catalogue_pictures`] did.
#[derive(Clone, Debug)]
pub struct EmbeddedPictures {
    /// Pictures embedded.
    pub pictures: usize,
    /// Pictures that were left out.
    pub skipped: Vec<Skipped>,
}

impl Retriever {
    /// Embeds the pictures and captions of `data` and puts them into a catalogue, a batch at a
    /// time. What is there already is replaced. The metadata of an item is its `data`, by name.
    ///
    /// # Errors
    /// Of the data and the catalogue.
    pub fn catalogue_pictures(
        &self,
        catalogue: &Catalogue,
        data: &str,
        options: &Options,
    ) -> Result<EmbeddedPictures> {
        let mut corpus = dataset::open(data, options.strictness())?;
        let embedder = self.embedder();
        let texts = captions_of_each(&corpus);
        let (mut pictures, mut skipped) = (0, std::mem::take(&mut corpus.skipped));
        for (batch, texts) in corpus.pictures.chunks(ITEMS).zip(texts.chunks(ITEMS)) {
            let (mut items, failed) = embed_pictures(&embedder, batch, texts, options)?;
            embed_texts(&embedder, &mut items)?;
            for new in &mut items {
                new.item.metadata = Map::from_iter([("data".into(), Value::from(&*corpus.name))]);
            }
            catalogue.put(&items)?;
            pictures += items.len();
            skipped.extend(failed);
        }
        catalogue.save()?;
        Ok(EmbeddedPictures { pictures, skipped })
    }
}

impl Retriever {
    /// The `k` pictures of a catalogue nearest to `text`, best first, of those for which all of
    /// `conditions` hold. A score is the cosine less the correction of the model's query bank, which
    /// decides among the nearest by cosine: ten for each that is wanted, and at least a hundred.
    ///
    /// # Errors
    /// Those of [`Catalogue::search`].
    pub fn search_catalogue(
        &self,
        catalogue: &Catalogue,
        text: &str,
        k: usize,
        conditions: &[Condition],
    ) -> Result<Vec<Found>> {
        let text = self.embedder().texts(&[text], embed::Run::new(1))?;
        let candidates = FEWEST_CANDIDATES.max(CANDIDATES * k);
        let query = Query { k: candidates, conditions, ..Query::default() };
        let near = catalogue.search(&text, &query)?.remove(0);
        let rescored = near.into_iter().map(|Found { item, .. }| {
            let score = self.corrected_score(&text, catalogue.whole(item)?)?;
            Ok(score.map(|score| Found { item, score }))
        });
        // An item removed meanwhile has no score.
        let mut found: Vec<_> = rescored.filter_map(Result::transpose).collect::<Result<_>>()?;
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
        found.truncate(k);
        Ok(found)
    }

    /// That of the best of an item's pictures.
    fn corrected_score(&self, text: &Embeddings, item: Option<NewItem>) -> Result<Option<f32>> {
        let (bank, pictures) = (&self.banks().captions, item.unwrap_or_default().pictures);
        let rows = Embeddings::new(pictures.concat(), text.dim(), text.made_by().clone());
        let (rows, text) = (bank.correct(&rows)?, bank.correct_queries(text)?);
        let scores = rows.view().dot(&text.view().row(0));
        Ok(scores.into_iter().max_by(f32::total_cmp))
    }
}

/// The captions of each picture.
fn captions_of_each(corpus: &Corpus) -> Vec<Vec<String>> {
    let mut texts = vec![vec![]; corpus.pictures.len()];
    for caption in &corpus.captions {
        texts[caption.picture as usize].push(caption.text.clone());
    }
    texts
}

/// An item for each picture that can be decoded, with the picture's embedding.
fn embed_pictures(
    embedder: &Embedder,
    pictures: &[Picture],
    texts: &[Vec<String>],
    options: &Options,
) -> Result<(Vec<NewItem>, Vec<Skipped>)> {
    let run = embed::Run::new(16).with_cache(&options.cache.join("embeddings"));
    let run = if options.strict { run.strict() } else { run };
    let (rows, failures) = embedder.images(&pictures.iter().collect::<Vec<_>>(), run)?;
    let failed = |place: usize| failures.iter().any(|failure| failure.position == place);
    let decoded = (0..pictures.len()).filter(|&place| !failed(place));
    let items = decoded.enumerate().map(|(row, place)| {
        let (source, texts) = (source_of(&pictures[place]), texts[place].clone());
        let item = Item { id: item_id(&source), source, texts, ..Item::default() };
        NewItem { item, pictures: vec![rows.row(row).to_vec()], ..NewItem::default() }
    });
    let skipped = failures.iter().map(|failure| Skipped {
        what: source_of(&pictures[failure.position]),
        why: failure.error.to_string(),
    });
    Ok((items.collect(), skipped.collect()))
}

/// Gives the items the embeddings of their texts.
fn embed_texts(embedder: &Embedder, items: &mut [NewItem]) -> Result<()> {
    let texts: Vec<_> = items.iter().flat_map(|new| &new.item.texts).map(String::as_str).collect();
    let rows = embedder.texts(&texts, embed::Run::new(64))?;
    let mut rows = (0..rows.rows()).map(|row| rows.row(row).to_vec());
    for new in items {
        new.texts = rows.by_ref().take(new.item.texts.len()).collect();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_source_has_the_same_id() {
        assert_eq!(item_id("a.jpg"), item_id("a.jpg"));
        assert_ne!(item_id("a.jpg"), item_id("b.jpg"));
    }
}
