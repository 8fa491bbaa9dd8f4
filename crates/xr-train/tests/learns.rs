//! Every alignment loss finds what pictures and captions have in common.

mod common;

use common::{Data, PICTURES, alone, config, model};
use xr_train::{
    AlignmentConfig, FeatureBatches, Negatives, ObjectiveConfig, OptimizerConfig, TrainConfig,
    Triplet, train,
};

/// Share of captions, not trained on, whose picture comes first among 48: at chance 1/48.
fn recall_after_training(loss: AlignmentConfig) -> f64 {
    let _turn = alone();
    let (data, held_out) = (Data::new(0), Data::new(1));
    let config = TrainConfig {
        objective: ObjectiveConfig::new(loss),
        optimizer: OptimizerConfig { lr: 2e-2, ..OptimizerConfig::default() },
        epochs: 25,
        ..config()
    };
    let batches = FeatureBatches::new(vec![&data.image], &data.text, &data.picture_of, &config);
    let run = tempfile::tempdir().unwrap();
    let validate = |model: &_| held_out.validate(model, &config.objective);
    let trained = train(model(), &batches, &config, &[], validate, run.path(), &mut ()).unwrap();
    trained.best_metric.unwrap().value
}

macro_rules! learns {
    ($($name:ident: $loss:expr, $recall:expr;)*) => {$(
        #[test]
        fn $name() {
            let recall = recall_after_training($loss);
            println!("{}: {recall}", stringify!($name));
            assert!(recall > $recall, "{recall} of {PICTURES} pictures");
        }
    )*};
}

learns! {
    info_nce: AlignmentConfig::InfoNce, 0.5;
    sigmoid: AlignmentConfig::Sigmoid, 0.5;
    hardest_triplet: AlignmentConfig::Triplet(Triplet::default()), 0.5;
    triplet_of_all: AlignmentConfig::Triplet(Triplet { margin: 0.2, negatives: Negatives::Mean }), 0.5;
    mse: AlignmentConfig::Mse, 0.5;
}
