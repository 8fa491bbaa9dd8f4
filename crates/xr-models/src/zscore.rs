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

/// Mean and population deviation of each column, summed in `f64` around the first row.
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
