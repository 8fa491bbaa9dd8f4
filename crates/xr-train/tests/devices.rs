//! Batches that several devices share out. Here they are one device several times; what moves between
//! them is the same.

mod common;

use burn::tensor::Device;
use common::{Data, alone, bits, config, model};
use xr_models::FeatureModel;
use xr_train::{FeatureBatches, OptimizerConfig, TrainConfig, train};

/// The weights, and the share of captions that find their picture.
fn trained(others: usize) -> (Vec<u32>, f64) {
    let data = Data::new(0);
    let optimizer = OptimizerConfig { lr: 2e-2, ..OptimizerConfig::default() };
    let config = TrainConfig { optimizer, epochs: 25, ..config() };
    let batches = FeatureBatches::new(vec![&data.image], &data.text, &data.picture_of, &config);
    let validate = |model: &FeatureModel| data.validate(model, &config.objective);
    let (run, others) = (tempfile::tempdir().unwrap(), vec![Device::flex(); others]);
    let trained =
        train(model(), &batches, &config, &others, validate, run.path(), &mut ()).unwrap();
    (bits(&trained.model), trained.best_metric.unwrap().value)
}

#[test]
fn a_training_on_three_devices_learns_and_repeats() {
    let _turn = alone();
    let (weights, recall) = trained(2);
    assert!(recall > 0.8, "{recall}");
    assert!(trained(2).0 == weights, "another run, other weights");
    assert!(trained(0).0 != weights, "the same dropout for other pieces");
}
