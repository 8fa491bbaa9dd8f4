use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xr_data::RandomCrop;
use xr_models::encoder::Cell;

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
    /// Encoders that are trained whole, from pixels and words, together with the head.
    EndToEnd {
        /// Of pictures.
        image: ImageTower,
        /// Of texts.
        text: TextTower,
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
    /// Random parts of each picture that are seen besides its [views](crate::Recipe::views); each
    /// takes disk space.
    pub crops: u32,
    /// What they are drawn from.
    pub crop: RandomCrop,
}

/// What an image encoder trained from end to end begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageTower {
    /// Published weights.
    Pretrained {
        /// Weight files or folders; the encoders' features stand side by side.
        weights: Vec<PathBuf>,
        /// Are batch norms folded into convolutions? Then the statistics stay those of the weights,
        /// which small batches want, and a step takes less time.
        folded: bool,
    },
    /// A small convolutional network with random weights (P1, "method 2").
    Scratch {
        /// Channels of its stages; its width is the last.
        channels: Vec<usize>,
        /// Pictures are resized to this many pixels on each side.
        side: u32,
    },
}

/// What a text encoder trained from end to end begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TextTower {
    /// Published weights.
    Pretrained {
        /// Their folder.
        weights: PathBuf,
    },
    /// A recurrent network with random weights.
    Scratch {
        /// Its cell.
        cell: Cell,
        /// Width of its words, state and output.
        width: usize,
        /// Most words in the vocabulary, which is taken from the training captions.
        vocabulary: usize,
        /// Longest caption in words.
        context: usize,
    },
}

impl Encoders {
    /// Encoders small enough for a minute on two cores, from random weights: a convolutional network
    /// on pictures of 64 pixels, and a GRU.
    pub fn small() -> Self {
        Self::end_to_end(vec![], None)
    }

    /// Published encoders that stay as they are, until a recipe says otherwise. Without weights for
    /// both sides there is nothing to keep, and they are trained from [end to
    /// end](Self::end_to_end).
    pub fn frozen(image: Vec<PathBuf>, text: Option<PathBuf>) -> Self {
        match text {
            Some(text) if !image.is_empty() => Self::Pretrained { image, text, tuning: None },
            text => Self::end_to_end(image, text),
        }
    }

    /// Encoders that are trained whole: from these weights, or small ones from random weights where
    /// none are named.
    pub fn end_to_end(image: Vec<PathBuf>, text: Option<PathBuf>) -> Self {
        let image = match image.is_empty() {
            true => ImageTower::Scratch { channels: vec![16, 32, 64, 128], side: 64 },
            false => ImageTower::Pretrained { weights: image, folded: false },
        };
        let text = match text {
            Some(weights) => TextTower::Pretrained { weights },
            None => {
                let (cell, width, vocabulary, context) = (Cell::Gru, 96, 2_000, 32);
                TextTower::Scratch { cell, width, vocabulary, context }
            }
        };
        Self::EndToEnd { image, text }
    }

    /// Names of the model's parts that begin with published weights, as patterns of rates take them.
    pub(crate) fn pretrained_parts(&self) -> Vec<&'static str> {
        let (image, text) = match self {
            Self::Pretrained { .. } => (true, true),
            Self::EndToEnd { image, text } => (
                matches!(image, ImageTower::Pretrained { .. }),
                matches!(text, TextTower::Pretrained { .. }),
            ),
        };
        [("^image", image), ("^text", text)]
            .into_iter()
            .filter_map(|(p, is)| is.then_some(p))
            .collect()
    }
}

impl Default for FineTuning {
    /// Four layers, no blocks yet, and three random parts of each picture, of half of it or more.
    fn default() -> Self {
        let crop = RandomCrop { area: [0.5, 1.0], aspect: [0.8, 1.25] };
        Self { blocks: vec![], layers: 4, adapters: None, crops: 3, crop }
    }
}
