use burn::{
    config::Config,
    module::Module,
    nn::PaddingConfig2d,
    tensor::{Device, Tensor},
};

use super::conv_norm::{ConvNorm, ConvNormConfig};
use crate::ops::{
    Activation::{Identity, Relu6},
    global_avg_pool2d,
};

/// What TensorFlow's batch norms add to the variance.
const EPSILON: f64 = 1e-3;

/// Our names of modules, and those in the published files.
const PUBLISHED_NAMES: [(&str, &str); 11] = [
    ("stem.conv", "_conv_stem"),
    ("stem.norm", "_bn0"),
    ("head.conv", "_conv_head"),
    ("head.norm", "_bn1"),
    ("blocks", "_blocks"),
    ("expand.conv", "_expand_conv"),
    ("expand.norm", "_bn0"),
    ("depthwise.conv", "_depthwise_conv"),
    ("depthwise.norm", "_bn1"),
    ("project.conv", "_project_conv"),
    ("project.norm", "_bn2"),
];

/// Configuration of an [`EfficientNetLite`].
#[derive(Config, Debug, PartialEq)]
pub struct EfficientNetLiteConfig {
    /// Channels after the first convolution.
    pub stem: usize,
    /// The stages between the first and the last convolution.
    pub stages: Vec<Stage>,
    /// Channels after the last convolution, and so the width of the features.
    pub features: usize,
}

/// Blocks of one size, one after the other.
#[derive(Config, Debug, PartialEq)]
pub struct Stage {
    /// Number of blocks.
    pub repeats: usize,
    /// Side of the depthwise kernels.
    pub kernel: usize,
    /// Stride of the first block; that of the others is 1.
    pub stride: usize,
    /// Channels inside a block, as a multiple of those it is given.
    pub expansion: usize,
    /// Channels that come out.
    pub channels: usize,
}

impl EfficientNetLiteConfig {
    /// The smallest, for pictures of 224 × 224.
    pub fn lite0() -> Self {
        Self::scaled(1.0, 1.0)
    }

    /// The third smallest, for pictures of 260 × 260.
    pub fn lite2() -> Self {
        Self::scaled(1.1, 1.2)
    }

    /// EfficientNet's compound scaling with its Lite exceptions: the two ends keep their channels,
    /// the first and the last stage their one block.
    fn scaled(width: f64, depth: f64) -> Self {
        let stages = [
            Stage::new(1, 3, 1, 1, 16),
            Stage::new(2, 3, 2, 6, 24),
            Stage::new(2, 5, 2, 6, 40),
            Stage::new(3, 3, 2, 6, 80),
            Stage::new(3, 5, 1, 6, 112),
            Stage::new(4, 5, 2, 6, 192),
            Stage::new(1, 3, 1, 6, 320),
        ];
        let scale = |stage: Stage| Stage {
            repeats: match stage.repeats {
                1 => 1,
                repeats => (repeats as f64 * depth).ceil() as usize,
            },
            channels: multiple_of_eight(stage.channels as f64 * width),
            ..stage
        };
        Self::new(32, stages.map(scale).into(), 1280)
    }

    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> EfficientNetLite {
        let mut channels = self.stem;
        let mut blocks = Vec::new();
        for stage in &self.stages {
            for repeat in 0..stage.repeats {
                let stride = if repeat == 0 { stage.stride } else { 1 };
                blocks.push(stage.block(channels, stride, device));
                channels = stage.channels;
            }
        }
        EfficientNetLite {
            stem: Some(conv(3, self.stem, 3, 2, device)),
            blocks,
            head: Some(conv(channels, self.features, 1, 1, device)),
        }
    }
}

impl Stage {
    fn block(&self, channels: usize, stride: usize, device: &Device) -> Block {
        let inner = channels * self.expansion;
        Block {
            expand: (self.expansion > 1).then(|| conv(channels, inner, 1, 1, device)),
            depthwise: depthwise(inner, self.kernel, stride, device),
            project: conv(inner, self.channels, 1, 1, device),
            residual: stride == 1 && channels == self.channels,
        }
    }
}

/// EfficientNet-Lite, the EfficientNet without squeeze-and-excitation and with ReLU6 (Liu 2020,
/// [`tensorflow/tpu`](https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite)),
/// up to its pooled features; the classifier is left out.
///
/// Padding is TensorFlow's "same": what a stride of 2 leaves over goes to the right and below.
#[derive(Module, Debug)]
pub struct EfficientNetLite {
    /// The lower part has one.
    stem: Option<ConvNorm>,
    blocks: Vec<Block>,
    /// The upper part has one.
    head: Option<ConvNorm>,
}

/// Inverted residual bottleneck: widen, filter each channel, narrow.
#[derive(Module, Debug)]
struct Block {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    residual: bool,
}

impl EfficientNetLite {
    /// Features of a batch of pictures: the mean over all places of the last convolution.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`, `(x - 127) / 128` of values up to 255
    /// - output: `[batch, features]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let x = self.activations(pixels);
        global_avg_pool2d(match &self.head {
            Some(head) => head.forward(x, Relu6, None),
            None => x,
        })
    }

    /// What the last block makes.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`
    /// - output: `[batch, channels, height / 32, width / 32]`, rounded up; more in a lower part
    pub fn activations(&self, pixels: Tensor<4>) -> Tensor<4> {
        let x = match &self.stem {
            Some(stem) => stem.forward(pixels, Relu6, None),
            None => pixels,
        };
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }

    /// The same function with each batch norm folded into its convolution.
    pub fn folded(self) -> Self {
        self.map(ConvNorm::folded)
    }

    /// With the weights of dense convolutions rounded to bf16.
    pub fn in_mixed_precision(self) -> Self {
        self.map(ConvNorm::in_mixed_precision)
    }

    /// The same function with batch norms, as files have it.
    pub fn unfolded(self) -> Self {
        self.map(|conv| conv.unfolded(EPSILON))
    }

    fn map(self, change: fn(ConvNorm) -> ConvNorm) -> Self {
        Self {
            stem: self.stem.map(change),
            blocks: self.blocks.into_iter().map(|block| block.map(change)).collect(),
            head: self.head.map(change),
        }
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn cut(mut self, blocks: usize) -> [Self; 2] {
        let upper = self.blocks.split_off(self.blocks.len() - blocks);
        let head = self.head.take();
        [self, Self { stem: None, blocks: upper, head }]
    }

    pub(super) fn joined([mut lower, upper]: [Self; 2]) -> Self {
        lower.blocks.extend(upper.blocks);
        Self { head: upper.head, ..lower }
    }

    /// The name that one of our tensors has in the files of
    /// [`efficientnet-lite-pytorch`](https://pypi.org/project/efficientnet-lite-pytorch):
    /// `blocks.1.expand.conv.weight` is published as `_blocks.1._expand_conv.weight`.
    pub(crate) fn published_name(ours: &str) -> String {
        PUBLISHED_NAMES.iter().fold(ours.into(), |name, (ours, theirs)| name.replace(ours, theirs))
    }
}

impl Block {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let residual = self.residual.then(|| input.clone());
        let x = match &self.expand {
            Some(expand) => expand.forward(input, Relu6, None),
            None => input,
        };
        let x = self.depthwise.forward(x, Relu6, None);
        self.project.forward(x, Identity, residual)
    }

    fn map(self, change: fn(ConvNorm) -> ConvNorm) -> Self {
        Self {
            expand: self.expand.map(change),
            depthwise: change(self.depthwise),
            project: change(self.project),
            residual: self.residual,
        }
    }
}

fn conv(from: usize, to: usize, kernel: usize, stride: usize, device: &Device) -> ConvNorm {
    let (channels, padding) = ([from, to], PaddingConfig2d::Same);
    ConvNormConfig { channels, kernel, stride, groups: 1, padding, epsilon: EPSILON }.init(device)
}

fn depthwise(channels: usize, kernel: usize, stride: usize, device: &Device) -> ConvNorm {
    let (groups, channels, padding) = (channels, [channels; 2], PaddingConfig2d::Same);
    ConvNormConfig { channels, kernel, stride, groups, padding, epsilon: EPSILON }.init(device)
}

/// The nearest multiple of 8 that isn't below nine tenths.
fn multiple_of_eight(channels: f64) -> usize {
    let nearest = ((channels / 8.0).round() * 8.0).max(8.0);
    (if nearest < 0.9 * channels { nearest + 8.0 } else { nearest }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    /// Every kind of block: without expansion, of stride 2 and 1, with kernels of 3 and 5.
    fn tiny() -> EfficientNetLiteConfig {
        let stages = [(1, 3, 1, 1, 8), (2, 3, 2, 3, 8), (2, 5, 2, 3, 16)];
        EfficientNetLiteConfig::new(
            8,
            stages.map(|(r, k, s, e, c)| Stage::new(r, k, s, e, c)).into(),
            32,
        )
    }

    fn loaded(fixture: &Fixture, device: &Device) -> EfficientNetLite {
        fixture.load(tiny().init(device), EfficientNetLite::published_name)
    }

    #[test]
    fn equals_timm() {
        let (fixture, device) = (Fixture::open("efficientnet_lite"), Device::flex());
        let pixels = fixture.tensor("pixels", &device);
        fixture.assert("features", loaded(&fixture, &device).forward(pixels));
    }

    #[test]
    fn folded_is_the_same_function() {
        let (fixture, device) = (Fixture::open("efficientnet_lite"), Device::flex());
        let folded = loaded(&fixture, &device).folded();
        fixture.assert("features", folded.forward(fixture.tensor("pixels", &device)));
        assert!(folded.stem.unwrap().norm().is_none() && folded.blocks[1].project.norm().is_none());
    }

    fn sizes(config: &EfficientNetLiteConfig) -> Vec<(usize, usize)> {
        config.stages.iter().map(|s| (s.repeats, s.channels)).collect()
    }

    #[test]
    fn published_sizes() {
        let lite0 = [(1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)];
        let lite2 = [(1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)];
        assert_eq!(sizes(&EfficientNetLiteConfig::lite0()), lite0);
        assert_eq!(sizes(&EfficientNetLiteConfig::lite2()), lite2);
    }

    #[test]
    fn published_names() {
        for (ours, theirs) in [
            ("stem.conv.weight", "_conv_stem.weight"),
            ("stem.norm.bias", "_bn0.bias"),
            ("blocks.12.expand.norm.running_var", "_blocks.12._bn0.running_var"),
            ("blocks.0.depthwise.norm.weight", "_blocks.0._bn1.weight"),
            ("blocks.0.project.conv.weight", "_blocks.0._project_conv.weight"),
            ("head.norm.weight", "_bn1.weight"),
        ] {
            assert_eq!(EfficientNetLite::published_name(ours), theirs);
        }
    }
}
