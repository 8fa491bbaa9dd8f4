/// Keeps freed memory in the process, for programs to call first thing in `main`.
///
/// glibc gives large tensors back to the system and asks for them again at every operation, and the
/// page faults cost more than the arithmetic: element-wise work on large activations is several
/// times faster without. The price is that the process keeps its peak of memory. A library must
/// not choose that for its users, so nothing here calls this by itself.
///
/// Does nothing where the C library is not glibc.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn glibc() {
    // −1 is never: a step of training on a large batch frees more than the 2 GiB that fit an `i32`,
    // and would ask for them anew each time.
    let settings = [
        (libc::M_MMAP_THRESHOLD, i32::MAX),
        (libc::M_TRIM_THRESHOLD, -1),
        (libc::M_TOP_PAD, 64 << 20),
        (libc::M_ARENA_MAX, 1),
    ];
    for (parameter, value) in settings {
        // SAFETY: `mallopt` sets a parameter of the allocator and may be called at any time; a
        // value that it doesn't know leaves things as they were.
        unsafe { libc::mallopt(parameter, value) };
    }
}
