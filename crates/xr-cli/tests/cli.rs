//! The program from outside: one small run through every subcommand, and what bad input is told.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn xr(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xr"))
        .current_dir(dir)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .args(arguments)
        .output()
        .expect("the program was built for this test")
}

fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = xr(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "xr {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(dir: &Path, arguments: &[&str]) -> String {
    let output = xr(dir, arguments);
    assert_eq!(output.status.code(), Some(1), "xr {arguments:?}");
    String::from_utf8(output.stderr).unwrap().trim_end().into()
}

/// A run of two epochs over few small pictures.
const TRAIN: [&str; 11] = [
    "train",
    "--data",
    "synthetic:60",
    "--out",
    "run",
    "--set",
    "train.epochs=2",
    "--set",
    "train.batch_size=16",
    "--set",
    "encoders.end_to_end.image.scratch.channels=[4,8]",
];

#[test]
fn pictures_that_look_the_same_in_two_splits() {
    let dir = tempfile::tempdir().unwrap();
    let made = succeeds(dir.path(), &["data", "check", "synthetic:40"]);
    assert!(made.starts_with("synthetic: 40 pictures, 200 captions\n  dev: 4 pictures"), "{made}");
    assert!(made.ends_with("pairs that look the same: 0, between splits: 0\n"), "{made}");

    let folder = dir.path().join("photos");
    fs::create_dir(&folder).unwrap();
    let picture = |seed: u32| {
        image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * (y + seed) % 251) as u8; 3]))
    };
    for (name, seed) in [("a", 1), ("b", 60), ("c", 1), ("d", 150)] {
        picture(seed).save(folder.join(name).with_extension("png")).unwrap();
    }
    fs::write(folder.join("e.png"), "no picture").unwrap();
    let check = ["data", "check", "photos", "--split", "random-50-25-25", "--seed"];
    let (mut between, mut within) = (0, 0);
    for seed in 0..8 {
        let seed = seed.to_string();
        let output = xr(dir.path(), &[&check[..], &[&seed]].concat());
        let [out, err] = [output.stdout, output.stderr].map(|s| String::from_utf8(s).unwrap());
        assert!(
            out.contains("pairs that look the same: 1, ") && out.contains("  a.png ("),
            "{out}"
        );
        assert!(err.contains("left out: e.png: "), "{err}");
        match output.status.code() {
            Some(0) => within += 1,
            _ => {
                assert!(err.ends_with(
                    "xr: pictures that look the same are in two splits (1 pairs): take one of each out, \
                     or scores will be too good\n"
                ));
                between += 1;
            }
        }
    }
    assert!(within > 0 && between > 0, "{within}, {between}");
}

/// A catalogue finds the same after changes.
fn catalogue(dir: &Path) {
    let build = ["index", "build", "shelf", "--in", "run", "--data", "synthetic:60"];
    assert_eq!(succeeds(dir, &build), "60 pictures added\n");
    let search = ["search", "a red circle", "--in", "run", "-k", "3", "--catalogue", "shelf"];
    let found = succeeds(dir, &search);
    assert_eq!(found.lines().count(), 3);
    let where_ = |value| [&search[..], &["--where", value]].concat();
    assert_eq!(succeeds(dir, &where_("data=synthetic")), found);
    assert_eq!(succeeds(dir, &where_("data=other")), "");
    let first = found.lines().next().unwrap().split_once("  ").unwrap().1;
    assert_eq!(succeeds(dir, &["index", "remove", "shelf", first, "none"]), "1 of 2 removed\n");
    assert!(!succeeds(dir, &search).contains(first));
    succeeds(dir, &["index", "add", "shelf", "--in", "run", "--data", "synthetic:60"]);
    assert_eq!(succeeds(dir, &search), found);

    let tune = ["index", "tune", "shelf", "--queries", "5", "--out", "tuned", "--apply"];
    let table = succeeds(dir, &[&tune[..], &["--index", "exact-i8"]].concat());
    assert!(table.contains("recall@10, image") && table.contains("recall@10, text"), "{table}");
    assert!(dir.join("tuned/tune.png").exists());
    let info = succeeds(dir, &["index", "info", "shelf"]);
    assert!(info.contains("60 items, by model ") && info.contains("exact-i8"), "{info}");
    assert_eq!(succeeds(dir, &["index", "verify", "shelf"]), "all is whole\n");
}

#[test]
fn search_in_a_folder_with_the_built_in_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("pictures")).unwrap();
    for (name, content) in xr_mini::PHOTOS {
        fs::write(dir.join("pictures").join(name), content).unwrap();
    }
    let search =
        ["search", "an orange flower", "--in", "pictures", "-k", "2", "--gallery", "g.png"];
    let output = xr(dir, &search);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "11 pictures embedded, 11 in all\n");
    let found = String::from_utf8(output.stdout).unwrap();
    assert!(found.lines().next().unwrap().ends_with("pictures/flower.jpg"), "{found}");
    assert!(dir.join("g.png").exists());
    let output = xr(dir, &search);
    assert!(output.stderr.is_empty(), "nothing is new");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), found);

    // In another precision it is another model, which finds the same.
    let output = xr(dir, &[&search[..], &["--precision", "bf16"]].concat());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "11 pictures embedded, 11 in all\n");
    let rounded = String::from_utf8(output.stdout).unwrap();
    assert!(rounded.lines().next().unwrap().ends_with("pictures/flower.jpg"), "{rounded}");
    assert!(xr(dir, &search).stderr.is_empty(), "each keeps what it embedded");

    let error = fails(dir, &["search", "a cat", "--in", "nowhere"]);
    assert_eq!(error, "xr: nowhere: No such file or directory (os error 2)");
    fs::write(dir.join("model"), "not a model").unwrap();
    let error = fails(dir, &["eval", "--in", "model", "--data", "pictures"]);
    assert!(error.starts_with("xr: model: not a whole packed model ("), "{error}");
}

#[test]
fn train_eval_embed_search() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(succeeds(dir, &TRAIN).contains("synthetic dev: 6 pictures, 30 captions"));

    let eval = ["eval", "--in", "run", "--split", "test", "--json", "--gallery", "found.png"];
    let json = succeeds(dir, &eval);
    let scores: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(scores["manifest"]["pictures"], 6);
    let recall = &scores["text_to_image"]["R@10"];
    // Six pictures: every one is among the first ten.
    assert_eq!(recall["value"], 1.0);
    assert!(recall["low"].is_number() && recall["high"].is_number());
    assert!(scores["image_to_text"]["R@1"]["value"].is_number());
    assert_eq!(scores["corrected"]["text_to_image"]["R@10"]["value"], 1.0);
    assert!(dir.join("found.png").exists() && dir.join("run/curves.png").exists());

    let (bank, elsewhere) = (dir.join("run/bank"), dir.join("bank"));
    fs::rename(&bank, &elsewhere).unwrap();
    assert_eq!(
        fails(dir, &["eval", "--in", "run"]),
        "xr: run: this run has no query bank; train it with the same settings once more, which makes one"
    );
    fs::rename(&elsewhere, &bank).unwrap();

    // Its text encoder is recurrent, and stays as it is.
    let said = succeeds(dir, &["pack", "--in", "run", "--out", "small"]);
    assert!(said.starts_with("small: ") && said.ends_with(" bytes\n"), "{said}");
    let packed = ["eval", "--in", "small", "--data", "synthetic:60", "--split", "test", "--json"];
    let scores: Value = serde_json::from_str(&succeeds(dir, &packed)).unwrap();
    assert_eq!(scores["text_to_image"]["R@10"]["value"], 1.0);
    assert_eq!(
        fails(dir, &["eval", "--in", "small"]),
        "xr: small: a packed model doesn't name data to score it on; give --data DATA"
    );

    // The same data is accepted, another part is not.
    fs::write(dir.join("test.json"), &json).unwrap();
    succeeds(dir, &["eval", "--in", "run", "--expect", "test.json"]);
    let error = fails(dir, &["eval", "--in", "run", "--split", "dev", "--expect", "test.json"]);
    assert!(error.contains("expected synthetic test: 6 pictures"), "{error}");

    let error = fails(dir, &["search", "a red circle", "--in", "run"]);
    assert_eq!(
        error,
        "xr: run: no pictures are embedded here yet; run `xr embed --data DATA --in run`"
    );
    let said = succeeds(dir, &["embed", "--data", "synthetic:60", "--in", "run"]);
    assert_eq!(said, "60 pictures embedded, 60 in all\n");
    let said = succeeds(dir, &["embed", "--data", "synthetic:60", "--in", "run"]);
    assert_eq!(said, "0 pictures embedded, 60 in all\n");
    let found = succeeds(dir, &["search", "a red circle", "--in", "run", "-k", "3"]);
    assert_eq!(found.lines().count(), 3);
    catalogue(dir);

    // Called again with the same recipe it goes on, and is done; with another it is refused.
    succeeds(dir, &TRAIN);
    let error = fails(dir, &["train", "--data", "synthetic:60", "--out", "run"]);
    assert_eq!(
        error,
        "xr: run: holds a run with other settings; remove the folder, choose another, or use its \
         recipe.json as it is"
    );
}

#[test]
fn grid() {
    let dir = tempfile::tempdir().unwrap();
    let grid = r#"{"grid": {"train.optimizer.lr": [1e-3, 1e-2]}, "select": "R@5"}"#;
    fs::write(dir.path().join("grid.json"), grid).unwrap();
    let arguments = [&TRAIN[..], &["--grid", "grid.json"]].concat();
    let table = succeeds(dir.path(), &arguments);
    assert!(table.contains("train.optimizer.lr") && table.contains("0.01"), "{table}");
}

#[test]
fn two_devices() {
    let dir = tempfile::tempdir().unwrap();
    let said = succeeds(dir.path(), &[&TRAIN[..], &["--device", "flex,flex"]].concat());
    assert!(said.contains("synthetic dev: 6 pictures, 30 captions"), "{said}");
}

#[test]
fn bad_input_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let error = fails(dir, &["eval", "--in", "nowhere"]);
    assert_eq!(
        error,
        "xr: nowhere: no run is here (it has no recipe.json); make one with `xr train --out nowhere`"
    );
    let error = fails(dir, &["train", "--data", "nowhere", "--out", "run"]);
    assert!(error.contains("nowhere") && error.contains("no such folder"), "{error}");
    let error = fails(dir, &["demo", "--device", "abacus"]);
    assert!(error.contains("abacus") && error.contains("flex"), "{error}");
    let error = fails(dir, &["demo", "--device", "libtorch"]);
    assert!(error.contains("--features tch"), "{error}");
    let error = fails(dir, &["demo", "--device", "flex,flex"]);
    assert_eq!(error, "xr: --device flex,flex: only `xr train` works on several; name one");
    let set = ["train", "--data", "synthetic:60", "--out", "run", "--set", "train.epoch=3"];
    let error = fails(dir, &set);
    assert!(error.contains("train.epoch") && error.contains("train.epochs"), "{error}");
}

#[test]
fn weights_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("empty")).unwrap();
    let weights = ["--image-weights", "empty", "--text-weights", "empty"];
    let arguments = [&["train", "--data", "synthetic:60", "--out", "run"][..], &weights].concat();
    let error = fails(dir, &arguments);
    assert!(error.starts_with("xr: empty: "), "{error}");
}

#[test]
fn a_csv_file_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let table = "asin,title,imgUrl\nB1,Coffee &amp; more,coffee.jpg\nB2,,coffee.jpg\n";
    fs::write(dir.join("p.csv"), table).unwrap();
    let (name, content) = xr_mini::PHOTOS.iter().find(|(name, _)| *name == "coffee.jpg").unwrap();
    fs::write(dir.join(name), content).unwrap();
    let output = xr(dir, &["data", "check", "p.csv"]);
    let [out, err] = [output.stdout, output.stderr].map(|s| String::from_utf8(s).unwrap());
    assert!(out.starts_with("p: 1 pictures, 1 captions\n"), "{out}");
    assert_eq!(err, "left out: p.csv, line 3: it has no text\n");
    let error = fails(dir, &["data", "check", "p.csv?text=name"]);
    assert!(error.starts_with("xr: p.csv: there is no column `name`; it has `asin`, "), "{error}");

    #[cfg(not(feature = "download"))]
    assert_eq!(
        fails(dir, &["data", "fetch", "p.csv", "--out", "products"]),
        "xr: p.csv: its pictures can't be fetched, because this program was built without a client; \
         build it with `--features download`"
    );

    let augment = r#"[{"rotation": {"degrees": 10}}, {"horizontal_flip": {"probability": 0.5}}]"#;
    let draw = ["data", "augment", "coffee.jpg", "--out", "sheet.png", "--side", "32", "--augment"];
    succeeds(dir, &[&draw[..], &[augment]].concat());
    assert_eq!(image::image_dimensions(dir.join("sheet.png")).unwrap(), (7 * 36 - 4, 3 * 36 - 4));
    let error = fails(dir, &[&draw[..], &[r#"[{"rotation": {"degrees": 400}}]"#]].concat());
    assert_eq!(
        error,
        "xr: augment: expected degrees between 0 and 180, found {\"rotation\":{\"degrees\":400.0}}"
    );
}
