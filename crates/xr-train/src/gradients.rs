use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};

/// Euclidean length of all gradients taken together, as one vector.
pub(crate) fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f64 {
    let mut squares = Squares { gradients, sums: vec![] };
    model.visit(&mut squares);
    match squares.sums.is_empty() {
        true => 0.0,
        false => Tensor::cat(squares.sums, 0).sum().sqrt().into_scalar(),
    }
}

/// Shortens the gradients, taken together as one vector of length `norm`, to at most `max_norm`.
///
/// As `torch.nn.utils.clip_grad_norm_`; Burn's own clipping bounds each tensor by itself, which
/// changes the direction of the step.
pub(crate) fn clip<M: Module>(
    model: &M,
    mut gradients: GradientsParams,
    norm: f64,
    max_norm: f64,
) -> GradientsParams {
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        model.visit(&mut Scale { gradients: &mut gradients, factor });
    }
    gradients
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push(gradient.square().sum());
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{module::Param, nn::Linear, tensor::Device};

    use super::*;

    // d/dW and d/db of 3·w₀ + 4·b are (3, 0) and 4: together of length 5.
    fn layer_and_gradients() -> (Linear, GradientsParams) {
        let device = Device::flex().autodiff();
        let layer = Linear {
            weight: Param::from_data([[1f32], [1.]], &device),
            bias: Some(Param::from_data([1f32], &device)),
        };
        let x = Tensor::<2>::from_data([[0.75, 0.]], &device);
        let loss = layer.forward(x) * 4.0;
        let gradients = GradientsParams::from_grads(loss.backward(), &layer);
        (layer, gradients)
    }

    #[test]
    fn norm_of_everything_together() {
        let (layer, gradients) = layer_and_gradients();
        assert!((global_norm(&layer, &gradients) - 5.0).abs() < 1e-6);
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let (layer, gradients) = layer_and_gradients();
        let clipped = clip(&layer, gradients, 5.0, 1.0);
        let weight: Vec<f32> =
            clipped.get::<2>(layer.weight.id).unwrap().try_into_vec_as().unwrap();
        let bias: f32 = clipped.get::<1>(layer.bias.unwrap().id).unwrap().into_scalar();
        // The 1e-6 in the divisor, as in PyTorch, takes off a fifth of a millionth.
        assert!((weight[0] - 0.6).abs() < 1e-6 && weight[1] == 0. && (bias - 0.8).abs() < 1e-6);
    }

    #[test]
    fn a_short_gradient_stays() {
        let (layer, gradients) = layer_and_gradients();
        let clipped = clip(&layer, gradients, 5.0, 6.0);
        assert_eq!(clipped.get::<1>(layer.bias.unwrap().id).unwrap().into_scalar::<f32>(), 4.0);
    }
}
