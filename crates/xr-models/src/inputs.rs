use std::{cell::RefCell, collections::HashMap, mem};

use burn::{module::ParamId, tensor::Tensor};
use ndarray::Array2;

use crate::cholesky::to_array;

/// What is added to the mean square of each input, as a share of the mean of all of them: some inputs
/// are always 0, and some samples too few.
const DAMPING: f64 = 0.01;

thread_local! {
    /// Where what this thread's layers are given is added.
    static OBSERVED: RefCell<Option<Inputs>> = const { RefCell::new(None) };
}

/// What the layers of a model were given, as far as rounding their weights needs to know it: the mean
/// products of each two of their inputs.
///
/// Linear layers are observed, and convolutions of single pixels.
#[derive(Clone, Debug, Default)]
pub struct Inputs(HashMap<ParamId, Products>);

/// Products of each two inputs, summed over rows.
#[derive(Clone, Debug)]
struct Products {
    sum: Array2<f64>,
    rows: usize,
}

impl Inputs {
    /// Runs models on this thread, and adds what their layers are given.
    pub fn observe<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let outer = OBSERVED.replace(Some(mem::take(self)));
        let result = run();
        *self = OBSERVED.replace(outer).expect("was put there above");
        result
    }

    /// The mean products for the layer that has this weight, `[inputs, inputs]`, damped.
    pub(crate) fn of(&self, weight: ParamId) -> Option<Array2<f64>> {
        let Products { sum, rows } = self.0.get(&weight)?;
        let mut mean = sum / *rows as f64;
        let damping = DAMPING * mean.diag().mean()?;
        mean.diag_mut().mapv_inplace(|x| x + damping);
        Some(mean)
    }

    fn add(&mut self, weight: ParamId, products: Array2<f64>, rows: usize) {
        let none = || Products { sum: Array2::zeros(products.dim()), rows: 0 };
        let all = self.0.entry(weight).or_insert_with(none);
        all.sum += &products;
        all.rows += rows;
    }
}

/// Says that the layer with this weight is given these rows, if anyone wants to know.
pub(crate) fn given(weight: ParamId, rows: impl FnOnce() -> Tensor<2>) {
    if OBSERVED.with_borrow(Option::is_none) {
        return;
    }
    let x = rows();
    let [rows, _] = x.dims();
    // Not while the cell is borrowed: a thread of the pool that waits may run other models.
    let products = to_array(x.clone().transpose().matmul(x));
    OBSERVED.with_borrow_mut(|observed| {
        if let Some(inputs) = observed {
            inputs.add(weight, products, rows);
        }
    });
}

/// Where this thread's layers are observed, to be [put back](put_back): another thread works for it.
pub(crate) fn take() -> Option<Inputs> {
    OBSERVED.take()
}

pub(crate) fn put_back(inputs: Option<Inputs>) {
    OBSERVED.set(inputs);
}

#[cfg(test)]
mod tests {
    use burn::{nn::LinearConfig, tensor::Device};
    use ndarray::array;

    use super::*;
    use crate::{
        in_pool,
        ops::{self, Activation},
    };

    #[test]
    fn mean_products_of_what_a_layer_was_given_while_observed() {
        let device = Device::flex();
        let layer = LinearConfig::new(2, 3).init(&device);
        let run = |rows: [[f32; 2]; 2]| {
            let rows = Tensor::<2>::from_data(rows, &device).unsqueeze::<3>();
            in_pool(|| ops::layer(&layer, rows, Activation::Identity))
        };
        let mut inputs = Inputs::default();
        run([[9.0, 9.0], [9.0, 9.0]]);
        inputs.observe(|| run([[1.0, 2.0], [3.0, 0.0]]));
        run([[9.0, 9.0], [9.0, 9.0]]);
        inputs.observe(|| run([[-1.0, 2.0], [1.0, 0.0]]));
        // Sums of 12 and 8 over four rows; their damping is a hundredth of (3 + 2) / 2.
        let found = inputs.of(layer.weight.id).unwrap();
        assert_eq!(found, array![[3.025, 0.0], [0.0, 2.025]]);
        assert!(inputs.of(ParamId::new()).is_none());
    }

    #[test]
    fn an_observation_within_another() {
        let device = Device::flex();
        let layer = LinearConfig::new(1, 1).init(&device);
        let run = |x: f32| {
            let x = Tensor::<2>::from_data([[x]], &device);
            ops::layer(&layer, x, Activation::Identity)
        };
        let [mut outer, mut inner] = [Inputs::default(), Inputs::default()];
        outer.observe(|| {
            run(2.0);
            inner.observe(|| run(3.0));
        });
        let of = |inputs: &Inputs| inputs.of(layer.weight.id).unwrap()[[0, 0]];
        assert_eq!([of(&outer), of(&inner)], [4.04, 9.09]);
    }
}
