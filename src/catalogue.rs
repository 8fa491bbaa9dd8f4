use serde_json::{Map, Value};
use xr_data::{Corpus, Picture, Skipped, Source, dataset, text_key};
use xr_index::{Catalogue, Item, NewItem};
use xr_models::{embed, embed::Embedder};

use crate::{Options, Result, Retriever};

/// Items that are put into a catalogue together.
const ITEMS: usize = 64;

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
