//! Convolutions of pictures whose channels come last, and their gradients.

mod dense;
mod depthwise;
mod patches;
mod window;
mod winograd;

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, Shape, ops::ConvOptions},
};

pub(super) use self::window::Axis;
use self::window::Window;
use super::{
    arch::Arch,
    channels_last::{channels_last, tensor, values},
    clamp::Clamp,
    storage::{self, contiguous},
};

/// The kernels for a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) enum Conv {
    Dense(Window),
    Depthwise(Window),
}

impl Conv {
    /// `None` where there are none: for groups of several channels, unusual depthwise kernels,
    /// other types of numbers, and no values at all.
    pub(super) fn new(
        x: &FlexTensor,
        weight: &FlexTensor,
        options: &ConvOptions<2>,
    ) -> Option<Self> {
        Self::rounded(x, weight, options).filter(|_| weight.dtype() == DType::F32)
    }

    /// The same, but a dense convolution may have its weight in bf16; then it has no gradients.
    pub(super) fn rounded(
        x: &FlexTensor,
        weight: &FlexTensor,
        options: &ConvOptions<2>,
    ) -> Option<Self> {
        let [batch, from, height, width] = x.layout().shape().dims();
        let [to, by_group, kernel_height, kernel_width] = weight.layout().shape().dims();
        if x.dtype() != DType::F32 {
            return None;
        }
        if [batch, from, to, height, width, kernel_height, kernel_width].contains(&0) {
            return None;
        }
        let axis = |i: usize, input, kernel| {
            Axis::new(input, kernel, options.stride[i], options.dilation[i], options.padding[i])
        };
        let (height, width) = (axis(0, height, kernel_height), axis(1, width, kernel_width));
        let window = Window { batch, channels: [from, to], height, width };
        match (weight.dtype(), options.groups, by_group) {
            (DType::F32 | DType::BF16, 1, _) => Some(Self::Dense(window)),
            (DType::F32, groups, 1) if groups == to && depthwise::is_supported(window) => {
                Some(Self::Depthwise(window))
            }
            _ => None,
        }
    }

    /// `x ∗ weight`, of a weight that is used once: it's in training.
    pub(super) fn forward(self, x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        match self {
            Self::Dense(window) if winograd::is_supported(window) => {
                let (x, weight) = (channels_last(x), contiguous(weight));
                let (x, weight) = (values(&x), storage::values(&weight));
                let out = Arch::new().dispatch(winograd::Forward { window, x, weight });
                tensor(out, self.shape_out())
            }
            _ => self.run(x, weight, None, None, Clamp::NONE, false),
        }
    }

    /// `clamp(x ∗ weight + bias) + residual`, of a weight that is used again, for other batches: it
    /// is kept as the kernel needs it.
    pub(super) fn fused(
        self,
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: Option<FlexTensor>,
        clamp: Clamp,
    ) -> FlexTensor {
        self.run(x, weight, Some(bias), residual, clamp, true)
    }

    fn run(
        self,
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        residual: Option<FlexTensor>,
        clamp: Clamp,
        keep_weight: bool,
    ) -> FlexTensor {
        let x = channels_last(x);
        let (bias, residual) = (bias.map(contiguous), residual.map(channels_last));
        let x = values(&x);
        let bias = bias.as_ref().map(storage::values);
        let residual = residual.as_ref().map(values);
        let out = match self {
            Self::Dense(window) => {
                let weight = &weight;
                let conv = dense::Forward { window, x, weight, keep_weight, bias, residual, clamp };
                if weight.dtype() == DType::BF16 {
                    conv.run_bf16()
                } else {
                    Arch::new().dispatch(conv)
                }
            }
            Self::Depthwise(window) => {
                let weight = &weight;
                let conv =
                    depthwise::Forward { window, x, weight, keep_weight, bias, residual, clamp };
                Arch::new().dispatch(conv)
            }
        };
        tensor(out, self.shape_out())
    }

    pub(super) fn input_grad(self, weight: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let (weight, grad) = (contiguous(weight), channels_last(grad));
        let (weight, grad) = (storage::values(&weight), values(&grad));
        let out = match self {
            Self::Dense(window) if winograd::is_supported(window) => {
                Arch::new().dispatch(winograd::InputGrad { window, weight, grad })
            }
            Self::Dense(window) => Arch::new().dispatch(dense::InputGrad { window, weight, grad }),
            Self::Depthwise(window) => {
                Arch::new().dispatch(depthwise::InputGrad { window, weight, grad })
            }
        };
        tensor(out, self.shape_in())
    }

    /// The gradient with respect to a weight of this shape.
    pub(super) fn weight_grad(self, x: FlexTensor, grad: FlexTensor, shape: Shape) -> FlexTensor {
        let (x, grad) = (channels_last(x), channels_last(grad));
        let (x, grad) = (values(&x), values(&grad));
        let out = match self {
            Self::Dense(window) if winograd::is_supported(window) => {
                Arch::new().dispatch(winograd::WeightGrad { window, x, grad })
            }
            Self::Dense(window) => Arch::new().dispatch(dense::WeightGrad { window, x, grad }),
            Self::Depthwise(window) => {
                Arch::new().dispatch(depthwise::WeightGrad { window, x, grad })
            }
        };
        storage::tensor(out, shape)
    }

    fn window(self) -> Window {
        match self {
            Self::Dense(window) | Self::Depthwise(window) => window,
        }
    }

    fn shape_in(self) -> [usize; 4] {
        let Window { batch, channels: [channels, _], height, width } = self.window();
        [batch, channels, height.input, width.input]
    }

    fn shape_out(self) -> [usize; 4] {
        let Window { batch, channels: [_, channels], height, width } = self.window();
        [batch, channels, height.output, width.output]
    }
}

#[cfg(test)]
mod tests;
