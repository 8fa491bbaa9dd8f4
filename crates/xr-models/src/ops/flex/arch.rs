//! The instruction sets that kernels are compiled for.
//!
//! [`dispatch`] compiles a kernel once for AVX-512, once for AVX2 and once for any processor (NEON on
//! aarch64), and picks at run time. The kernel and all it calls must be `#[inline(always)]`, or they
//! are compiled for the oldest processors alone.

pub(in crate::ops) use pulp::Arch;
use pulp::{Simd, WithSimd, bytemuck::cast};

/// Runs a kernel compiled for an instruction set that the processor has.
///
/// Not `arch.dispatch(kernel)`: that takes `FnOnce`, and a closure that could be called twice is
/// called through an adapter then, which is compiled for the oldest processors.
#[inline(always)]
pub(in crate::ops) fn dispatch<T>(arch: Arch, kernel: impl FnMut() -> T) -> T {
    arch.dispatch(Kernel(kernel))
}

/// The same inside a kernel: on another thread it isn't compiled for the instruction set any more.
#[inline(always)]
pub(super) fn vectorize<S: Simd, T>(simd: S, kernel: impl FnMut() -> T) -> T {
    simd.vectorize(Kernel(kernel))
}

/// `yes` where the mask is true and `no` elsewhere.
///
/// `Simd::select_f32s` without its calls: those aren't always inlined in the development profile.
#[inline(always)]
pub(super) fn select<S: Simd>(simd: S, mask: S::m32s, yes: S::f32s, no: S::f32s) -> S::f32s {
    cast(simd.select_u32s(mask, cast(yes), cast(no)))
}

struct Kernel<F>(F);

impl<T, F: FnMut() -> T> WithSimd for Kernel<F> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> T {
        (self.0)()
    }
}

/// Every instruction set that this processor has, the portable one first.
#[cfg(test)]
pub(in crate::ops) fn all() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(pulp::x86::V3::try_new().map(Arch::V3));
        all.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    #[cfg(target_arch = "aarch64")]
    all.push(Arch::new());
    all
}
