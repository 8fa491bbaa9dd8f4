use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};

/// Moves the running mean of a model's weights towards the model: `mean += (1 − keep) (w − mean)`.
///
/// What isn't trained, frozen weights and running statistics, is copied. `mean` comes from
/// `model.valid()`, so that the ids of parameters agree.
pub(crate) fn follow<M: Module>(mean: M, model: &M, keep: f64) -> M {
    let mut current = Current::default();
    // Brings running statistics up to date, which are otherwise seen one step late.
    model.valid();
    model.visit(&mut current);
    mean.map(&mut Follow { current, keep })
}

/// The weights of a model by id. `GradientsParams` is Burn's map from ids to tensors of any rank.
#[derive(Default)]
struct Current {
    trained: GradientsParams,
    other: GradientsParams,
}

impl ModuleVisitor for Current {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let to = if param.is_require_grad() { &mut self.trained } else { &mut self.other };
        to.register(param.id, param.val().without_autodiff());
    }
}

struct Follow {
    current: Current,
    keep: f64,
}

impl ModuleMapper for Follow {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if let Some(weight) = self.current.trained.remove::<D>(param.id) {
            let step = 1.0 - self.keep;
            return param.map(|mean| mean.clone() + (weight - mean) * step);
        }
        match self.current.other.remove::<D>(param.id) {
            Some(value) => param.map(|_| value),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{module::Param, nn::Linear, tensor::Device};

    use super::*;

    fn layer(weight: f32, bias: f32) -> Linear {
        let device = Device::flex().autodiff();
        Linear {
            weight: Param::from_data([[weight]], &device),
            bias: Some(Param::from_data([bias], &device).set_require_grad(false)),
        }
    }

    #[test]
    fn moves_a_part_of_the_way_and_copies_what_is_frozen() {
        let model = layer(1.0, 5.0);
        let mean = model.valid();
        let weight = |layer: &Linear| layer.weight.val().into_scalar::<f32>();
        let mut moved = model;
        moved.weight = moved.weight.map(|w| Tensor::from_inner(w.inner() + 4.0).require_grad());
        moved.bias = moved.bias.map(|b| b.map(|b| b + 1.0));
        let mean = follow(follow(mean, &moved, 0.75), &moved, 0.75);
        // 1 → 1 + ¼·4 = 2 → 2 + ¼·3 = 2.75
        assert_eq!(weight(&mean), 2.75);
        assert_eq!(mean.bias.unwrap().val().into_scalar::<f32>(), 6.0);
    }
}
