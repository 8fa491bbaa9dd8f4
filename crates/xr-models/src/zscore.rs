use burn::{
    module::{Module, RunningState},
    tensor::{Device, Tensor, TensorData},
};
use xr_data::Embeddings;

/// Share of the median deviation below which a deviation counts as no spread at all.
const FLOOR: f32 = 0.1;

/// Moves and scales each feature to mean 0 and standard deviation 1: `z = (x - mean) / std`.
///
/// The statistics are those of the training split. They are saved with the model, and are neither
/// trained nor decayed: to the optimizer they are state, like the running mean of a batch norm.
#[derive(Module, Debug)]
pub struct ZScore {
    /// Mean of each feature, `[width]`.
    pub mean: RunningState<Tensor<1>>,
    /// Standard deviation of each feature, floored, `[width]`.
    pub std: RunningState<Tensor<1>>,
}

impl ZScore {
    /// Statistics that change nothing: mean 0, deviation 1.
    pub fn identity(width: usize, device: &Device) -> Self {
        Self::new(Tensor::zeros([width], device), Tensor::ones([width], device))
    }

    /// The statistics of `features`, every row counted once.
    ///
    /// A deviation (of the population: divided by the number of rows) below a tenth of the median
    /// deviation is raised to that. Otherwise a feature that never varies, and the published
    /// MiniLM has three, would turn the noise of one new input into the largest value of all.
    pub fn fit(features: &Embeddings, device: &Device) -> Self {
        let (mean, std) = moments(features);
        let tensor = |values: Vec<f32>| {
            let width = values.len();
            Tensor::from_data(TensorData::new(values, [width]), device)
        };
        Self::new(tensor(mean), tensor(floored(std)))
    }

    /// Applies the statistics.
    ///
    /// # Shapes
    /// - input: `[batch, width]`
    /// - output: `[batch, width]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        (x - self.mean.value().unsqueeze()) / self.std.value().unsqueeze()
    }

    fn new(mean: Tensor<1>, std: Tensor<1>) -> Self {
        Self { mean: RunningState::new(mean), std: RunningState::new(std) }
    }
}

/// Mean and population deviation of each column, summed in `f64`.
fn moments(features: &Embeddings) -> (Vec<f32>, Vec<f32>) {
    let rows = features.rows() as f64;
    let mut mean = vec![0.0; features.dim()];
    for row in features.values().chunks_exact(features.dim()) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x) / rows);
    }
    let mut variance = vec![0.0; features.dim()];
    for row in features.values().chunks_exact(features.dim()) {
        let centred = row.iter().zip(&mean).map(|(x, m)| f64::from(*x) - m);
        variance.iter_mut().zip(centred).for_each(|(v, d)| *v += d * d / rows);
    }
    let std = variance.iter().map(|v| v.sqrt() as f32).collect();
    (mean.iter().map(|m| *m as f32).collect(), std)
}

/// Raises what is below [`FLOOR`] of the median; when half or more are 0, those become 1.
fn floored(mut std: Vec<f32>) -> Vec<f32> {
    let mut sorted = std.clone();
    sorted.sort_by(f32::total_cmp);
    let floor = match FLOOR * sorted[sorted.len() / 2] {
        0.0 => 1.0,
        floor => floor,
    };
    std.iter_mut().filter(|s| **s < floor).for_each(|s| *s = floor);
    std
}

#[cfg(test)]
mod tests {
    use xr_data::Fingerprint;

    use super::*;

    fn fit(rows: &[[f32; 4]]) -> ZScore {
        let rows = Embeddings::new(rows.as_flattened().to_vec(), 4, Fingerprint::of(["test"]));
        ZScore::fit(&rows, &Device::flex())
    }

    fn values(state: &RunningState<Tensor<1>>) -> Vec<f32> {
        state.value().into_data().try_into_vec_as().unwrap()
    }

    #[test]
    fn a_constant_feature_gets_a_tenth_of_the_median_deviation() {
        // Deviations 1, 2, 2 and 0: the median (the upper of two) is 2.
        let z = fit(&[[0.0, 1.0, -2.0, 5.0], [2.0, 5.0, 2.0, 5.0]]);
        assert_eq!(values(&z.mean), [1.0, 3.0, 0.0, 5.0]);
        assert_eq!(values(&z.std), [1.0, 2.0, 2.0, 0.2]);
    }

    #[test]
    fn features_that_never_vary_are_only_moved() {
        let z = fit(&[[3.0; 4], [3.0; 4]]);
        let x = Tensor::from_data([[3.0, 4.0, 5.0, 6.0]], &Device::flex());
        let moved = TensorData::from([[0.0f32, 1.0, 2.0, 3.0]]);
        z.forward(x).into_data().assert_eq(&moved, true);
    }

    #[test]
    fn the_rows_it_was_fitted_to_have_mean_0_and_deviation_1() {
        let rows = [[0.0, 1.0, -2.0, 5.0], [2.0, 5.0, 2.0, 9.0]];
        let z = fit(&rows).forward(Tensor::from_data(rows, &Device::flex()));
        z.into_data().assert_eq(&TensorData::from([[-1.0f32; 4], [1.0; 4]]), true);
    }

    #[test]
    fn the_identity() {
        let x = Tensor::<2>::from_data([[1.5, -2.0]], &Device::flex());
        let z = ZScore::identity(2, &Device::flex()).forward(x.clone());
        z.into_data().assert_eq(&x.into_data(), true);
    }
}
