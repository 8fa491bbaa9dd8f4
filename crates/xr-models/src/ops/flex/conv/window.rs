//! Which values of a picture a kernel covers where.

/// One axis of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::ops::flex) struct Axis {
    pub(in crate::ops::flex) input: usize,
    pub(in crate::ops::flex) output: usize,
    pub(in crate::ops::flex) kernel: usize,
    pub(in crate::ops::flex) stride: usize,
    pub(in crate::ops::flex) dilation: usize,
    /// Zeros before the first value.
    pub(in crate::ops::flex) padding: usize,
}

impl Axis {
    /// # Panics
    /// If the kernel is larger than the padded input.
    pub(in crate::ops::flex) fn new(
        input: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        (before, after): (usize, usize),
    ) -> Self {
        let (padded, reach) = (input + before + after, dilation * (kernel - 1) + 1);
        assert!(
            reach <= padded,
            "a kernel over {reach} places doesn't fit an input of {padded}, padding included"
        );
        let output = (padded - reach) / stride + 1;
        Self { input, output, kernel, stride, dilation, padding: before }
    }

    /// The input's place under a tap of the kernel; `None` in the padding.
    #[inline(always)]
    pub(in crate::ops::flex) fn source(self, output: usize, tap: usize) -> Option<usize> {
        let place = (output * self.stride + tap * self.dilation).checked_sub(self.padding)?;
        (place < self.input).then_some(place)
    }
}

/// A convolution's sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::ops::flex) struct Window {
    pub(super) batch: usize,
    /// Channels in and out.
    pub(super) channels: [usize; 2],
    pub(super) height: Axis,
    pub(super) width: Axis,
}

impl Window {
    /// Is a pixel of the output made of the same pixel of the input alone?
    pub(super) fn is_pointwise(self) -> bool {
        [self.height, self.width].into_iter().all(|axis| {
            axis.kernel == 1 && axis.stride == 1 && axis.padding == 0 && axis.output == axis.input
        })
    }

    /// Values under the kernel.
    pub(super) fn depth(self) -> usize {
        self.height.kernel * self.width.kernel * self.channels[0]
    }

    /// Pixels of one picture that go in.
    pub(super) fn pixels_in(self) -> usize {
        self.height.input * self.width.input
    }

    /// Pixels of one picture that come out.
    pub(super) fn pixels_out(self) -> usize {
        self.height.output * self.width.output
    }

    /// Values of all pictures that go in.
    pub(super) fn values_in(self) -> usize {
        self.batch * self.pixels_in() * self.channels[0]
    }

    /// Values of all pictures that come out.
    pub(super) fn values_out(self) -> usize {
        self.batch * self.pixels_out() * self.channels[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensorflow_same_pads_after() {
        // 224 → 112 with a kernel of 3: one zero, at the end.
        let axis = Axis::new(224, 3, 2, 1, (0, 1));
        assert_eq!(axis.output, 112);
        assert_eq!([0, 1, 2].map(|tap| axis.source(111, tap)), [Some(222), Some(223), None]);
    }

    #[test]
    fn dilated() {
        let axis = Axis::new(5, 3, 1, 2, (2, 2));
        assert_eq!(axis.output, 5);
        assert_eq!([0, 1, 2].map(|tap| axis.source(1, tap)), [None, Some(1), Some(3)]);
    }

    #[test]
    #[should_panic(expected = "a kernel over 5 places doesn't fit an input of 4")]
    fn too_large_a_kernel() {
        Axis::new(2, 5, 1, 1, (1, 1));
    }
}
