use pulp::Simd;
use rayon::prelude::*;

use super::{
    super::super::{
        arch::vectorize,
        product::{MAX_LANES, Panels},
        registers::load,
    },
    PLACES, TAPS,
    tiles::REACH,
    transforms::{Kernel, transform},
};

/// Registers of output channels that are multiplied together.
pub(super) const PANELS: usize = 4;

/// Registers that a thread clears at a time, at least.
const CLEARED: usize = 1 << 12;

/// The kernels of a convolution from some channels to others.
pub(super) struct Weights<'a> {
    pub(super) values: &'a [f32],
    pub(super) channels: [usize; 2],
    /// Are the values those of the convolution whose gradient this one is? Then they lie by the
    /// channels that come in, and each kernel the other way around.
    pub(super) turned: bool,
}

impl Weights<'_> {
    /// The right sides of all products: of [`PANELS`] registers of output channels those of each
    /// place after the other, then of the next ones.
    pub(super) fn transformed<S: Simd>(&self, simd: S) -> Panels<S> {
        let [depth, width] = self.channels;
        let count = PLACES * width.div_ceil(S::F32_LANES) * depth;
        let mut registers = Vec::new();
        let zeros = (0..count).into_par_iter().with_min_len(CLEARED);
        zeros.map(|_| simd.splat_f32s(0.0)).collect_into_vec(&mut registers);
        let groups = registers.par_chunks_mut(PLACES * PANELS * depth).enumerate();
        groups.for_each(|(group, out)| {
            vectorize(
                simd,
                #[inline(always)]
                || self.group(simd, group * PANELS, out),
            );
        });
        Panels::of_registers(registers, depth)
    }

    #[inline(always)]
    fn group<S: Simd>(&self, simd: S, first: usize, out: &mut [S::f32s]) {
        let depth = self.channels[0];
        let count = out.len() / (PLACES * depth);
        for panel in 0..count {
            for step in 0..depth {
                let kernels = self.kernels(simd, first + panel, step);
                transform::<Kernel, S, 3, REACH>(
                    simd,
                    #[inline(always)]
                    |row| kernels[row],
                    #[inline(always)]
                    |place, register| out[(place * count + panel) * depth + step] = register,
                );
            }
        }
    }

    /// From the channel `from` to a register of others.
    #[inline(always)]
    fn kernels<S: Simd>(&self, simd: S, panel: usize, from: usize) -> [[S::f32s; 3]; 3] {
        let [depth, width] = self.channels;
        let first = panel * S::F32_LANES;
        let mut lines = [[0.0; MAX_LANES]; TAPS];
        for (lane, to) in (first..width).take(S::F32_LANES).enumerate() {
            let kernel = if self.turned { from * width + to } else { to * depth + from };
            let kernel = &self.values[kernel * TAPS..][..TAPS];
            for tap in 0..TAPS {
                lines[if self.turned { TAPS - 1 - tap } else { tap }][lane] = kernel[tap];
            }
        }
        let mut square = [[simd.splat_f32s(0.0); 3]; 3];
        for tap in 0..TAPS {
            square[tap / 3][tap % 3] = load(simd, &lines[tap][..S::F32_LANES]);
        }
        square
    }
}
