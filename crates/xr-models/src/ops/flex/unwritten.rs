// The one place where values are given out before they are written.
#![allow(unsafe_code)]

/// Values to be written, every one of them: what is there before that is nobody's.
///
/// Zeros instead would be a second pass over memory, as expensive as many a kernel. Where
/// assertions are on they are NaN, so that a test sees one that was forgotten.
pub(super) fn unwritten(len: usize) -> Vec<f32> {
    if cfg!(debug_assertions) {
        return vec![f32::NAN; len];
    }
    let values = Box::new_uninit_slice(len);
    // SAFETY: the kernels that call this write every value before any is read, so none that is not
    // initialised is ever looked at; `f32` has no bits that would be invalid.
    unsafe { Box::<[std::mem::MaybeUninit<f32>]>::assume_init(values) }.into_vec()
}
