//! A shelf: what is on it after pictures came, changed and went.

use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use image::{Rgb, RgbImage};
use xr::{
    Device, Encoders, Listing, Options, Recipe, Retriever, Run, Shelf, Update,
    data::dataset::synthetic::{SyntheticConfig, generate},
    index::{Catalogue, Config, Query},
    models::embed::Run as Batching,
    source_of,
};

/// Held while a model is trained: all tests draw from the device's one generator.
static DRAWING: Mutex<()> = Mutex::new(());

/// A model that has seen little, and the options it was trained with.
fn model(dir: &Path, seed: u64) -> (Retriever, Options) {
    let options = Options { cache: dir.join("cache"), strict: false };
    let mut recipe = Recipe::dual_encoder("synthetic:40", Encoders::small());
    (recipe.train.epochs, recipe.train.batch_size, recipe.train.seed) = (1, 16, seed);
    let device = Device::flex();
    let _alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    let run =
        Run::train(&recipe, &dir.join("run"), &options, std::slice::from_ref(&device), &mut ())
            .unwrap()
            .run;
    (run.retriever(&device).unwrap(), options)
}

/// What an update says: pictures, embedded now, left out.
fn counts(update: &Update) -> [usize; 3] {
    [update.pictures, update.embedded, update.skipped.len()]
}

#[test]
fn what_comes_changes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (model, options) = model(dir.path(), 0);
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    let scenes = generate(&SyntheticConfig { pictures: 6, ..SyntheticConfig::default() });
    for (i, picture) in scenes.pictures.iter().enumerate() {
        picture.load().unwrap().save(pictures.join(format!("{i}.png"))).unwrap();
    }
    fs::write(pictures.join("text.jpg"), "no picture").unwrap();
    let (data, place) = (pictures.to_str().unwrap(), dir.path().join("shelf"));
    let update = || {
        let listing = Listing::of(data, &options).unwrap();
        Shelf::update(&place, listing, &model, &options).unwrap()
    };
    let found = |shelf: &Shelf| {
        let matches = shelf.search("a red circle", 10, &model).unwrap();
        matches.iter().map(|m| (source_of(&m.picture), m.score)).collect::<Vec<_>>()
    };

    let (shelf, first) = update();
    assert_eq!(counts(&first), [6, 6, 1]);
    let all = found(&shelf);
    assert_eq!(all.len(), 6);
    assert_eq!(counts(&update().1), [6, 0, 1], "nothing changed");
    assert_eq!(found(&update().0), all);
    assert_eq!(found(&Shelf::open(&place, &options).unwrap()), all);

    RgbImage::from_pixel(40, 40, Rgb([200, 0, 0])).save(pictures.join("0.png")).unwrap();
    fs::remove_file(pictures.join("1.png")).unwrap();
    RgbImage::from_pixel(30, 30, Rgb([0, 0, 200])).save(pictures.join("new.png")).unwrap();
    let (shelf, changed) = update();
    assert_eq!(counts(&changed), [6, 2, 1]);
    let now = found(&shelf);
    let unchanged = |(source, _): &&(String, f32)| {
        ["0.png", "1.png", "new.png"].iter().all(|name| !source.ends_with(name))
    };
    let mut rest: Vec<_> = now.iter().filter(unchanged).collect();
    let mut before: Vec<_> = all.iter().filter(unchanged).collect();
    rest.sort_by(|a, b| a.0.cmp(&b.0));
    before.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(rest, before);
    assert!(now.iter().all(|(source, _)| !source.ends_with("1.png")));
    let files = fs::read_dir(&place).unwrap().count();
    assert_eq!(files, 2, "the list and one file of rows");

    // A shelf whose files are damaged is filled anew.
    for file in fs::read_dir(&place).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            fs::write(path, "damaged").unwrap();
        }
    }
    assert_eq!(counts(&update().1), [6, 6, 1]);
    assert_eq!(found(&update().0).len(), 6);
}

#[test]
fn a_catalogue_ranks_as_a_shelf_does() {
    let dir = tempfile::tempdir().unwrap();
    let (model, options) = model(dir.path(), 0);
    let listing = Listing::of("synthetic:30", &options).unwrap();
    let (shelf, _) = Shelf::update(&dir.path().join("shelf"), listing, &model, &options).unwrap();
    let embedder = model.embedder();
    let config = Config::new(embedder.fingerprint().clone(), embedder.dim());
    let catalogue = Catalogue::create(&dir.path().join("catalogue"), config).unwrap();
    model.catalogue_pictures(&catalogue, "synthetic:30", &options).unwrap();
    let (mut corrected, mut plain) = (vec![], vec![]);
    for text in ["a red circle", "a small blue square above a green triangle"] {
        let found = model.search_catalogue(&catalogue, text, 7, &[]).unwrap();
        let matches = shelf.search(text, 7, &model).unwrap();
        assert_eq!((found.len(), matches.len()), (7, 7));
        for ((item, score), matched) in found.iter().zip(&matches) {
            assert_eq!(item.source, source_of(&matched.picture));
            assert!((score - matched.score).abs() < 1e-5, "{score}, {matched:?}");
        }
        corrected.extend(found.iter().map(|(item, _)| item.id));
        let text = embedder.texts(&[text], Batching::new(1)).unwrap();
        let query = Query { k: 7, ..Query::default() };
        plain.extend(catalogue.search(&text, &query).unwrap()[0].iter().map(|found| found.item));
    }
    assert_ne!(corrected, plain, "the correction changes nothing");
    let none = "data=other".parse().unwrap();
    assert_eq!(model.search_catalogue(&catalogue, "a red circle", 7, &[none]).unwrap(), []);
}

#[test]
fn a_shelf_of_another_model() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (maker, options) = model(dirs[0].path(), 0);
    let (other, _) = model(dirs[1].path(), 1);
    let place = dirs[0].path().join("shelf");
    let listing = Listing::of("synthetic:4", &options).unwrap();
    let (shelf, _) = Shelf::update(&place, listing, &maker, &options).unwrap();
    let error = shelf.search("a red circle", 1, &other).unwrap_err().to_string();
    let path = place.join("pictures-1.safetensors");
    assert!(error.starts_with(&format!("{}: made by model ", path.display())), "{error}");
    assert!(error.ends_with("; embed it again with this model"), "{error}");
}

#[test]
fn an_empty_place() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { cache: dir.path().join("cache"), strict: false };
    let error = Shelf::open(dir.path(), &options).unwrap_err().to_string();
    let place = dir.path().display();
    assert_eq!(
        error,
        format!(
            "{place}: no pictures are embedded here yet; run `xr embed --data DATA --in {place}`"
        )
    );
}
