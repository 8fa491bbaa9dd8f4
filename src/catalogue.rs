use std::collections::HashMap;

use serde_json::{Map, Value};
use xr_data::{Corpus, Embeddings, Picture, Skipped, Source, dataset, text_key};
use xr_index::{Catalogue, Condition, FindItems, Item, NewItem, Query};
use xr_models::{embed, embed::Embedder};

use crate::{Options, Result, Retriever};

/// Items that are put into a catalogue together.
const ITEMS: usize = 64;

/// Among how many of the nearest by cosine the correction decides, for each picture wanted.
const CANDIDATES: usize = 10;
/// And at least among these.
const FEWEST_CANDIDATES: usize = 100;

/// What an item's metadata call it.
const CORRECTION: &str = "correction";

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
    /// time. What is there already is replaced. The metadata of an item are its `data`, by name, and
    /// its `correction` by the model's query bank.
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
            let (mut items, failed) = embed_pictures(embedder, batch, texts, options)?;
            embed_texts(embedder, &mut items)?;
            let corrections = self.corrections(&items)?;
            for (new, correction) in items.iter_mut().zip(corrections) {
                let data = ("data".into(), Value::from(&*corpus.name));
                let correction = (CORRECTION.into(), Value::from(correction));
                new.item.metadata = Map::from_iter([data, correction]);
            }
            catalogue.put(&items)?;
            pictures += items.len();
            skipped.extend(failed);
        }
        catalogue.save()?;
        Ok(EmbeddedPictures { pictures, skipped })
    }

    /// Of the only picture of each item.
    fn corrections(&self, items: &[NewItem]) -> Result<Vec<f32>> {
        let embedder = self.embedder();
        let rows = items.iter().flat_map(|new| new.pictures.concat()).collect();
        let rows = Embeddings::new(rows, embedder.dim(), embedder.fingerprint().clone());
        Ok(self.banks().captions.corrections(&rows)?)
    }
}

impl Retriever {
    /// The `k` pictures of a catalogue nearest to `text`, best first, of those for which all of
    /// `conditions` hold. A score is the cosine, less the correction that the model's query bank gave
    /// the picture when it was put there; it decides among the nearest by cosine, ten for each that
    /// is wanted and at least a hundred.
    ///
    /// # Errors
    /// Those of [`FindItems`].
    pub fn search_catalogue(
        &self,
        catalogue: &impl FindItems,
        text: &str,
        k: usize,
        conditions: &[Condition],
    ) -> Result<Vec<(Item, f32)>> {
        let text = self.embedder().texts(&[text], embed::Run::new(1))?;
        let candidates = FEWEST_CANDIDATES.max(CANDIDATES * k);
        let query = Query { k: candidates, conditions, ..Query::default() };
        let near = catalogue.search(&text, &query)?.into_iter().flatten();
        let cosines: HashMap<_, _> = near.map(|found| (found.item, found.score)).collect();
        let ids: Vec<_> = cosines.keys().copied().collect();
        let corrected = |item: Item| (cosines[&item.id] - correction(&item), item);
        let mut found: Vec<_> = catalogue.items(&ids)?.into_iter().map(corrected).collect();
        found.sort_by(|(a, first), (b, second)| b.total_cmp(a).then(first.id.cmp(&second.id)));
        Ok(found.into_iter().take(k).map(|(score, item)| (item, score)).collect())
    }
}

/// What was taken note of in [`Retriever::catalogue_pictures`].
fn correction(item: &Item) -> f32 {
    item.metadata.get(CORRECTION).and_then(Value::as_f64).unwrap_or_default() as f32
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
