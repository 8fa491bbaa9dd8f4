//! The program with features that take other programs or long to compile: `.ci/run` builds it with them.
#![cfg(any(feature = "clip-retrieval", feature = "milvus"))]

#[cfg(feature = "clip-retrieval")]
mod clip_retrieval;
#[cfg(feature = "milvus")]
mod push;

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let device = if cfg!(feature = "flex") { "flex" } else { "libtorch" };
    let output = Command::new(env!("CARGO_BIN_EXE_xr"))
        .current_dir(dir)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .args(arguments)
        .args(["--device", device])
        .output()
        .expect("the program was built for this test");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "xr {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with a catalogue, `shelf`, of eleven photographs.
fn shelf() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("photos")).unwrap();
    for (name, content) in xr_mini::PHOTOS {
        fs::write(dir.path().join("photos").join(name), content).unwrap();
    }
    succeeds(dir.path(), &["index", "build", "shelf", "--data", "photos"]);
    dir
}

/// The three best pictures for a cup of coffee, in a folder or on a server.
fn coffee(dir: &Path, place: &str, more: &[&str]) -> Vec<String> {
    let search = ["search", "a cup of coffee", "-k", "3", "--catalogue", place];
    let found = succeeds(dir, &[&search[..], more].concat());
    // Without their scores: a server may sum in another order.
    found.lines().map(|line| line.split_once("  ").unwrap().1.into()).collect()
}
