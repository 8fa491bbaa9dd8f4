use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xr_data::{Augment, Preprocess, RandomCrop, Sampling, SplitSpec};
use xr_models::{
    HeadConfig, MlpConfig, Temperature, Views,
    encoder::{Cell, RecurrentConfig, SmallCnnConfig},
    head::{AutoencodersConfig, DualEncoderConfig},
};
use xr_train::{
    Algorithm, AlignmentConfig, Decay, Negatives, ObjectiveConfig, OptimizerConfig, Rate,
    ScheduleConfig, TrainConfig, Triplet, Weighted,
};

use crate::{Error, Result};

/// Everything that says what an experiment is: data, encoders, head, training.
///
/// It is the file `recipe.json` of a [`Run`](crate::Run). The presets are the systems that this
/// workspace reproduces; each field of one can be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What [`xr_data::dataset::open`] takes.
    pub data: String,
    /// The data's own splits, or a random partition.
    pub split: SplitSpec,
    /// Seed of the random partition.
    pub split_seed: u64,
    /// Where features come from.
    pub encoders: Encoders,
    /// Views of a picture: what training draws from, and what an embedding is made of.
    pub views: Views,
    /// Random changes to pictures that encoders are trained on from scratch, in this order.
    #[serde(default)]
    pub augment: Vec<Augment>,
    /// What brings the features into one space.
    pub head: HeadConfig,
    /// Of the contrastive losses.
    pub temperature: Temperature,
    /// A run, or a model that `xr pack` wrote, whose answers on the training data are followed as
    /// `train.objective.distillation` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Losses, optimizer, schedule.
    pub train: TrainConfig,
}

/// Where features come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoders {
    /// Published weights. What of them stays as it is is computed once and cached.
    Pretrained {
        /// Weight files or folders of image encoders; their features stand side by side.
        image: Vec<PathBuf>,
        /// Folder of the text encoder.
        text: PathBuf,
        /// What of them is trained together with the head, if anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tuning: Option<FineTuning>,
    },
    /// Encoders trained together with the head (P1, "method 2").
    Scratch {
        /// Channels of the stages of the convolutional network; its width is the last.
        channels: Vec<usize>,
        /// Pictures are resized to this many pixels on each side.
        side: u32,
        /// Recurrent cell of the text encoder.
        cell: Cell,
        /// Width of the text encoder's words, state and output.
        text_width: usize,
        /// Most words in the vocabulary, which is taken from the training captions.
        vocabulary: usize,
        /// Longest caption in words.
        context: usize,
    },
}

/// How pretrained encoders are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FineTuning {
    /// The last blocks of each image encoder that are trained, with the convolution behind them.
    pub blocks: Vec<usize>,
    /// The last layers of the text encoder that are trained.
    pub layers: usize,
    /// Train LoRA adapters of this rank in place of the layers' weights; they want a learning rate
    /// about ten times as high.
    #[serde(default)]
    pub adapters: Option<usize>,
    /// Random parts of each picture that are seen besides its [views](Recipe::views); each takes
    /// disk space.
    pub crops: u32,
    /// What they are drawn from.
    pub crop: RandomCrop,
}

impl Encoders {
    /// A network small enough for a minute on two cores: 64-pixel pictures, a GRU.
    pub fn small() -> Self {
        Self::Scratch {
            channels: vec![16, 32, 64, 128],
            side: 64,
            cell: Cell::Gru,
            text_width: 96,
            vocabulary: 2_000,
            context: 32,
        }
    }

    pub(crate) fn small_cnn(channels: &[usize]) -> SmallCnnConfig {
        SmallCnnConfig::new().with_channels(channels.to_vec())
    }

    pub(crate) fn recurrent(cell: Cell, width: usize, vocabulary: usize) -> RecurrentConfig {
        RecurrentConfig::new(vocabulary)
            .with_cell(cell)
            .with_embedding(width)
            .with_hidden(width)
            .with_width(width)
    }

    pub(crate) fn preprocess(side: u32) -> Preprocess {
        Preprocess::unit(side)
    }
}

/// The systems that a name stands for.
pub const PRESETS: [&str; 6] =
    ["dual-encoder", "fine-tuned", "lost-and-found", "corr-ae-mse", "corr-ae", "cross-ae"];

impl Recipe {
    /// The recipe called `name`, one of [`PRESETS`].
    pub fn preset(name: &str, data: &str, encoders: Encoders) -> Option<Self> {
        match name {
            "dual-encoder" => Some(Self::dual_encoder(data, encoders)),
            "fine-tuned" => Some(Self::fine_tuned(data, encoders)),
            "lost-and-found" => Some(Self::lost_and_found(data, encoders)),
            "corr-ae-mse" => Some(Self::corr_ae_mse(data, encoders)),
            "corr-ae" => Some(Self::corr_ae(data, encoders)),
            "cross-ae" => Some(Self::cross_ae(data, encoders)),
            _ => None,
        }
    }

    /// Can it be trained at all?
    ///
    /// # Errors
    /// Those of [`Augment::check`]; [`Error::AugmentedFeatures`] where pixels are seen once only;
    /// [`Error::NoTeacher`] and [`Error::IdleTeacher`].
    pub fn check(&self) -> Result<()> {
        self.augment.iter().try_for_each(Augment::check)?;
        match (&self.teacher, &self.train.objective.distillation) {
            (None, Some(_)) => return Err(Error::NoTeacher),
            (Some(path), None) => return Err(Error::IdleTeacher { path: path.clone() }),
            _ => {}
        }
        match self.encoders {
            Encoders::Pretrained { .. } if !self.augment.is_empty() => {
                Err(Error::AugmentedFeatures)
            }
            _ => Ok(()),
        }
    }

    /// Corr-AE with mean squared error between the latents (P1).
    ///
    /// Its alignment has nothing to push pairs apart, so it learns slowly: patience 8.
    pub fn corr_ae_mse(data: &str, encoders: Encoders) -> Self {
        let head = HeadConfig::CorrAe(AutoencodersConfig::new());
        let mut recipe = Self::p1(data, encoders, head);
        recipe.train.objective = ObjectiveConfig::new(AlignmentConfig::Mse);
        recipe.train.patience = Some(8);
        recipe
    }

    /// Corr-AE with InfoNCE between the latents (P1).
    pub fn corr_ae(data: &str, encoders: Encoders) -> Self {
        Self::p1(data, encoders, HeadConfig::CorrAe(AutoencodersConfig::new()))
    }

    /// Cross-modal autoencoder (P1).
    pub fn cross_ae(data: &str, encoders: Encoders) -> Self {
        let head = AutoencodersConfig::new().with_dropout(0.3);
        Self::p1(data, encoders, HeadConfig::CrossAe(head))
    }

    /// What the paper fixes: Adam 1e-3, weight decay 1e-5, batches of 128, at most 40 epochs,
    /// temperature 0.07; early stopping is ours.
    fn p1(data: &str, encoders: Encoders, head: HeadConfig) -> Self {
        Self {
            data: data.into(),
            split: SplitSpec::Official,
            split_seed: 0,
            encoders,
            views: Views::Original,
            augment: vec![],
            teacher: None,
            head,
            temperature: Temperature::Fixed(0.07),
            train: TrainConfig { patience: Some(4), ..TrainConfig::default() },
        }
    }

    /// Dual encoder with linear projections to 1,024 dimensions.
    ///
    /// Half InfoNCE with a learned temperature, half hinge on the hardest negative; two captions of
    /// each picture in a batch; the running mean of the weights is what is kept.
    pub fn dual_encoder(data: &str, encoders: Encoders) -> Self {
        let head = DualEncoderConfig::new();
        let hinge = Triplet { margin: 0.2, negatives: Negatives::Hardest };
        let alignment = [(AlignmentConfig::InfoNce, 0.5), (AlignmentConfig::Triplet(hinge), 5.0)];
        let train = TrainConfig {
            objective: ObjectiveConfig {
                alignment: alignment.map(|(loss, weight)| Weighted { loss, weight }).into(),
                reconstruction_weight: 0.0,
                distillation: None,
            },
            optimizer: OptimizerConfig {
                algorithm: Algorithm::AdamW,
                lr: 2e-3,
                weight_decay: 0.01,
                decay: Decay::Matrices,
                betas: [0.9, 0.98],
                ..OptimizerConfig::default()
            },
            schedule: ScheduleConfig::Cosine { warmup: 20 },
            epochs: 12,
            batch_size: 512,
            sampling: Sampling::PerPicture { captions: 2 },
            average: Some(0.98),
            ..TrainConfig::default()
        };
        Self {
            temperature: Temperature::Learnable(0.07),
            train,
            ..Self::p1(data, encoders, HeadConfig::DualEncoder(head))
        }
    }

    /// The [dual encoder](Self::dual_encoder) with the last third of its pretrained encoders trained:
    /// five blocks of EfficientNet-Lite, four layers of MiniLM.
    ///
    /// Rates are those of the head times 1/20 in the encoders. Encoders from scratch, which are
    /// trained anyway, stay as they are.
    pub fn fine_tuned(data: &str, encoders: Encoders) -> Self {
        let mut recipe = Self::dual_encoder(data, encoders);
        if let Encoders::Pretrained { image, tuning, .. } = &mut recipe.encoders {
            *tuning = Some(FineTuning { blocks: vec![5; image.len()], ..fine_tuning() });
            recipe.train.optimizer.rates =
                ["^image", "^text"].map(|part| Rate::new(part, 0.05)).into();
            recipe.train.schedule = ScheduleConfig::Cosine { warmup: 40 };
            recipe.train.epochs = 12;
            recipe.train.patience = None;
        }
        recipe
    }

    /// The lost-and-found system (P0): a dual encoder whose image encoder is trained nearly whole and
    /// whose text encoder stays as it is.
    ///
    /// Of the paper: 384 dimensions, InfoNCE with a learned temperature, Adam, 10 epochs, early
    /// stopping with patience 4. Its batch size and schedule aren't said: 128, and a rate that is
    /// halved when the validation loss has risen twice. Its text features aren't projected; ours are,
    /// by a linear map.
    pub fn lost_and_found(data: &str, encoders: Encoders) -> Self {
        let linear = || MlpConfig::new(vec![]);
        let head =
            DualEncoderConfig::new().with_latent(384).with_image(linear()).with_text(linear());
        let mut recipe = Self::p1(data, encoders, HeadConfig::DualEncoder(head));
        recipe.temperature = Temperature::Learnable(0.07);
        recipe.train.optimizer = OptimizerConfig { weight_decay: 0.0, ..Default::default() };
        recipe.train.schedule = ScheduleConfig::Plateau { factor: 0.5, patience: 1 };
        (recipe.train.epochs, recipe.train.select) = (10, None);
        if let Encoders::Pretrained { image, tuning, .. } = &mut recipe.encoders {
            *tuning = Some(FineTuning { blocks: vec![8; image.len()], layers: 0, ..fine_tuning() });
        }
        recipe
    }
}

/// Three random parts of each picture, of half of it or more.
fn fine_tuning() -> FineTuning {
    let crop = RandomCrop { area: [0.5, 1.0], aspect: [0.8, 1.25] };
    FineTuning { blocks: vec![], layers: 4, adapters: None, crops: 3, crop }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_survives_json() {
        let (image, text) = (vec!["lite0.pth".into()], "minilm".into());
        let pretrained = Encoders::Pretrained { image, text, tuning: None };
        for name in PRESETS {
            for encoders in [Encoders::small(), pretrained.clone()] {
                let recipe = Recipe::preset(name, "synthetic", encoders).unwrap();
                let json = serde_json::to_string(&recipe).unwrap();
                assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe, "{name}");
            }
        }
        assert_eq!(Recipe::preset("clip", "synthetic", Encoders::small()), None);
    }
}
