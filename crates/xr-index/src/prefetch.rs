/// Bytes between what is read and what is asked for: the latency of memory at the speed of a core.
const AHEAD: usize = 4096;

/// Asks for what lies behind `values` and will be needed soon. Where several rows are read at once, a
/// processor doesn't foresee what comes next. A hint, and only on x86.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
pub(crate) fn prefetch_behind<T>(values: &[T]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = values.as_ptr().cast::<i8>();
        for line in (AHEAD..AHEAD + size_of_val(values)).step_by(64) {
            // SAFETY: every x86-64 has the instruction. It reads nothing and may be given any
            // address, also one behind the end of all values.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line)) };
        }
    }
}
