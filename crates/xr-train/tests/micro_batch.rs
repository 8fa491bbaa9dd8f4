//! Large batches a piece at a time: both passes see the same, and training loses nothing.

mod common;

use std::{num::NonZeroUsize, sync::Mutex};

use burn::module::Module;
use common::{Data, alone, bits, config, model};
use xr_models::{FeatureModel, HeadOutput};
use xr_train::{FeatureBatch, FeatureBatches, TrainConfig, Trainable, Validation, train};

/// Image embeddings of every forward pass, as bits.
static SEEN: Mutex<Vec<Vec<u32>>> = Mutex::new(vec![]);

/// A model that tells what it makes.
#[derive(Module, Debug)]
struct Telling {
    features: FeatureModel,
}

impl Trainable for Telling {
    type Batch = FeatureBatch;

    fn forward(&self, batch: &FeatureBatch) -> HeadOutput {
        let output = Trainable::forward(&self.features, batch);
        let image: Vec<f32> = output.image.clone().inner().try_into_vec_as().unwrap();
        SEEN.lock().unwrap().push(image.into_iter().map(f32::to_bits).collect());
        output
    }
}

fn trained(micro_batch: usize) -> Vec<u32> {
    let data = Data::new(0);
    let config = TrainConfig {
        micro_batch: NonZeroUsize::new(micro_batch),
        batch_size: 96,
        epochs: 1,
        select: None,
        ..config()
    };
    let batches = FeatureBatches::new(vec![&data.image], &data.text, &data.picture_of, &config);
    let run = tempfile::tempdir().unwrap();
    let validate = |_: &Telling| Ok(Validation { loss: 1.0, ..Validation::default() });
    let model = Telling { features: model() };
    bits(&train(model, &batches, &config, &[], validate, run.path(), &mut ()).unwrap().model)
}

#[test]
fn both_passes_draw_the_same_dropout() {
    let _turn = alone();
    SEEN.lock().unwrap().clear();
    let weights = trained(40);
    let seen = std::mem::take(&mut *SEEN.lock().unwrap());
    // 96 rows in 40, 40 and 16, each twice.
    assert_eq!(
        seen.iter().map(|outputs| outputs.len() / 8).collect::<Vec<_>>(),
        [40, 40, 16, 40, 40, 16]
    );
    assert!(seen[..3] == seen[3..], "another dropout");
    assert!(trained(40) == weights, "another run, other weights");
    assert!(trained(96) != weights, "the same dropout for other pieces");
}
