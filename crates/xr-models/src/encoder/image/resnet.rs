use burn::{
    config::Config,
    module::Module,
    nn::PaddingConfig2d,
    tensor::{Device, Tensor, activation::relu},
};

use super::conv_norm::{ConvNorm, ConvNormConfig, PYTORCH_EPSILON};
use crate::ops::{Activation, Pool, global_avg_pool2d, max_pool2d};

/// What is behind the first convolution.
const POOL: Pool = Pool { side: 3, stride: 2, padding: 1 };

/// Configuration of a [`ResNet`].
#[derive(Config, Debug, PartialEq)]
pub struct ResNetConfig {
    /// Number of blocks in each stage.
    pub blocks: Vec<usize>,
    /// What a block is made of.
    pub block: ResNetBlock,
    /// Channels after the first convolution, and inside the blocks of the first stage; each later
    /// stage doubles them.
    #[config(default = 64)]
    pub channels: usize,
}

/// What a block of a [`ResNet`] is made of.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum ResNetBlock {
    /// Two 3 × 3 convolutions.
    Basic,
    /// 1 × 1, 3 × 3 and 1 × 1; the last has four times the channels.
    Bottleneck,
}

impl ResNetConfig {
    /// 18 layers, 512 features.
    pub fn resnet18() -> Self {
        Self::new(vec![2, 2, 2, 2], ResNetBlock::Basic)
    }

    /// 34 layers, 512 features.
    pub fn resnet34() -> Self {
        Self::new(vec![3, 4, 6, 3], ResNetBlock::Basic)
    }

    /// 50 layers, 2048 features.
    pub fn resnet50() -> Self {
        Self::new(vec![3, 4, 6, 3], ResNetBlock::Bottleneck)
    }

    /// An encoder with random weights.
    ///
    /// # Panics
    /// If there is no stage.
    pub fn init(&self, device: &Device) -> ResNet {
        assert!(!self.blocks.is_empty(), "a ResNet has at least one stage");
        let mut from = self.channels;
        let stages = self.blocks.iter().enumerate().map(|(stage, &blocks)| {
            let inner = self.channels << stage;
            let block = |block| {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let before = std::mem::replace(&mut from, self.block.out(inner));
                self.block.init(before, inner, stride, device)
            };
            (0..blocks).map(block).collect()
        });
        let stages = stages.collect();
        ResNet { stem: Some(conv([3, self.channels], 7, 2, device)), stages }
    }

    /// Width of the features.
    ///
    /// # Panics
    /// If there is no stage.
    pub fn width(&self) -> usize {
        let last = self.blocks.len().checked_sub(1).expect("a ResNet has at least one stage");
        self.block.out(self.channels << last)
    }
}

impl ResNetBlock {
    /// Channels that come out of a block with so many inside.
    fn out(self, inner: usize) -> usize {
        match self {
            Self::Basic => inner,
            Self::Bottleneck => 4 * inner,
        }
    }

    /// The stride is that of the 3 × 3 convolution, as in torchvision.
    fn init(self, from: usize, inner: usize, stride: usize, device: &Device) -> Block {
        let out = self.out(inner);
        let convs = match self {
            Self::Basic => {
                vec![conv([from, inner], 3, stride, device), conv([inner, inner], 3, 1, device)]
            }
            Self::Bottleneck => vec![
                conv([from, inner], 1, 1, device),
                conv([inner, inner], 3, stride, device),
                conv([inner, out], 1, 1, device),
            ],
        };
        let shortcut = (stride > 1 || from != out).then(|| conv([from, out], 1, stride, device));
        Block { convs, shortcut }
    }
}

/// Residual network (He et al. 2015), up to its pooled features; the classifier is left out.
///
/// Layout and names of the weights are torchvision's
/// ([`resnet.py`](https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py)).
#[derive(Module, Debug)]
pub struct ResNet {
    /// With the pool behind it; the lower part has one.
    stem: Option<ConvNorm>,
    stages: Vec<Vec<Block>>,
}

/// Convolutions, and what they were given added to what they made.
#[derive(Module, Debug)]
struct Block {
    convs: Vec<ConvNorm>,
    /// Brings the input to the shape of the output where that is another.
    shortcut: Option<ConvNorm>,
}

impl ResNet {
    /// Features of a batch of pictures: the mean over all places of the last convolution.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`, normalised with ImageNet's mean and deviation
    /// - output: `[batch, width]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        global_avg_pool2d(self.activations(pixels))
    }

    /// What the last block makes.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`
    /// - output: `[batch, channels, height / 32, width / 32]`, rounded up; more in a lower part
    pub fn activations(&self, pixels: Tensor<4>) -> Tensor<4> {
        let x = match &self.stem {
            Some(stem) => max_pool2d(stem.forward(pixels, Activation::Relu, None), POOL),
            None => pixels,
        };
        self.stages.iter().flatten().fold(x, |x, block| block.forward(x))
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
        self.map(|conv| conv.unfolded(PYTORCH_EPSILON))
    }

    fn map(self, change: fn(ConvNorm) -> ConvNorm) -> Self {
        let stage = |stage: Vec<Block>| stage.into_iter().map(|block| block.map(change)).collect();
        Self { stem: self.stem.map(change), stages: self.stages.into_iter().map(stage).collect() }
    }

    pub(super) fn blocks(&self) -> usize {
        self.stages.iter().flatten().count()
    }

    /// Each part has all stages, and in each of them its own blocks.
    pub(super) fn cut(mut self, blocks: usize) -> [Self; 2] {
        let mut lower = self.blocks() - blocks;
        let stages = self.stages.iter_mut().map(|stage| {
            let kept = lower.min(stage.len());
            lower -= kept;
            stage.split_off(kept)
        });
        let stages = stages.collect();
        [self, Self { stem: None, stages }]
    }

    pub(super) fn joined([mut lower, upper]: [Self; 2]) -> Self {
        for (stage, rest) in lower.stages.iter_mut().zip(upper.stages) {
            stage.extend(rest);
        }
        lower
    }

    /// The name that one of our tensors has in torchvision's files:
    /// `stages.0.1.convs.2.norm.weight` is published as `layer1.1.bn3.weight`.
    pub(crate) fn published_name(ours: &str) -> String {
        let conv_norm = |kind| if kind == "conv" { "conv" } else { "bn" };
        let next = |number: &str| number.parse::<usize>().map_or(0, |number| number + 1);
        match ours.split('.').collect::<Vec<_>>()[..] {
            ["stem", kind, tensor] => format!("{}1.{tensor}", conv_norm(kind)),
            ["stages", stage, block, "convs", conv, kind, tensor] => {
                let kind = conv_norm(kind);
                format!("layer{}.{block}.{kind}{}.{tensor}", next(stage), next(conv))
            }
            ["stages", stage, block, "shortcut", kind, tensor] => {
                let place = usize::from(kind == "norm");
                format!("layer{}.{block}.downsample.{place}.{tensor}", next(stage))
            }
            _ => ours.into(),
        }
    }
}

impl Block {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let (last, before) = self.convs.split_last().expect("two or three convolutions");
        let forward = |x, conv: &ConvNorm| conv.forward(x, Activation::Relu, None);
        let x = before.iter().fold(input.clone(), forward);
        let input = match &self.shortcut {
            Some(shortcut) => shortcut.forward(input, Activation::Identity, None),
            None => input,
        };
        relu(last.forward(x, Activation::Identity, Some(input)))
    }

    fn map(self, change: fn(ConvNorm) -> ConvNorm) -> Self {
        Self {
            convs: self.convs.into_iter().map(change).collect(),
            shortcut: self.shortcut.map(change),
        }
    }
}

fn conv(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> ConvNorm {
    let around = kernel / 2;
    let padding = PaddingConfig2d::Explicit(around, around, around, around);
    ConvNormConfig { channels, kernel, stride, groups: 1, padding, epsilon: PYTORCH_EPSILON }
        .init(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn equals_torchvision(name: &str, block: ResNetBlock) {
        let (fixture, device) = (Fixture::open(name), Device::flex());
        let config = ResNetConfig::new(vec![1, 2], block).with_channels(4);
        let encoder = fixture.load(config.init(&device), ResNet::published_name);
        let pixels = fixture.tensor::<4>("pixels", &device);
        fixture.assert("features", encoder.forward(pixels.clone()));
        fixture.assert("features", encoder.folded().forward(pixels));
    }

    #[test]
    fn basic_blocks_equal_torchvision() {
        equals_torchvision("resnet_basic", ResNetBlock::Basic);
    }

    #[test]
    fn bottlenecks_equal_torchvision() {
        equals_torchvision("resnet_bottleneck", ResNetBlock::Bottleneck);
    }

    #[test]
    fn published_sizes() {
        let layers = |config: &ResNetConfig| {
            let each = if config.block == ResNetBlock::Basic { 2 } else { 3 };
            // The stem and the classifier count.
            2 + each * config.blocks.iter().sum::<usize>()
        };
        let [small, middle, large] =
            [ResNetConfig::resnet18(), ResNetConfig::resnet34(), ResNetConfig::resnet50()];
        assert_eq!([&small, &middle, &large].map(layers), [18, 34, 50]);
        assert_eq!([&small, &middle, &large].map(ResNetConfig::width), [512, 512, 2048]);
        // torchvision's 25,557,032 less the 2,049,000 of the classifier, and the 53,120 running
        // means and variances.
        assert_eq!(large.init(&Device::flex()).num_params(), 23_508_032 + 53_120);
    }

    #[test]
    fn published_names() {
        for (ours, theirs) in [
            ("stem.conv.weight", "conv1.weight"),
            ("stem.norm.running_mean", "bn1.running_mean"),
            ("stages.0.1.convs.2.norm.weight", "layer1.1.bn3.weight"),
            ("stages.3.0.convs.0.conv.weight", "layer4.0.conv1.weight"),
            ("stages.1.0.shortcut.conv.weight", "layer2.0.downsample.0.weight"),
            ("stages.1.0.shortcut.norm.bias", "layer2.0.downsample.1.bias"),
        ] {
            assert_eq!(ResNet::published_name(ours), theirs);
        }
    }
}
