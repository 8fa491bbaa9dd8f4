use pulp::{Simd, WithSimd};

/// Runs a kernel compiled for an instruction set. The kernel and all that it calls must be
/// `#[inline(always)]`.
///
/// Not `simd.vectorize(kernel)`: that takes `FnOnce`, and a closure that could be called twice is
/// called through an adapter then, which is compiled for the oldest processors.
#[inline(always)]
pub(super) fn vectorize<S: Simd, T>(simd: S, kernel: impl FnMut() -> T) -> T {
    simd.vectorize(Kernel(kernel))
}

struct Kernel<F>(F);

impl<T, F: FnMut() -> T> WithSimd for Kernel<F> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> T {
        (self.0)()
    }
}
