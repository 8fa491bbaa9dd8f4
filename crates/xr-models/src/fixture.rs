//! Small models made by PyTorch, for tests: see `reference/fixtures_*.py`.

use std::path::PathBuf;

use burn::{
    module::Module,
    tensor::{Bool, Device, Int, Tensor, TensorData, Tolerance},
};
use safetensors::SafeTensors;

use crate::weights_file::{Format, Layout, WeightsFile};

/// What a fixture's tests feed and expect is called `test.*`; all else is weights.
const TEST: &str = "test.";

pub(crate) struct Fixture {
    path: PathBuf,
    content: Vec<u8>,
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let path = PathBuf::from(folder).join(name).with_extension("safetensors");
        Self { content: std::fs::read(&path).unwrap(), path }
    }

    /// The module with all weights of the fixture.
    pub(crate) fn load<M: Module>(&self, module: M, rename: fn(&str) -> String) -> M {
        let format = Format {
            model: "a fixture",
            rename,
            ignored: |name| name.starts_with(TEST),
            layout: Layout::PyTorch,
        };
        WeightsFile::open(&self.path).unwrap().load(module, &format).unwrap()
    }

    pub(crate) fn data(&self, name: &str) -> TensorData {
        let file = SafeTensors::deserialize(&self.content).unwrap();
        let tensor = file.tensor(&format!("{TEST}{name}")).unwrap();
        let words = tensor.data().chunks_exact(4).map(|b| b.try_into().unwrap());
        let shape = tensor.shape().to_vec();
        match tensor.dtype() {
            safetensors::Dtype::I32 => {
                TensorData::new(words.map(i32::from_le_bytes).collect::<Vec<_>>(), shape)
            }
            _ => TensorData::new(words.map(f32::from_le_bytes).collect::<Vec<_>>(), shape),
        }
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.data(name), device)
    }

    /// `ids` and `mask`.
    pub(crate) fn texts(&self, device: &Device) -> (Tensor<2, Int>, Tensor<2, Bool>) {
        let mask = Tensor::<2, Int>::from_data(self.data("mask"), device);
        (Tensor::from_data(self.data("ids"), device), mask.equal_elem(1))
    }

    /// Is `found` what the fixture has under this name?
    ///
    /// To 1e-4 of the value: sums in another order differ in the seventh digit, and a few layers of
    /// them in the sixth; a wrong epsilon or GELU shows in the third. Values near zero are
    /// differences of larger ones, hence 1e-5 in absolute terms.
    pub(crate) fn assert<const D: usize>(&self, name: &str, found: Tensor<D>) {
        let tolerance = Tolerance::rel_abs(1e-4, 1e-5);
        found.into_data().assert_approx_eq::<f32>(&self.data(name), tolerance);
    }
}
