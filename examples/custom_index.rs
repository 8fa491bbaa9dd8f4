//! An index of your own, beside those that xr has: what a search, a catalogue or `tune` needs of it
//! is [`VectorIndex`].
//!
//! We will: hash vectors by the sides of random planes they lie on (Charikar, "Similarity estimation
//! techniques from rounding algorithms", 2002), look only where a query hashes to and nearby, and
//! see what that finds and what it saves.
//!
//! ```text
//! cargo run --release --example custom_index
//! ```

use std::{collections::HashMap, error::Error, path::Path, time::Instant};

use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr::{
    data::{Embeddings, Fingerprint},
    index::{
        self, Effort, ExactIndex, Hit, Hits, IndexSpec, Metric, SearchParams, Side, VectorIndex,
    },
};

/// Bits of a hash: 1,024 buckets.
const BITS: usize = 10;
const DIM: usize = 128;

/// Vectors in buckets. Two at a small angle are likely to share one.
#[derive(Debug)]
struct Planes {
    /// `[BITS, dim]`: a plane is what is at right angles to its row.
    normals: Array2<f32>,
    buckets: HashMap<u32, Vec<u64>>,
    vectors: HashMap<u64, Vec<f32>>,
    made_by: Fingerprint,
}

impl Planes {
    fn new(dim: usize, made_by: Fingerprint, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let normals = Array2::from_shape_simple_fn((BITS, dim), || rng.random_range(-1f32..1.0));
        Self { normals, buckets: HashMap::new(), vectors: HashMap::new(), made_by }
    }

    /// A bit for each plane: on which side of it is the vector?
    fn hash(&self, vector: ArrayView1<f32>) -> u32 {
        let sides = self.normals.dot(&vector);
        sides.iter().fold(0, |bits, &side| bits << 1 | u32::from(side > 0.0))
    }

    /// What is in the vector's bucket and in those at most two planes away.
    fn candidates(&self, query: ArrayView1<f32>) -> impl Iterator<Item = u64> {
        let hash = self.hash(query);
        let near = move |bucket: &u32| (bucket ^ hash).count_ones() <= 2;
        (0..1 << BITS).filter(near).filter_map(|b| self.buckets.get(&b)).flatten().copied()
    }

    /// The candidates that may be found, best first.
    fn scored(&self, query: ArrayView1<f32>, params: &SearchParams) -> Vec<Hit> {
        let allowed = |id: &u64| params.filter.is_none_or(|filter| filter.contains(*id));
        let candidates = self.candidates(query).filter(allowed);
        let mut hits: Vec<_> = candidates
            .map(|id| Hit { id, score: query.dot(&ArrayView1::from(&self.vectors[&id])) })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits
    }

    /// What every search checks first.
    fn check(&self, queries: ArrayView2<f32>) -> index::Result<()> {
        let (queries_dim, gallery) = (queries.ncols(), self.dim());
        if queries_dim != gallery {
            return Err(index::Error::Dimensions { queries: queries_dim, gallery });
        }
        let bad = queries.rows().into_iter().position(|row| !row.dot(&row).is_finite());
        bad.map_or(Ok(()), |row| Err(index::Error::NotFinite { side: Side::Queries, row }))
    }
}

impl VectorIndex for Planes {
    fn name(&self) -> String {
        format!("planes{BITS}")
    }

    fn dim(&self) -> usize {
        self.normals.ncols()
    }

    fn len(&self) -> usize {
        self.vectors.len()
    }

    fn metric(&self) -> Metric {
        Metric::InnerProduct
    }

    fn made_by(&self) -> &Fingerprint {
        &self.made_by
    }

    fn bytes(&self) -> usize {
        self.len() * self.dim() * size_of::<f32>()
    }

    fn search(
        &self,
        queries: ArrayView2<f32>,
        k: usize,
        params: &SearchParams,
    ) -> index::Result<Hits> {
        self.check(queries)?;
        let best = |query| self.scored(query, params).into_iter().take(k).collect();
        Ok(Hits::new(queries.rows().into_iter().map(best).collect()))
    }

    fn within(
        &self,
        queries: ArrayView2<f32>,
        bound: f32,
        params: &SearchParams,
    ) -> index::Result<Hits> {
        self.check(queries)?;
        let inside = |hit: &Hit| hit.score >= bound;
        let within = |query| self.scored(query, params).into_iter().take_while(inside).collect();
        Ok(Hits::new(queries.rows().into_iter().map(within).collect()))
    }

    fn add(&mut self, ids: &[u64], vectors: ArrayView2<f32>) -> index::Result<()> {
        self.check(vectors)?;
        for (&id, vector) in ids.iter().zip(vectors.rows()) {
            if self.vectors.insert(id, vector.to_vec()).is_some() {
                return Err(index::Error::DuplicateId { id });
            }
            self.buckets.entry(self.hash(vector)).or_default().push(id);
        }
        Ok(())
    }

    fn remove(&mut self, ids: &[u64]) -> index::Result<usize> {
        let before = self.len();
        for id in ids {
            if let Some(vector) = self.vectors.remove(id) {
                let bucket = self.hash(ArrayView1::from(&vector));
                self.buckets.entry(bucket).or_default().retain(|other| other != id);
            }
        }
        Ok(before - self.len())
    }

    /// The vectors alone: hashing them again is quick.
    fn save(&self, dir: &Path) -> index::Result<()> {
        let (ids, rows): (Vec<_>, Vec<_>) =
            self.vectors.iter().map(|(id, v)| (*id, &v[..])).unzip();
        let rows = Embeddings::new(rows.concat(), self.dim(), self.made_by.clone());
        IndexSpec::Exact.build(rows, Some(ids), self.metric())?.save(dir)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // Pictures around 200 centres; a query is close to a picture, as a good caption's embedding is.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut noise =
        |rows| Array2::from_shape_simple_fn((rows, DIM), || rng.random_range(-1f32..1.));
    let (centres, mut pictures) = (noise(200), noise(20_000));
    for (i, mut row) in pictures.rows_mut().into_iter().enumerate() {
        row += &(&centres.row(i % 200) * 2.0);
    }
    let queries =
        &pictures.select(ndarray::Axis(0), &(0..200).collect::<Vec<_>>()) + &(noise(200) * 0.5);
    let model = Fingerprint::of(["an example"]);

    let ids: Vec<_> = (0..pictures.nrows() as u64).collect();
    let mut planes = Planes::new(DIM, model.clone(), 1);
    planes.add(&ids, pictures.view())?;
    let values = pictures.into_raw_vec_and_offset().0;
    let exact = ExactIndex::new(Embeddings::new(values, DIM, model), Metric::InnerProduct)?;

    // The exact index says what is right; any other is judged by it.
    let indexes: [&dyn VectorIndex; 2] = [&exact, &planes];
    let truth = exact.search(queries.view(), 10, &SearchParams::default())?;
    for index in indexes {
        let start = Instant::now();
        let hits = index.search(queries.view(), 10, &SearchParams::default())?;
        let time = start.elapsed() / queries.nrows() as u32;
        println!("{:9} recall@10 {:.3}, {time:.0?} a query", index.name(), recall(&hits, &truth));
    }
    let looked_at: usize = queries.rows().into_iter().map(|q| planes.candidates(q).count()).sum();
    println!("{} of {} vectors looked at", looked_at / queries.nrows(), planes.len());

    // A parameter that it doesn't have is not for it to guess at.
    let effort: Effort = "nprobe=4".parse()?;
    let error = exact.search(queries.view(), 10, &SearchParams { filter: None, effort });
    println!("{}", error.expect_err("an exact index has no lists"));
    Ok(())
}

/// The share of the true neighbours that was found.
fn recall(hits: &Hits, truth: &Hits) -> f64 {
    let found = hits.iter().zip(truth.iter()).map(|(hits, truth)| {
        truth.iter().filter(|t| hits.iter().any(|hit| hit.id == t.id)).count()
    });
    found.sum::<usize>() as f64 / truth.iter().flatten().count() as f64
}
