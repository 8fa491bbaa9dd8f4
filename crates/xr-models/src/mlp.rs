use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use crate::ops::{self, Activation};

/// Configuration of an [`Mlp`]. The widths of its two ends come from what it stands between.
#[derive(Config, Debug, PartialEq)]
pub struct MlpConfig {
    /// Widths of the hidden layers, first to last; empty for a single linear map.
    pub hidden: Vec<usize>,
    /// Probability of dropping an input value while training.
    #[config(default = 0.0)]
    pub input_dropout: f64,
    /// Probability of dropping a value after each hidden ReLU while training.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Linear layers with a ReLU, then dropout, between each two; the last layer is linear.
#[derive(Module, Debug)]
pub struct Mlp {
    input_dropout: Dropout,
    layers: Vec<Linear>,
    dropout: Dropout,
}

impl MlpConfig {
    /// Layers from `input` wide to `output` wide.
    pub fn init(&self, input: usize, output: usize, device: &Device) -> Mlp {
        let from = std::iter::once(input).chain(self.hidden.iter().copied());
        let to = self.hidden.iter().copied().chain([output]);
        Mlp {
            input_dropout: DropoutConfig::new(self.input_dropout).init(),
            layers: from.zip(to).map(|(i, o)| LinearConfig::new(i, o).init(device)).collect(),
            dropout: DropoutConfig::new(self.dropout).init(),
        }
    }

    /// The way back: the hidden widths in the opposite order, without dropout.
    pub fn mirrored(&self) -> Self {
        Self::new(self.hidden.iter().rev().copied().collect())
    }
}

impl Mlp {
    /// Applies the layers.
    ///
    /// # Shapes
    /// - input: `[batch, input]`
    /// - output: `[batch, output]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let last = self.layers.last().expect("at least the output layer");
        ops::layer(last, self.hidden(x), Activation::Identity)
    }

    /// What the last layer is given.
    pub(crate) fn hidden(&self, x: Tensor<2>) -> Tensor<2> {
        let (_, hidden) = self.layers.split_last().expect("at least the output layer");
        let x = ops::dropout(&self.input_dropout, x);
        hidden
            .iter()
            .fold(x, |x, layer| ops::dropout(&self.dropout, ops::layer(layer, x, Activation::Relu)))
    }

    /// The layers with the last one moved.
    ///
    /// # Shapes
    /// - by: `[input of the last + 1, output]`, the bias last
    pub(crate) fn moved(mut self, by: Tensor<2>) -> Self {
        let last = self.layers.last_mut().expect("at least the output layer");
        let inputs = by.dims()[0] - 1;
        let [weight, bias] = [by.clone().narrow(0, 0, inputs), by.narrow(0, inputs, 1)];
        last.weight = last.weight.clone().map(|w| w + weight);
        last.bias = last.bias.take().map(|b| b.map(|b| b + bias.squeeze_dim(0)));
        self
    }

    /// The layers followed by a linear map, as part of the last one.
    ///
    /// # Shapes
    /// - map: `[output, to]`
    pub fn followed_by(mut self, map: &Tensor<2>) -> Self {
        let last = self.layers.last_mut().expect("at least the output layer");
        last.weight = last.weight.clone().map(|weight| weight.matmul(map.clone()));
        last.bias = last
            .bias
            .take()
            .map(|bias| bias.map(|bias| bias.unsqueeze::<2>().matmul(map.clone()).squeeze_dim(0)));
        self
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    fn widths(mlp: &Mlp) -> Vec<[usize; 2]> {
        mlp.layers.iter().map(|layer| layer.weight.dims()).collect()
    }

    #[test]
    fn layers_join_the_two_ends() {
        let device = Device::flex();
        let config = MlpConfig::new(vec![5, 4]);
        assert_eq!(widths(&config.init(7, 2, &device)), [[7, 5], [5, 4], [4, 2]]);
        assert_eq!(widths(&config.mirrored().init(2, 7, &device)), [[2, 4], [4, 5], [5, 7]]);
        assert_eq!(widths(&MlpConfig::new(vec![]).init(7, 2, &device)), [[7, 2]]);
    }

    #[test]
    fn followed_by_a_map() {
        let device = Device::flex();
        let mlp = MlpConfig::new(vec![5]).init(7, 4, &device);
        let normal = |shape: [usize; 2]| Tensor::random(shape, Distribution::Default, &device);
        let (x, map): (Tensor<2>, _) = (normal([3, 7]), normal([4, 2]));
        let expected = mlp.forward(x.clone()).matmul(map.clone()).into_data();
        let found = mlp.followed_by(&map).forward(x).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }

    #[test]
    fn dropout_only_while_training() {
        let device = Device::flex();
        let mlp = MlpConfig::new(vec![64]).with_dropout(0.5).with_input_dropout(0.5);
        let mlp = mlp.init(64, 8, &device.clone().autodiff());
        let x = Tensor::<2>::ones([2, 64], &device);
        let same = |mlp: &Mlp, x: &Tensor<2>| {
            let twice = [0, 1].map(|_| mlp.forward(x.clone()).into_data());
            twice[0] == twice[1]
        };
        assert!(same(&mlp.valid(), &x));
        assert!(!same(&mlp, &Tensor::from_inner(x)));
    }
}
