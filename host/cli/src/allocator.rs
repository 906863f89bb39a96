//! What the allocator keeps of freed memory, set once before there are threads. Must not know: who takes memory, and for what.
//!
//! glibc gives a large block back to the system when it is freed, but raises what "large" means with each one, up to 32 MiB; what is smaller
//! comes from one of up to eight arenas per core and stays resident. A daemon that was once sent a few large bodies would hold them for ever.
//! Other C libraries do otherwise and are left alone.
#![allow(unsafe_code, reason = "`mallopt` is a foreign function; nothing else here is unsafe")]

/// Blocks from this size on go back to the system when they are freed. Reads, chunks and the log's buffers are smaller.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1024 * 1024;
/// How much that is free an arena keeps at its end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 4 * 1024 * 1024;

/// Bounds what the allocator keeps. Where it refuses, its own bounds hold.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn bound() {
    // SAFETY: it takes two numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Nothing to bound.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn bound() {}
