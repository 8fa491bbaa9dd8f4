use burn::{
    lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler},
    module::{Module, ModuleVisitor, Param, ParamGroup, ParamGroupError},
    optim::ModuleOptimizer,
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, adam::Adam};

/// Adam and its settings. The defaults are those of PyTorch, with a weight decay of 1e-5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// How weight decay enters.
    pub algorithm: Algorithm,
    /// Learning rate, before the schedule.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// What is decayed.
    pub decay: Decay,
    /// β₁ and β₂: how much of the running means of gradients and squared gradients is kept.
    pub betas: [f64; 2],
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// Learning rates of parts of the model; of several that match a parameter the last counts.
    pub rates: Vec<Rate>,
}

/// How weight decay enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Added to the gradient: an L2 penalty, as in `torch.optim.Adam` (Kingma and Ba 2015).
    Adam,
    /// Apart from the gradient, as in `torch.optim.AdamW` (Loshchilov and Hutter 2019).
    AdamW,
}

/// Which parameters weight decay applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// All of them, as PyTorch does.
    All,
    /// Those of two and more dimensions: no biases, norms or temperatures.
    Matrices,
}

/// The learning rate of a part of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// A regular expression on the parameter's path, such as `^text\.`.
    pub parameters: String,
    /// What the learning rate is multiplied by.
    pub factor: f64,
    /// The epoch, counted from 1, in which it is first trained (staged unfreezing, Howard and Ruder
    /// 2018). Before that its learning rate is 0, and Adam's means follow its gradients already.
    #[serde(default = "first_epoch")]
    pub from_epoch: usize,
}

fn first_epoch() -> usize {
    1
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Adam,
            lr: 1e-3,
            weight_decay: 1e-5,
            decay: Decay::All,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            rates: vec![],
        }
    }
}

impl OptimizerConfig {
    /// The optimizer of `model`.
    pub fn init<M: Module>(&self, model: &M) -> ModuleOptimizer {
        let undecayed = match self.decay {
            Decay::All => vec![],
            Decay::Matrices => Vectors::of(model),
        };
        let decayed = Adam::new(self, self.weight_decay);
        let plain = Adam::new(self, 0.0);
        ModuleOptimizer::from(decayed).with_group(ParamGroup::from_paths(undecayed), plain, None)
    }

    /// The learning rates of all parts of the model.
    ///
    /// # Errors
    /// [`Error::Pattern`] when one of `rates` is no regular expression.
    pub fn rates(&self) -> Result<Rates> {
        let groups = self.rates.iter().map(|rate| Ok((rate.group()?, rate.clone())));
        Ok(Rates(groups.collect::<Result<_>>()?))
    }
}

/// Parts of a model, and the rate of each.
#[derive(Debug)]
pub struct Rates(Vec<(ParamGroup, Rate)>);

impl Rates {
    /// The learning rate of every parameter in an epoch, counted from 0, when that of the schedule
    /// is `lr`.
    pub fn at(&self, epoch: usize, lr: f64) -> ModuleLearningRate {
        let base = ModuleLrScheduler::new(lr);
        let with = |rates: ModuleLrScheduler, (group, rate): &(ParamGroup, Rate)| {
            let factor = if epoch + 1 < rate.from_epoch { 0.0 } else { rate.factor };
            rates.with_group(group.clone(), lr * factor)
        };
        self.0.iter().fold(base, with).step()
    }
}

impl Rate {
    /// The rate of a part that is trained from the beginning.
    pub fn new(parameters: &str, factor: f64) -> Self {
        Self { parameters: parameters.into(), factor, from_epoch: first_epoch() }
    }

    fn group(&self) -> Result<ParamGroup> {
        ParamGroup::from_regex(&self.parameters).map_err(|error| {
            let ParamGroupError::InvalidPatternError(why) = error;
            // A drawing of the place comes first, and what is wrong last.
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Error::Pattern { pattern: self.parameters.clone(), why: why.into() }
        })
    }
}

/// Collects the paths of parameters of fewer than two dimensions.
#[derive(Default)]
struct Vectors {
    path: Vec<String>,
    paths: Vec<String>,
}

impl Vectors {
    fn of<M: Module>(model: &M) -> Vec<String> {
        let mut vectors = Self::default();
        model.visit(&mut vectors);
        vectors.paths
    }
}

impl ModuleVisitor for Vectors {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        if D < 2 {
            self.paths.push(self.path.join("."));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{nn::Linear, optim::GradientsParams, tensor::Device};

    use super::*;

    /// Weight and bias, 1 each, after a step in an epoch.
    fn stepped(config: &OptimizerConfig, epoch: usize) -> [f32; 2] {
        let device = Device::flex().autodiff();
        let layer = Linear {
            weight: Param::from_data([[1f32]], &device),
            bias: Some(Param::from_data([1f32], &device)),
        };
        let loss = layer.forward(Tensor::<2>::ones([1, 1], &device));
        let gradients = GradientsParams::from_grads(loss.backward(), &layer);
        let rates = config.rates().unwrap().at(epoch, config.lr);
        let layer = config.init(&layer).step(rates, layer, gradients);
        [layer.weight.val().into_scalar(), layer.bias.unwrap().val().into_scalar()]
    }

    #[test]
    fn parts_of_the_model_have_rates_of_their_own() {
        let config = OptimizerConfig {
            lr: 0.25,
            weight_decay: 0.0,
            // The last that matches counts.
            rates: vec![
                Rate::new("bias", 2.0),
                Rate::new("^bias$", 0.5),
                Rate::new("nothing", 9.0),
            ],
            ..OptimizerConfig::default()
        };
        // Adam's first step is the learning rate, whatever the gradient.
        let [weight, bias] = stepped(&config, 0);
        assert!((weight - 0.75).abs() < 1e-6 && (bias - 0.875).abs() < 1e-6, "{weight}, {bias}");
    }

    #[test]
    fn a_part_that_is_trained_from_the_third_epoch_on() {
        let rates = vec![Rate { from_epoch: 3, ..Rate::new("bias", 1.0) }];
        let config = OptimizerConfig { lr: 0.25, rates, ..OptimizerConfig::default() };
        assert_eq!([0, 1].map(|epoch| stepped(&config, epoch)[1]), [1.0; 2]);
        let [weight, bias] = stepped(&config, 2);
        assert!((weight - bias).abs() < 1e-6 && bias < 0.76, "{weight}, {bias}");
        let read: Rate = serde_json::from_str(r#"{"parameters": "bias", "factor": 1}"#).unwrap();
        assert_eq!(read, Rate::new("bias", 1.0));
    }

    #[test]
    fn a_pattern_that_is_none() {
        let config = OptimizerConfig { rates: vec![Rate::new("(", 1.0)], ..Default::default() };
        let error = config.rates().unwrap_err().to_string();
        assert_eq!(error, "`optimizer.rates`: `(` is no regular expression: unclosed group");
    }
}
