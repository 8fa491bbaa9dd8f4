use image::RgbImage;
use xr_data::{Corpus, Embeddings, Split};
use xr_eval::{
    Ranking,
    plot::gallery::{Found, Row, draw},
};
use xr_index::{ExactIndex, Hit, Metric, SearchParams, VectorIndex};

use crate::Result;

/// Pictures found for each query.
const COLUMNS: usize = 5;

/// For each chosen caption of `split` its five best pictures, the right one marked.
///
/// `captions` are rows of `text`, which, like `image`, is in the order of the split.
///
/// # Errors
/// Of the search, and the first picture's that can't be decoded.
pub fn gallery(
    corpus: &Corpus,
    split: &Split,
    image: &Embeddings,
    text: &Embeddings,
    captions: &[u32],
) -> Result<RgbImage> {
    let index = ExactIndex::new(image.normalized(), Metric::InnerProduct)?;
    let queries = text.select(captions).normalized();
    let hits = index.search(queries.view(), COLUMNS, &SearchParams::default())?;
    let right: Vec<u32> = captions.iter().map(|&c| split.picture_of[c as usize]).collect();
    let relevance = xr_data::Relevance::from_groups(image.rows(), &right);
    let ranking =
        Ranking::of(queries.view(), index.embeddings().view(), &relevance, Metric::InnerProduct)?;
    let ranks = ranking.answerable().map(|(_, ranks)| ranks[0]);
    let texts: Vec<_> = corpus.texts(split).collect();
    let rows = captions.iter().zip(hits.iter()).zip(right).zip(ranks).map(
        |(((&caption, hits), right), rank)| {
            let found = hits.iter().map(|hit| found(corpus, split, hit, right));
            Ok(Row {
                caption: texts[caption as usize].into(),
                found: found.collect::<Result<_>>()?,
                right_at: Some(rank),
            })
        },
    );
    Ok(draw(&rows.collect::<Result<Vec<_>>>()?))
}

fn found(corpus: &Corpus, split: &Split, hit: &Hit, right: u32) -> Result<Found> {
    let picture = &corpus.pictures[split.pictures[hit.id as usize] as usize];
    Ok(Found { picture: picture.load()?, score: hit.score, right: hit.id == u64::from(right) })
}
