use std::{
    collections::HashSet,
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

use super::{
    Download, Downloaded,
    client::{Client, Failure, Fetched},
    store::{Outcome, Store},
};
use crate::{
    Error, Result,
    dataset::csv_file::{Row, is_address, rows},
};

/// So many addresses in a row that fail for the moment, and it is the connection.
const UNREACHABLE: usize = 100;

pub(super) fn run(
    download: &Download,
    table: &Path,
    out: &Path,
    observer: impl FnMut(usize, usize),
) -> Result<Downloaded> {
    let (rows, skipped) = rows(table, &download.columns, download.limit.unwrap_or(usize::MAX))?;
    let mut store = Store::open(out)?;
    let addresses = distinct(&rows);
    let fetched = fetch_missing(download, &mut store, &addresses, observer)?;
    let captions = captions(&store, &rows);
    let pictures: HashSet<_> = captions.iter().map(|[picture, _]| picture).collect();
    let dead = dead(&store, &addresses);
    store.table("dead.csv", ["url", "reason"], dead.iter().copied())?;
    store.table("captions.csv", ["image", "caption"], captions.iter().copied())?;
    Ok(Downloaded {
        folder: out.into(),
        pictures: pictures.len(),
        captions: captions.len(),
        fetched,
        dead: dead.len(),
        skipped,
    })
}

/// Each address once, in the order of the rows.
fn distinct(rows: &[Row]) -> Vec<&str> {
    let mut seen = HashSet::new();
    rows.iter().map(|row| row.picture.as_str()).filter(|address| seen.insert(*address)).collect()
}

/// Asks for all addresses that nothing has come of yet, and returns how many pictures came.
fn fetch_missing(
    download: &Download,
    store: &mut Store,
    addresses: &[&str],
    mut observer: impl FnMut(usize, usize),
) -> Result<usize> {
    let missing: Vec<&str> =
        addresses.iter().copied().filter(|address| store.came_of(address).is_none()).collect();
    let there = addresses.len() - missing.len();
    let (mut fetched, mut done, mut failed) = (0, there, 0);
    let client = Client::new(download);
    in_parallel(
        &missing,
        download.parallel,
        |address| get(&client, address),
        |address, got| {
            fetched += usize::from(got.is_ok());
            done += 1;
            failed = match &got {
                Err(failure) if !failure.for_good => failed + 1,
                _ => 0,
            };
            let last = got.as_ref().err().map(|failure| format!("{address}: {}", failure.why));
            store.put(address, got)?;
            observer(done, addresses.len());
            match last {
                Some(why) if failed >= UNREACHABLE => Err(Error::Unreachable { failed, why }),
                _ => Ok(()),
            }
        },
    )?;
    Ok(fetched)
}

fn get(client: &Client, address: &str) -> Result<Fetched, Failure> {
    match is_address(address) {
        true => client.get(address),
        false => Err(Failure::for_good("no address of a picture (http:// or https://)".into())),
    }
}

/// Gives each of `items` to `make` on one of `threads` threads, and what it made to `take` on this one,
/// as it comes. When `take` fails, the threads end after what they are at.
fn in_parallel<'a, T: Send>(
    items: &[&'a str],
    threads: usize,
    make: impl Fn(&str) -> T + Sync,
    mut take: impl FnMut(&'a str, T) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || items.get(next.fetch_add(1, Ordering::Relaxed)).map(|item| (*item, make(item)));
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(threads);
        for _ in 0..threads.max(1) {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || while work().is_some_and(|made| sender.send(made).is_ok()) {});
        }
        drop(sender);
        // Owned here, the receiver is gone before the scope waits for the threads.
        receiver.into_iter().try_for_each(|(item, made)| take(item, made))
    })
}

/// Picture and text of each row whose picture is there, each pair once.
fn captions<'a>(store: &'a Store, rows: &'a [Row]) -> Vec<[&'a str; 2]> {
    let mut seen = HashSet::new();
    let caption = |row: &'a Row| match store.came_of(&row.picture) {
        Some(Outcome::Picture(name)) => Some([name.as_str(), row.text.as_str()]),
        _ => None,
    };
    rows.iter().filter_map(caption).filter(|pair| seen.insert(*pair)).collect()
}

/// Each address that gave no picture, and why.
fn dead<'a>(store: &'a Store, addresses: &[&'a str]) -> Vec<[&'a str; 2]> {
    let reason = |address: &&'a str| match store.came_of(address) {
        Some(Outcome::Dead(why) | Outcome::Failed(why)) => Some([*address, why.as_str()]),
        _ => None,
    };
    addresses.iter().filter_map(reason).collect()
}
