//! glibc's allocator, kept small: few arenas, and free pages given back.

/// Lets all threads share `count` arenas. Before the first thread is started.
pub fn limit_arenas(count: i32) {
    // SAFETY: mallopt takes two integers and touches only the allocator's own settings.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, count) };
}

/// Gives free memory back to the kernel. Walks the heap.
pub fn trim() {
    // SAFETY: malloc_trim locks the arenas itself and may be called at any time from any thread.
    unsafe { libc::malloc_trim(0) };
}
