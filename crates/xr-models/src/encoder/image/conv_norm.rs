use burn::{
    module::{Module, Param},
    nn::{
        BatchNorm, BatchNormConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor},
};

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
    /// # Shapes
    /// - input: `[batch, channels in, height, width]`
    /// - output: `[batch, channels out, height / stride, width / stride]`
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv.forward(x);
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// The same function in one convolution. A batch norm at inference is `γ (x - μ) / √(σ² + ε) +
    /// β`; the factor goes into the weights, the rest becomes the bias.
    pub(super) fn folded(self) -> Self {
        let Self { mut conv, norm: Some(norm) } = self else { return self };
        let scale = norm.gamma.val() / (norm.running_var.value() + norm.epsilon).sqrt();
        let bias = norm.beta.val() - norm.running_mean.value() * scale.clone();
        let weight = conv.weight.val() * scale.unsqueeze_dims(&[1, 2, 3]);
        conv.weight = Param::from_tensor(weight.detach());
        conv.bias = Some(Param::from_tensor(bias.detach()));
        Self { conv, norm: None }
    }

    #[cfg(test)]
    pub(super) fn norm(&self) -> Option<&BatchNorm> {
        self.norm.as_ref()
    }
}
