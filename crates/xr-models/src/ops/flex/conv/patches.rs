//! The values under the kernel, a row for each pixel of the output (im2col), and back.

use std::ops::Range;

use super::window::Window;

/// Values of one picture that lie side by side in it and in a patch: where in the patch, where in
/// the picture.
struct Run {
    patch: Range<usize>,
    picture: Range<usize>,
}

impl Window {
    /// Writes the patches of these pixels of the output, `[pixel, kernel height, kernel width,
    /// channel]`. Pixels are counted through the whole batch.
    pub(super) fn gather(self, x: &[f32], pixels: Range<usize>, patches: &mut [f32]) {
        for (pixel, patch) in pixels.zip(patches.chunks_exact_mut(self.depth())) {
            patch.fill(0.0);
            self.for_each_run(pixel, |run| patch[run.patch].copy_from_slice(&x[run.picture]));
        }
    }

    /// Adds patches to where [`gather`](Self::gather) takes them from.
    pub(super) fn scatter(self, patches: &[f32], pixels: Range<usize>, x: &mut [f32]) {
        for (pixel, patch) in pixels.zip(patches.chunks_exact(self.depth())) {
            self.for_each_run(pixel, |run| {
                let values = x[run.picture].iter_mut().zip(&patch[run.patch]);
                values.for_each(|(x, patch)| *x += patch);
            });
        }
    }

    #[inline(always)]
    fn for_each_run(self, pixel: usize, mut f: impl FnMut(Run)) {
        let (picture, pixel) = (pixel / self.pixels_out(), pixel % self.pixels_out());
        let (y, x) = (pixel / self.width.output, pixel % self.width.output);
        let taps = self.width.kernel;
        for (tap, row) in
            (0..self.height.kernel).filter_map(|tap| Some((tap, self.height.source(y, tap)?)))
        {
            let row = (picture * self.height.input + row) * self.width.input;
            if self.width.dilation == 1 {
                let (place, inside) = self.taps_inside(x);
                if !inside.is_empty() {
                    f(self.run(tap * taps + inside.start, row + place, inside.len()));
                }
            } else {
                for (column, place) in
                    (0..taps).filter_map(|tap| Some((tap, self.width.source(x, tap)?)))
                {
                    f(self.run(tap * taps + column, row + place, 1));
                }
            }
        }
    }

    /// The taps of a row of the kernel, of dilation 1, that aren't in the padding, and the first
    /// pixel under them.
    #[inline(always)]
    fn taps_inside(self, x: usize) -> (usize, Range<usize>) {
        let (axis, left) = (self.width, x * self.width.stride);
        let first = axis.padding.saturating_sub(left).min(axis.kernel);
        let end = (axis.input + axis.padding).saturating_sub(left).clamp(first, axis.kernel);
        ((left + first).saturating_sub(axis.padding), first..end)
    }

    #[inline(always)]
    fn run(self, tap: usize, pixel: usize, pixels: usize) -> Run {
        let channels = self.channels[0];
        let range = |first: usize| first * channels..(first + pixels) * channels;
        Run { patch: range(tap), picture: range(pixel) }
    }
}
