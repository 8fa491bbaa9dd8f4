use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xr_data::{Augment, Sampling, SplitSpec};
use xr_models::{
    HeadConfig, MlpConfig, Temperature, Views,
    head::{AutoencodersConfig, DualEncoderConfig},
};
use xr_train::{
    Algorithm, AlignmentConfig, Decay, Negatives, ObjectiveConfig, OptimizerConfig, Precision,
    Rate, ScheduleConfig, TrainConfig, Triplet, Weighted,
};

use crate::{Encoders, Error, FineTuning, Result};

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
    /// Random changes to pictures that encoders are trained on from end to end, in this order.
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
    /// [`Error::NoTeacher`] and [`Error::IdleTeacher`]; [`Error::PrecisionOfFrozenEncoders`].
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
            Encoders::Pretrained { tuning: None, .. }
                if self.train.precision == Precision::Bf16 =>
            {
                Err(Error::PrecisionOfFrozenEncoders)
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
    /// Rates are those of the head times 1/20 in pretrained encoders, also where these are trained
    /// from end to end; for encoders from scratch nothing changes.
    pub fn fine_tuned(data: &str, encoders: Encoders) -> Self {
        let mut recipe = Self::dual_encoder(data, encoders);
        if let Encoders::Pretrained { image, tuning, .. } = &mut recipe.encoders {
            *tuning = Some(FineTuning { blocks: vec![5; image.len()], ..FineTuning::default() });
        }
        let pretrained = recipe.encoders.pretrained_parts();
        if !pretrained.is_empty() {
            recipe.train.optimizer.rates =
                pretrained.into_iter().map(|part| Rate::new(part, 0.05)).collect();
            recipe.train.schedule = ScheduleConfig::Cosine { warmup: 40 };
            recipe.train.epochs = 12;
            recipe.train.patience = None;
        }
        recipe
    }

    /// The lost-and-found system (P0): a dual encoder whose image encoder is trained nearly whole and
    /// whose text encoder stays as it is; or both are trained from end to end.
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
            let blocks = vec![8; image.len()];
            *tuning = Some(FineTuning { blocks, layers: 0, ..FineTuning::default() });
        }
        recipe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_survives_json() {
        let (image, text) = (vec!["lite0.pth".into()], Some("minilm".into()));
        let encoders = [
            Encoders::small(),
            Encoders::frozen(image.clone(), text.clone()),
            Encoders::end_to_end(image.clone(), text),
            Encoders::end_to_end(image, None),
        ];
        for name in PRESETS {
            for encoders in encoders.clone() {
                let recipe = Recipe::preset(name, "synthetic", encoders).unwrap();
                let json = serde_json::to_string(&recipe).unwrap();
                assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe, "{name}");
            }
        }
        assert_eq!(Recipe::preset("clip", "synthetic", Encoders::small()), None);
    }

    #[test]
    fn mixed_precision_of_frozen_encoders() {
        let frozen = Encoders::frozen(vec!["lite0.pth".into()], Some("minilm".into()));
        for (recipe, is_refused) in [
            (Recipe::dual_encoder("synthetic", frozen.clone()), true),
            (Recipe::fine_tuned("synthetic", frozen), false),
            (Recipe::dual_encoder("synthetic", Encoders::small()), false),
        ] {
            let mut recipe = recipe;
            recipe.train.precision = Precision::Bf16;
            let error = recipe.check().map_err(|error| error.to_string()).err();
            let expected = "`train.precision` is that of encoders in training, and this recipe's are frozen; leave \
                            it at f32, or train encoders: preset fine-tuned, or --end-to-end";
            assert_eq!(error.as_deref(), is_refused.then_some(expected));
        }
    }
}
