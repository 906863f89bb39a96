//! What the allocator keeps of freed memory. Must not know: who takes memory, and for what.
//!
//! glibc gives a large block back to the system when it is freed, but raises what "large" means with each one, up to 32 MiB; what is smaller
//! comes from one of up to eight arenas per core and stays resident. A daemon that was once sent a few large bodies would hold them for ever,
//! and what passes from thread to thread leaves gaps in every arena. Other C libraries do otherwise and are left alone.
#![allow(unsafe_code, reason = "`mallopt` and `malloc_trim` are foreign functions; nothing else here is unsafe")]

/// Blocks from this size on go back to the system when they are freed. Reads, chunks and the log's buffers are smaller.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1024 * 1024;
/// How much that is free an arena keeps at its end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 4 * 1024 * 1024;
/// Arenas in all. Between queue and Wasm there is nothing to allocate per event, so threads hardly meet at their locks.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;

/// Bounds what the allocator keeps; once, before there are threads. Where it refuses, its own bounds hold.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn bound() {
    // SAFETY: it takes two numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// Gives back what is free, wherever it lies. Others wait for memory meanwhile, and take it anew later: for quiet moments.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: it takes a number, and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Nothing to bound.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn bound() {}

/// Nothing to give back.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
