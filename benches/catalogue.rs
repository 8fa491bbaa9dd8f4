//! What a catalogue's promises cost.
//!
//!     cargo bench --bench catalogue
//!
//! `catalogue/put/64` puts 64 items of one embedding of 512 dimensions each, one of a text and a blob
//! of 2 kB, and waits until they are on the disk; `catalogue/open/N` opens a saved catalogue of N.
//! Embeddings are drawn by ChaCha8 from seed 0. The folder lies where TMPDIR says: the disk counts.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::Fingerprint;
use xr_index::{Catalogue, Config, Item, NewItem};

const DIM: usize = 512;
const BATCH: u64 = 64;
const ITEMS: u64 = 50_000;

fn catalogue(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the catalogue");
    let config = Config::new(Fingerprint::of(["bench"]), DIM);
    let mut catalogue = Catalogue::create(dir.path(), config).expect("an empty folder");
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut next = 0;
    let mut put = |catalogue: &Catalogue, count: u64| {
        let items: Vec<_> = (next..next + count).map(|id| item(id, &mut rng)).collect();
        next += count;
        catalogue.put(&items).expect("finite embeddings");
    };
    let mut group = criterion.benchmark_group("catalogue");
    group.sample_size(10).throughput(Throughput::Elements(BATCH));
    group.bench_function("put/64", |bencher| bencher.iter(|| put(&catalogue, BATCH)));
    let there = catalogue.summary().expect("an open catalogue").items;
    put(&catalogue, ITEMS.saturating_sub(there));
    let index = catalogue.config().index.clone();
    catalogue.rebuild(index, Default::default()).expect("a disk with room");
    let items = catalogue.summary().expect("an open catalogue").items;
    drop(catalogue);
    group.throughput(Throughput::Elements(items));
    group.bench_function(format!("open/{items}"), |bencher| {
        bencher.iter(|| Catalogue::open(dir.path()).expect("a whole catalogue"))
    });
}

fn item(id: u64, rng: &mut ChaCha8Rng) -> NewItem {
    let mut vector = || (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let (pictures, texts) = (vec![vector()], vec![vector()]);
    let item = Item { id, source: format!("{id}.jpg"), ..Item::default() };
    NewItem { item, blob: vec![0; 2_000], pictures, texts }
}

criterion_group!(benches, catalogue);
criterion_main!(benches);
