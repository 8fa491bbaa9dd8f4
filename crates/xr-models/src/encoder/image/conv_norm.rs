use burn::{
    module::{Module, Param},
    nn::{
        BatchNorm, BatchNormConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, ops::ConvOptions},
};

use crate::{
    encoder::in_bf16,
    inputs,
    ops::{Activation, BatchNormTrain, batch_norm_train, conv2d, conv2d_fused},
};

/// What PyTorch's batch norms add to the variance.
pub(super) const PYTORCH_EPSILON: f64 = 1e-5;

/// A convolution and its batch norm, which [`folded`](Self::folded) makes part of it.
#[derive(Module, Debug)]
pub(super) struct ConvNorm {
    conv: Conv2d,
    norm: Option<BatchNorm>,
}

/// What differs between the convolutions of a network.
pub(super) struct ConvNormConfig {
    /// Channels in and out.
    pub(super) channels: [usize; 2],
    /// Side of the square kernel.
    pub(super) kernel: usize,
    /// Step of the kernel.
    pub(super) stride: usize,
    /// Groups of channels that don't mix.
    pub(super) groups: usize,
    /// What is put around the picture.
    pub(super) padding: PaddingConfig2d,
    /// Added to the variance by the batch norm.
    pub(super) epsilon: f64,
}

impl ConvNormConfig {
    pub(super) fn init(self, device: &Device) -> ConvNorm {
        let [_, channels] = self.channels;
        let conv = Conv2dConfig::new(self.channels, [self.kernel; 2])
            .with_stride([self.stride; 2])
            .with_groups(self.groups)
            .with_padding(self.padding)
            .with_bias(false);
        let norm = BatchNormConfig::new(channels).with_epsilon(self.epsilon);
        ConvNorm { conv: conv.init(device), norm: Some(norm.init(device)) }
    }
}

impl ConvNorm {
    /// `activation(norm(x ∗ weight)) + residual`
    ///
    /// # Shapes
    /// - x: `[batch, channels in, height, width]`
    /// - residual and output: `[batch, channels out, height / stride, width / stride]`
    pub(super) fn forward(
        &self,
        x: Tensor<4>,
        activation: Activation,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let (weight, options) = (self.conv.weight.val(), self.options(&x));
        let (weight, bias) = match (&self.norm, &self.conv.bias) {
            (Some(norm), _) if x.device().is_autodiff() && norm.training.is_enabled() => {
                let y = train(norm, conv2d(x, weight, options), activation);
                return match residual {
                    Some(residual) => y + residual,
                    None => y,
                };
            }
            (Some(norm), _) => fold(weight, norm),
            (None, Some(bias)) => {
                self.observe(&x);
                (weight, bias.val())
            }
            (None, None) => unreachable!("a folded convolution has a bias"),
        };
        conv2d_fused(x, weight, bias, residual, options, activation)
    }

    /// Says what the convolution is given, if it looks at single pixels.
    fn observe(&self, x: &Tensor<4>) {
        let Conv2d { kernel_size, stride, groups, .. } = self.conv;
        if (kernel_size, stride, groups) == ([1, 1], [1, 1], 1) {
            let [_, channels, ..] = x.dims();
            let rows = || x.clone().permute([0, 2, 3, 1]).reshape([-1, channels as i32]);
            inputs::given(self.conv.weight.id, rows);
        }
    }

    fn options(&self, x: &Tensor<4>) -> ConvOptions<2> {
        let Conv2d { stride, kernel_size, dilation, groups, .. } = self.conv;
        let [_, _, height, width] = x.dims();
        let same = |i: usize, side| same_padding(side, kernel_size[i], stride[i]);
        let padding = match self.conv.padding {
            PaddingConfig2d::Same => [same(0, height), same(1, width)],
            PaddingConfig2d::Valid => [(0, 0); 2],
            PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        };
        ConvOptions::new_with_padding(stride, padding, dilation, groups)
    }

    /// The same function in one convolution.
    pub(super) fn folded(self) -> Self {
        let Self { mut conv, norm: Some(norm) } = self else { return self };
        let (weight, bias) = fold(conv.weight.val(), &norm);
        conv.weight = Param::from_tensor(weight.detach());
        conv.bias = Some(Param::from_tensor(bias.detach()));
        Self { conv, norm: None }
    }

    /// With the weight rounded to bf16 if the convolution mixes channels.
    pub(super) fn in_mixed_precision(mut self) -> Self {
        if self.conv.groups == 1 {
            self.conv.weight = in_bf16(&self.conv.weight);
        }
        self
    }

    /// The same function with a batch norm again, of mean 0 and a deviation that its factor undoes.
    pub(super) fn unfolded(self, epsilon: f64) -> Self {
        let Self { mut conv, norm: None } = self else { return self };
        let bias = conv.bias.take().expect("a folded convolution has a bias").val().detach();
        let [channels] = bias.dims();
        let config = BatchNormConfig::new(channels).with_epsilon(epsilon);
        let mut norm: BatchNorm = config.init(&bias.device());
        // As `fold` computes what it divides by, so that the quotient is 1 to the last bit.
        let deviation = (norm.running_var.value() + norm.epsilon).sqrt();
        norm.gamma = Param::from_tensor(deviation);
        norm.beta = Param::from_tensor(bias);
        Self { conv, norm: Some(norm) }
    }

    #[cfg(test)]
    pub(super) fn norm(&self) -> Option<&BatchNorm> {
        self.norm.as_ref()
    }
}

/// TensorFlow's "same": the output has the input's size, divided by the stride and rounded up; of an
/// odd number of zeros the larger half comes after.
fn same_padding(side: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let steps = side.div_ceil(stride).saturating_sub(1);
    let padding = (steps * stride + kernel).saturating_sub(side);
    (padding / 2, padding.div_ceil(2))
}

/// A batch norm at inference is `γ (x - μ) / √(σ² + ε) + β`: the factor goes into the weights of
/// the convolution before, the rest becomes its bias.
fn fold(weight: Tensor<4>, norm: &BatchNorm) -> (Tensor<4>, Tensor<1>) {
    let device = weight.device();
    let [mean, variance] =
        [&norm.running_mean, &norm.running_var].map(|state| state.value().to_device(&device));
    let scale = norm.gamma.val() / (variance + norm.epsilon).sqrt();
    let bias = norm.beta.val() - mean * scale.clone();
    (weight * scale.unsqueeze_dims(&[1, 2, 3]), bias)
}

/// Batch norm in training, which updates the running statistics as [`BatchNorm::forward`] does.
fn train(norm: &BatchNorm, x: Tensor<4>, activation: Activation) -> Tensor<4> {
    let (gamma, beta) = (norm.gamma.val(), norm.beta.val());
    let BatchNormTrain { output, mean, variance } =
        batch_norm_train(x, gamma, beta, norm.epsilon, activation);
    for (state, batch) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
        let running = state.value_sync().to_device(&batch.device());
        let batch = batch.detach() * norm.momentum;
        state.update((running * (1.0 - norm.momentum) + batch).detach());
    }
    output
}
