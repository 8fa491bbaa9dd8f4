//! A student follows its teacher.

use std::path::Path;

use xr::{
    Device, Encoders, Error, Options, Recipe, Run, TrainedRun,
    train::{Distillation, Record, read_log},
};

fn recipe(seed: u64) -> Recipe {
    let mut recipe = Recipe::dual_encoder("synthetic:80", Encoders::small());
    (recipe.train.epochs, recipe.train.batch_size, recipe.train.seed) = (4, 32, seed);
    recipe
}

fn trained(recipe: &Recipe, run: &Path, cache: &Path) -> Result<TrainedRun, Error> {
    let options = Options { cache: cache.join("cache"), strict: false };
    Run::train(recipe, run, &options, &[Device::flex()], &mut ())
}

#[test]
fn a_student_learns_its_teachers_answers() {
    let dir = tempfile::tempdir().unwrap();
    let [teacher, student] = ["teacher", "student"].map(|name| dir.path().join(name));
    let mut of_teacher = recipe(0);
    of_teacher.train.epochs = 9;
    trained(&of_teacher, &teacher, dir.path()).unwrap();

    let mut recipe = recipe(1);
    recipe.teacher = Some(teacher.clone());
    let error = trained(&recipe, &student, dir.path()).unwrap_err().to_string();
    let path = teacher.display();
    let sentence = format!(
        "{path}: no loss follows this teacher; say in `train.objective.distillation` how, for \
         example {{\"weight\": 1}}"
    );
    assert_eq!(error, sentence);

    recipe.train.objective.distillation = Some(Distillation { weight: 5.0, temperature: 0.1 });
    trained(&recipe, &student, dir.path()).unwrap();
    let log = read_log(&student.join("training/log.jsonl")).unwrap();
    let distances: Vec<f64> = log
        .iter()
        .filter_map(|record| match record {
            Record::Epoch(epoch) => Some(epoch.parts["distillation"]),
            Record::Step(_) => None,
        })
        .collect();
    assert!(distances[3] < 0.85 * distances[0], "{distances:?}");

    // One that was trained on other pictures would give away what the student is tested on.
    recipe.data = "synthetic:90".into();
    let error = trained(&recipe, &dir.path().join("other"), dir.path()).unwrap_err().to_string();
    assert!(error.contains("train"), "{error}");

    recipe.teacher = None;
    assert_eq!(
        trained(&recipe, &dir.path().join("alone"), dir.path()).unwrap_err().to_string(),
        "`train.objective.distillation` follows a teacher, and the recipe names none; name one in \
         `teacher`, or take the distillation out"
    );
}
