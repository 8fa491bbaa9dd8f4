//! Values that nobody reads soon, written past the cache: they leave in it what is still needed, and
//! what was in their place isn't read first, as it is when a part of a line is written.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Writes values, past the cache where the processor can.
pub(super) fn stream(values: &[f32], room: &mut [MaybeUninit<f32>]) {
    let values = &values[..room.len()];
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{__m128, _mm_loadu_ps, _mm_sfence, _mm_stream_ps};
        // SAFETY: a register of four may be any four floats.
        let (before, registers, _) = unsafe { room.align_to_mut::<MaybeUninit<__m128>>() };
        let (first, count) = (before.len(), registers.len());
        for (register, values) in registers.iter_mut().zip(values[first..].chunks_exact(4)) {
            // SAFETY: every x86-64 has the instructions; four values are read, and the place of four is
            // aligned and ours.
            unsafe { _mm_stream_ps(register.as_mut_ptr().cast(), _mm_loadu_ps(values.as_ptr())) };
        }
        // SAFETY: every x86-64 has it. Without, another thread could be told that this one is done
        // before it sees what it wrote.
        unsafe { _mm_sfence() };
        let end = first + 4 * count;
        room[..first].write_copy_of_slice(&values[..first]);
        room[end..].write_copy_of_slice(&values[end..]);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    room.write_copy_of_slice(values);
}
