//! A process that changes a catalogue, killed again and again: nothing that it was told is done is
//! ever lost, and nothing is half done.
//!
//!     cargo test -p xr-index --test kill
//!     XR_KILLS=1000 cargo test -p xr-index --test kill
//!
//! The first kills 200 times; seed and moments are the same in every run, where in the work they
//! fall is up to the machine.
#![cfg(unix)]

use std::{
    env,
    io::{BufRead, BufReader, Write, stdout},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xr_data::{Embeddings, Fingerprint};
use xr_index::{Catalogue, Config, Effort, IndexSpec, Item, NewItem, Query};

const DIM: usize = 16;
/// Items that there can be. Each change sets the state of some of them.
const IDS: u64 = 64;
const FOLDER: &str = "XR_KILL_FOLDER";
const FIRST: &str = "XR_KILL_FIRST";

/// Change `number` puts a few items, each with `number` as its version, or removes them.
struct Change {
    ids: Vec<u64>,
    put: bool,
}

fn change(number: u64) -> Change {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let first = rng.random_range(0..IDS);
    let ids = (0..rng.random_range(1..=8)).map(|i| (first + i) % IDS).collect();
    Change { ids, put: rng.random_bool(0.6) }
}

fn vector(id: u64, version: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(id << 32 | version);
    (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn item(id: u64, version: u64) -> NewItem {
    let item = Item { id, source: version.to_string(), ..Item::default() };
    NewItem { item, pictures: vec![vector(id, version)], ..NewItem::default() }
}

/// The versions of all items after the first `changes`.
fn state(changes: u64) -> Vec<Option<u64>> {
    let mut state = vec![None; IDS as usize];
    for number in 0..changes {
        let Change { ids, put } = change(number);
        ids.iter().for_each(|&id| state[id as usize] = put.then_some(number));
    }
    state
}

fn stored(catalogue: &Catalogue) -> Vec<Option<u64>> {
    let version = |id| catalogue.item(id).unwrap().map(|item| item.source.parse().unwrap());
    (0..IDS).map(version).collect()
}

/// Is every item found by the embedding of its version, and no other?
fn indexed(catalogue: &Catalogue, state: &[Option<u64>]) {
    let there = state.iter().flatten().count();
    assert_eq!(catalogue.summary().unwrap().spaces[0].vectors, there);
    for (id, version) in (0..).zip(state).filter_map(|(id, version)| Some((id, (*version)?))) {
        let query = Embeddings::new(vector(id, version), DIM, Fingerprint::of(["model"]));
        let found = catalogue.search(&query, &Query::default()).unwrap().remove(0);
        assert_eq!(found[0].item, id);
        assert!((found[0].score - 1.).abs() < 1e-5);
    }
}

/// Not a test: what the child process does. It says the number of each change that is done.
#[test]
#[ignore = "runs as a child of the other test"]
fn child() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let first: u64 = env::var(FIRST).unwrap().parse().unwrap();
    let mut catalogue = Catalogue::open(Path::new(&folder)).unwrap();
    for number in first.. {
        let Change { ids, put } = change(number);
        if put {
            catalogue.put(&ids.iter().map(|&id| item(id, number)).collect::<Vec<_>>()).unwrap();
        } else {
            catalogue.remove(&ids).unwrap();
        }
        let mut out = stdout().lock();
        writeln!(out, "done {number}").and_then(|()| out.flush()).unwrap();
        match number % 16 {
            5 => catalogue.save().unwrap(),
            13 => catalogue.rebuild(IndexSpec::ExactI8, Effort::default()).unwrap(),
            _ => {}
        }
    }
}

/// Runs the child from change `first` on and kills it some time `after` its first change; returns how
/// many changes are done as far as was said.
fn killed(folder: &Path, first: u64, after: Duration) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--quiet"])
        .envs([(FOLDER, folder.as_os_str()), (FIRST, first.to_string().as_ref())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.by_ref().take_while(|line| !line.starts_with("done ")).for_each(drop);
    thread::sleep(after);
    // SIGKILL: nothing of the process runs any more.
    child.kill().unwrap();
    child.wait().unwrap();
    first + 1 + lines.filter(|line| line.starts_with("done ")).count() as u64
}

#[test]
fn nothing_acknowledged_is_ever_lost() {
    let kills = env::var("XR_KILLS").map_or(200, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(Fingerprint::of(["model"]), DIM);
    drop(Catalogue::create(dir.path(), config).unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut changes = 0;
    for _ in 0..kills {
        let after = Duration::from_micros(rng.random_range(0..25_000));
        let done = killed(dir.path(), changes, after);
        let catalogue = Catalogue::open(dir.path()).unwrap();
        assert!(catalogue.repaired().is_empty(), "{:?}", catalogue.repaired());
        // The change that was under way may be done, whole, or not.
        let stored = stored(&catalogue);
        changes = [done, done + 1].into_iter().find(|&n| state(n) == stored).unwrap_or_else(|| {
            panic!("after {done} changes: {stored:?}, expected {:?}", state(done))
        });
        indexed(&catalogue, &stored);
    }
    println!("{kills} kills, {changes} changes");
}
