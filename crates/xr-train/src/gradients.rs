use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};

use crate::step::numbers;

/// The Euclidean length of the gradients of each tower: `image`, `text`, and `rest`.
pub(crate) fn norms<M: Module>(model: &M, gradients: &GradientsParams) -> BTreeMap<String, f64> {
    let mut squares = Squares { gradients, path: vec![], towers: vec![], sums: vec![] };
    model.visit(&mut squares);
    let Squares { towers, sums, .. } = squares;
    let mut sums = numbers(sums.into_iter()).into_iter();
    let mut norms = BTreeMap::<String, f64>::new();
    for (tower, measured) in towers {
        let square = if measured { sums.next() } else { None };
        *norms.entry(tower.into()).or_default() += square.unwrap_or_default();
    }
    norms.values_mut().for_each(|square| *square = square.sqrt());
    norms
}

/// The Euclidean length of all gradients taken together, as one vector, from that of each tower.
pub(crate) fn global_norm(norms: &BTreeMap<String, f64>) -> f64 {
    norms.values().map(|norm| norm * norm).sum::<f64>().sqrt()
}

/// The tower that a parameter is in: the first part of its path that begins so.
fn tower(path: &[String]) -> &'static str {
    let of = |part: &String| ["image", "text"].into_iter().find(|tower| part.starts_with(tower));
    path.iter().find_map(of).unwrap_or("rest")
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
    path: Vec<String>,
    /// Of each parameter, and whether it has a gradient.
    towers: Vec<(&'static str, bool)>,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.gradients.get::<D>(param.id);
        self.towers.push((tower(&self.path), gradient.is_some()));
        self.sums.extend(gradient.map(|gradient| gradient.square().sum()));
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
        let norms = norms(&layer, &gradients);
        assert_eq!(norms.keys().collect::<Vec<_>>(), ["rest"]);
        assert!((global_norm(&norms) - 5.0).abs() < 1e-6);
    }

    #[test]
    fn norm_of_each_tower() {
        #[derive(Module, Debug)]
        struct Towers {
            image: Linear,
            text: Linear,
        }
        let (image, gradients) = layer_and_gradients();
        let (text, _) = layer_and_gradients();
        let norms = norms(&Towers { image, text }, &gradients);
        assert_eq!(norms, [("image".to_string(), 5.0), ("text".to_string(), 0.0)].into());
    }

    #[test]
    fn the_tower_of_a_parameter() {
        let of = |path: &str| tower(&path.split('.').map(String::from).collect::<Vec<_>>());
        assert_eq!(of("image.0.SmallCnn.stages.1.conv.weight"), "image");
        assert_eq!(of("features.head.CrossAe.text_decoder.layers.0.bias"), "text");
        assert_eq!(of("features.logit_scale"), "rest");
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
