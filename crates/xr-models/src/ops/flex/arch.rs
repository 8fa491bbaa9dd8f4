//! The instruction sets that kernels are compiled for.
//!
//! `arch.dispatch(#[inline(always)] || kernel(..))` compiles the kernel once for AVX-512, once for
//! AVX2 and once for any processor (NEON on aarch64), and picks at run time. The kernel and all it
//! calls must be `#[inline(always)]`, or they are compiled for the oldest processors alone.

pub(in crate::ops) use pulp::Arch;

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
