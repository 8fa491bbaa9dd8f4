use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    super::{
        super::{
            arch::Arch,
            arithmetic::Arithmetic,
            bf16::{self, rounded},
            blocks,
            clamp::Clamp,
            packed::packed,
            product::{Finish, Matrix, Panels, Rows, Sums, Write, multiply, product, rows_of_task},
            registers::registers,
            storage::{contiguous, halves, tensor, values},
        },
        window::Window,
    },
    by_pixel,
};

/// `clamp(x * weight + bias) + residual`.
pub(in super::super) struct Forward<'a> {
    pub(in super::super) window: Window,
    pub(in super::super) x: &'a [f32],
    pub(in super::super) weight: &'a FlexTensor,
    /// Is the weight used again, for other batches?
    pub(in super::super) keep_weight: bool,
    pub(in super::super) bias: Option<&'a [f32]>,
    pub(in super::super) residual: Option<&'a [f32]>,
    pub(in super::super) clamp: Clamp,
}

impl WithSimd for Forward<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        self.run(simd)
    }
}

impl Forward<'_> {
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let panels = if self.keep_weight {
            packed(self.weight, || self.pack(simd))
        } else {
            Arc::new(self.pack(simd))
        };
        self.multiply(simd, &panels)
    }

    /// With a weight in bf16, to which `x` is rounded as well. Sums and output are in single
    /// precision.
    pub(in super::super) fn run_bf16(self) -> Vec<f32> {
        self.run_pairs().unwrap_or_else(|| self.run_rounded())
    }

    /// `None` where the processor doesn't multiply pairs.
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) fn run_pairs(&self) -> Option<Vec<f32>> {
        let (simd, pairs) = bf16::Pairs::detect()?;
        let depth = self.window.depth();
        let panels = packed(self.weight, || {
            let weight = halves(self.weight);
            let steps = bf16::Pairs::in_rows(&by_pixel(self.window, &weight), depth);
            let matrix = Matrix::new(&steps, depth.div_ceil(2)).transpose();
            Panels::of_steps(simd, pairs, matrix, depth)
        });
        Some(self.multiply(simd, &panels))
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(in super::super) fn run_pairs(&self) -> Option<Vec<f32>> {
        None
    }

    /// The same in single precision, with values as rounded.
    pub(in super::super) fn run_rounded(&self) -> Vec<f32> {
        let x = rounded(Arch::new(), self.x);
        let shape = self.weight.layout().shape().clone();
        let weight = tensor(bf16::to_single(&halves(self.weight)), shape);
        Arch::new().dispatch(Forward { x: &x, weight: &weight, keep_weight: false, ..*self })
    }

    fn multiply<S: Simd, A: Arithmetic<S>>(&self, simd: S, panels: &Panels<S, A>) -> Vec<f32> {
        let &Self { bias, residual, clamp, .. } = self;
        if bias.is_none() && residual.is_none() && clamp == Clamp::NONE {
            return self.product(simd, panels, Sums);
        }
        let bias = registers(simd, bias.unwrap_or_default());
        self.product(simd, panels, Write { bias: &bias, residual, clamp })
    }

    fn product<S: Simd, A: Arithmetic<S>>(
        &self,
        simd: S,
        panels: &Panels<S, A>,
        finish: impl Finish<S>,
    ) -> Vec<f32> {
        if self.window.is_pointwise() {
            product(simd, self.x, panels, finish, |_| ())
        } else {
            multiply_patches(simd, self.window, self.x, panels, finish)
        }
    }

    fn pack<S: Simd>(&self, simd: S) -> Panels<S> {
        let weight = contiguous(self.weight.clone());
        let weight = by_pixel(self.window, values(&weight));
        Panels::new(simd, Matrix::new(&weight, self.window.depth()).transpose())
    }
}

fn multiply_patches<S: Simd, A: Arithmetic<S>>(
    simd: S,
    window: Window,
    x: &[f32],
    right: &Panels<S, A>,
    finish: impl Finish<S>,
) -> Vec<f32> {
    let (depth, [_, width]) = (window.depth(), window.channels);
    let rows = rows_of_task(window.batch * window.pixels_out(), depth, width);
    blocks::generate_rows(window.values_out(), width, rows, |first, out| {
        let out = out.all();
        let rows = out.len() / width;
        let mut patches = vec![0.0; rows * depth];
        window.gather(x, first..first + rows, &mut patches);
        let (patches, steps) = right.rows(simd, &patches);
        multiply(simd, Rows(&patches, steps), right, finish.skip(first, width), out);
    })
}
