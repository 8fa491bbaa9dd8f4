use super::LINE;

/// What is needed soon, to be brought towards the cache bit by bit.
pub(super) struct Ahead<'a> {
    values: &'a [f32],
    /// At each look.
    lines: usize,
}

impl<'a> Ahead<'a> {
    #[inline(always)]
    pub(super) fn new(values: &'a [f32], looks: usize) -> Self {
        Self { values, lines: values.len().div_ceil(LINE).div_ceil(looks.max(1)) }
    }

    #[inline(always)]
    pub(super) fn look(&mut self) {
        for _ in 0..self.lines {
            let Some(value) = self.values.first() else { return };
            prefetch(value);
            self.values = &self.values[LINE.min(self.values.len())..];
        }
    }
}

/// Asks for a value that is needed soon; a hint, and only on x86.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and the address is a reference's.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast()) };
    }
}
