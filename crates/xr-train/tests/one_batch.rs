//! Training on one batch tells whether a model can learn at all.

mod common;

use common::{Data, alone, config, model};
use xr_models::FeatureModel;
use xr_train::{
    AlignmentConfig, Failure, FeatureBatches, ObjectiveConfig, OneBatch, OptimizerConfig, Rate,
    TrainConfig, overfit,
};

fn report(optimizer: OptimizerConfig, steps: usize) -> OneBatch {
    let _turn = alone();
    let data = Data::new(0);
    // One caption of each picture, so that a perfect loss is zero.
    let sampling = xr_data::Sampling::PerPicture { captions: 1 };
    let objective = ObjectiveConfig {
        reconstruction_weight: 0.0,
        distillation: None,
        ..ObjectiveConfig::new(AlignmentConfig::InfoNce)
    };
    let config = TrainConfig { optimizer, sampling, objective, ..config() };
    let batches = FeatureBatches::new(vec![&data.image], &data.text, &data.picture_of, &config);
    let (_, report): (FeatureModel, _) =
        overfit(model(), &batches, &config, steps, &mut ()).unwrap();
    report
}

fn at(lr: f64) -> OptimizerConfig {
    OptimizerConfig { lr, ..OptimizerConfig::default() }
}

#[test]
fn a_model_that_can_learn() {
    let report = report(at(0.01), 200);
    assert_eq!(report.failure(), None, "{report}");
    assert_eq!((report.rows, report.found), (24, 24));
    assert!(report.steps < 200, "it stops where nothing is left to learn");
    assert_eq!(report.parts["info_nce"], report.loss);
}

#[test]
fn a_learning_rate_that_is_too_low() {
    let failure = report(at(1e-7), 20).failure();
    assert!(matches!(failure, Some(Failure::Stuck { .. })), "{failure:?}");
    let failure = report(at(1e-3), 20).failure();
    assert!(matches!(failure, Some(Failure::Slow { .. })), "{failure:?}");
}

#[test]
fn a_learning_rate_that_is_too_high() {
    let failure = report(at(1e30), 20).failure();
    assert!(matches!(failure, Some(Failure::NotFinite { .. })), "{failure:?}");
}

#[test]
fn parts_that_are_not_trained() {
    let rates = vec![Rate::new(".", 0.0)];
    let report = report(OptimizerConfig { rates, weight_decay: 0.0, ..at(0.01) }, 20);
    assert!(matches!(report.failure(), Some(Failure::Stuck { .. })), "{report}");
    assert_eq!(report.loss[0], report.loss[1]);
}
