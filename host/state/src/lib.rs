//! The state store: what has been computed so far, kept so that recovery need not replay the whole log.
//!
//! It holds, per aggregator, an opaque description (cursor, chain, settings: the daemon's business) and the saved
//! deltas called runs; the reports that wait for the record writer; and how far the analytics files are committed.
//! Everything in it follows from the log, within the log's retention. It must not know what the bytes mean, what a
//! plugin is, or where the log and the analytics files lie; it reads no clock. Its file lies on any [`Storage`](tally_storage::Storage).
//!
//! # The file
//!
//! One [redb](https://docs.rs/redb) file, [`FILE_NAME`], in the data directory. Tables, all integers little-endian in
//! values:
//!
//! | table         | key                                  | value                                                      |
//! |---------------|--------------------------------------|------------------------------------------------------------|
//! | `format`      | `"format"`                           | the version of everything below, a `u32`; now 1            |
//! | `aggregators` | name                                 | sealed: meta length `u32`, meta, run count `u32`, the runs |
//! | `runs`        | (name, first cut, last cut, part)    | the bytes of a saved delta, cut into parts of 120 KiB      |
//! | `pendings`    | (cut frame, name)                    | sealed: a report that waits for its record                 |
//! | `records`     | `"position"`                         | sealed: how far the analytics files are committed          |
//! | `dead_letters`| (sequence, name)                     | sealed: what is kept of a skipped event; made with the first |
//! | `dead_letters_aside` | the same                      | the same, of names with a NUL                                 |
//!
//! A run in `aggregators` is first cut `u64`, last cut `u64`, level `u8`, length `u64`, BLAKE3 of the bytes (32).
//! *Sealed* means that a BLAKE3 over table, key and payload follows the payload, so that neither a flipped bit nor a
//! value under the wrong key is ever taken for an answer; run bytes are checked against the hash in their list.
//!
//! # Commits
//!
//! Every commit is one transaction that is durable when the call returns: two-phase, with the allocator's state saved
//! in it. That costs a second fsync per cut, and buys a file that needs no repair after `kill -9`, and that reports damage instead of
//! silently falling back to the transaction before. After a failed write or sync every later commit fails; the process must end, and the
//! next one continues from the last durable commit.
//!
//! [`Store::open`] first compares every page in use with its checksum, without changing the file: redb follows a damaged table of free
//! pages over what is still needed, or panics. A start reads the runs anyway, so the file is read twice then, once from the disk.
//!
//! # Limits
//!
//! A run holds up to 1 GiB ([`MAX_VALUE_BYTES`]), a name up to 1 KiB. The file does not shrink while the daemon runs: it keeps the
//! size of the most it held at once (live runs, and those being merged).

mod backend;
mod codec;
mod commit;
mod create;
mod dead_letters;
mod error;
mod guard;
mod overlay;
mod run;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;

pub use commit::Commit;
pub use dead_letters::DeadLetter;
pub use error::StateError;
pub use run::{RunInfo, Saved};
pub use snapshot::Snapshot;
pub use store::{FILE_NAME, Store};

/// The version of the tables and their encodings that this crate writes and reads.
pub const FORMAT: u32 = 1;

/// The most bytes a run, a pending report, a description or a position may have.
pub const MAX_VALUE_BYTES: usize = 1 << 30;

/// The most bytes an aggregator's name may have.
pub const MAX_NAME_BYTES: usize = 1024;
