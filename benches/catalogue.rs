//! What a catalogue's promises cost.
//!
//!     cargo bench --bench catalogue
//!     XR_CATALOGUE_ITEMS=1000000 cargo bench --bench catalogue
//!
//! `catalogue/put/64` puts 64 items of one embedding of 512 dimensions each, one of a text and a blob
//! of 2 kB, and waits until they are on the disk. Then pictures without texts and blobs are put until
//! there are 50,000, or what the second command says; `catalogue/open/N` opens the saved catalogue of
//! N items, `catalogue/open-unsaved/N` one that has 6,400 changes to make up for. Embeddings are
//! drawn by ChaCha8 from seed 0. The folder lies where TMPDIR says: the disk counts. A million items
//! take 8 GB of it, 7 GB of memory and a quarter of an hour.

use std::{env, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::Fingerprint;
use xr_index::{Catalogue, Config, Item, NewItem};

const DIM: usize = 512;
const BATCH: u64 = 64;
/// Items put together where nobody waits for each batch.
const MANY: u64 = 1_000;
const BLOB: usize = 2_000;

/// Items that nobody has seen yet.
struct Source {
    rng: ChaCha8Rng,
    next: u64,
}

impl Source {
    fn take(&mut self, count: u64, mut item: impl FnMut(&mut Self) -> NewItem) -> Vec<NewItem> {
        (0..count).map(|_| item(self)).collect()
    }

    fn whole(&mut self) -> NewItem {
        NewItem { blob: vec![0; BLOB], texts: vec![self.vector()], ..self.picture() }
    }

    fn picture(&mut self) -> NewItem {
        let id = self.next;
        self.next += 1;
        let item = Item { id, source: format!("{id}.jpg"), ..Item::default() };
        NewItem { item, pictures: vec![self.vector()], ..NewItem::default() }
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIM).map(|_| self.rng.random_range(-1.0..1.0)).collect()
    }
}

fn catalogue(criterion: &mut Criterion) {
    let wanted = env::var("XR_CATALOGUE_ITEMS");
    let wanted: u64 = wanted.map_or(50_000, |items| items.parse().expect("a number of items"));
    let dir = tempfile::tempdir().expect("a folder for the catalogue");
    let config = Config::new(Fingerprint::of(["bench"]), DIM);
    let catalogue = Catalogue::create(dir.path(), config).expect("an empty folder");
    let mut source = Source { rng: ChaCha8Rng::seed_from_u64(0), next: 0 };
    let put = |items: &[NewItem]| catalogue.put(items).expect("finite embeddings");
    let mut group = criterion.benchmark_group("catalogue");
    group.sample_size(10).throughput(Throughput::Elements(BATCH));
    group.bench_function("put/64", |bencher| {
        bencher.iter(|| put(&source.take(BATCH, Source::whole)));
    });
    while source.next < wanted {
        put(&source.take(MANY.min(wanted - source.next), Source::picture));
    }
    catalogue.save().expect("a disk with room");
    drop(catalogue);
    group.throughput(Throughput::Elements(source.next));
    group.bench_function(format!("open/{}", source.next), |bencher| bencher.iter(|| open(&dir)));
    let catalogue = open(&dir);
    for _ in 0..100 {
        catalogue.put(&source.take(BATCH, Source::picture)).expect("finite embeddings");
    }
    drop(catalogue);
    group.throughput(Throughput::Elements(source.next));
    group.bench_function(format!("open-unsaved/{}", source.next), |bencher| {
        bencher.iter(|| open(&dir));
    });
}

fn open(dir: impl AsRef<Path>) -> Catalogue {
    Catalogue::open(dir.as_ref()).expect("a whole catalogue")
}

criterion_group!(benches, catalogue);
criterion_main!(benches);
