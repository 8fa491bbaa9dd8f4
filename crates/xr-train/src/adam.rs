use burn::{
    optim::{AdamState, AdaptiveMomentumState, LearningRate, Optimizer},
    tensor::{Device, Tensor},
};
use xr_models::ops::{AdamStep, adam};

use crate::optimizer::{Algorithm, OptimizerConfig};

/// Adam in one pass over a parameter, its gradient and its two running means, where Burn's optimizer
/// of this name makes fifteen. Its state is that of Burn's.
#[derive(Clone, Debug)]
pub(crate) struct Adam {
    algorithm: Algorithm,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
}

impl Adam {
    pub fn new(config: &OptimizerConfig, weight_decay: f64) -> Self {
        let OptimizerConfig { algorithm, betas, epsilon, .. } = *config;
        Self { algorithm, betas, epsilon, weight_decay }
    }

    /// The numbers of the step that is the `time`-th, counted from 1.
    fn at(&self, time: usize, lr: LearningRate) -> AdamStep {
        let [left_1, left_2] = self.betas.map(|beta| 1.0 - beta.powf(time as f64));
        let (penalty, decay) = match self.algorithm {
            Algorithm::Adam => (self.weight_decay, 0.0),
            Algorithm::AdamW => (0.0, lr * self.weight_decay),
        };
        AdamStep {
            rate: (lr / left_1) as f32,
            betas: self.betas.map(|beta| beta as f32),
            complements: self.betas.map(|beta| (1.0 - beta) as f32),
            correction: left_2.sqrt() as f32,
            epsilon: self.epsilon as f32,
            penalty: penalty as f32,
            kept: (1.0 - decay) as f32,
        }
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let (time, means) = match state {
            Some(AdamState { momentum: m }) => (m.time + 1, [m.moment_1, m.moment_2]),
            None => (1, [tensor.zeros_like(), tensor.zeros_like()]),
        };
        let (tensor, [mean, square]) = adam(tensor, grad, means, self.at(time, lr));
        (tensor, Some(AdamState::new(AdaptiveMomentumState::new(time, mean, square))))
    }

    fn to_device<const D: usize>(mut state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}
