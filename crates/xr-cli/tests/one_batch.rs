//! `xr train --overfit-one-batch` from outside: what it says, how it ends, and what it leaves.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn overfit(dir: &Path, set: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xr"))
        .current_dir(dir)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .args(["train", "--data", "synthetic:60", "--overfit-one-batch"])
        .args(["--set", "encoders.end_to_end.image.scratch.channels=[8,16,32]", "--set", set])
        .output()
        .expect("the program was built for this test")
}

#[test]
fn a_recipe_that_can_learn() {
    let dir = tempfile::tempdir().unwrap();
    let output = overfit(dir.path(), "train.optimizer.lr=5e-3");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().map(str::trim).collect();
    assert!(output.status.success(), "{said}");
    assert!(lines[0].starts_with("one batch of 24 captions, "), "{said}");
    assert!(lines[0].ends_with(" steps with learning rate 5e-3"), "{said}");
    assert!(lines.contains(&"24 of 24 captions find their picture"), "{said}");
    assert!(said.contains("; guessing has 3.178"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[test]
fn a_recipe_that_can_not() {
    let dir = tempfile::tempdir().unwrap();
    let output = overfit(dir.path(), "train.optimizer.lr=1e-8");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("xr: the loss of one batch stays where it was, from "), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
}
