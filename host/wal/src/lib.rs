//! The durable log: segments, frames, group commit, recovery.
//!
//! The log is the only source of truth of the daemon. It is synchronous, sits on the [`Storage`](tally_storage::Storage) trait (real files
//! in the daemon, a fault-injecting twin in the test kit), and keeps bytes: what a body means is its caller's
//! business. This crate must not know events, JSON, plugins or tokio, and it never reads a clock.
//!
//! # Files
//!
//! One directory holds
//!
//! | Name | What |
//! |---|---|
//! | `wal_0000000001.seg` | a segment; ten digits or more, numbers dense, the highest is the one being written |
//! | `spare_0000000001.tmp` | a file being filled with zeros, or filled and waiting to become a segment; worthless after a restart |
//! | `torn_00001.bin` | bytes of a torn or unsynced tail, copied aside before they were cut; at most [`TORN_KEPT`] are kept |
//! | `quarantine-1/` | what a [`repair`](repair()) took out of a damaged log: a copy of the segment it cut, and the segments after that |
//! | `wal.lock` | locked by the one process that may write |
//!
//! Any other file is left alone.
//!
//! # Format, version 2
//!
//! All integers are little-endian. A segment starts with a header block of 4096 bytes, so that no frame ever shares
//! a sector with it:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | magic `TALLYWAL` |
//! | 8 | 4 | format version, 2 |
//! | 12 | 4 | size of this block, 4096 |
//! | 16 | 8 | segment number, as in the file name |
//! | 24 | 8 | salt: random, new for each segment |
//! | 32 | 8 | number of the first frame |
//! | 40 | 8 | sequence of the first event at or after the first frame |
//! | 48 | 4044 | zeros |
//! | 4092 | 4 | CRC32C of everything before it in this block |
//!
//! Frames follow, each at a multiple of 8 bytes:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 4 | magic `F5 54 46 F8`: bytes that no valid UTF-8 text contains, so events cannot look like frames |
//! | 4 | 4 | body length |
//! | 8 | 8 | frame number, dense from 1 over the whole log |
//! | 16 | 8 | sequence of the first event, dense from 1 over the whole log |
//! | 24 | 4 | count of events |
//! | 28 | 4 | bit 0: opening frame; the others: how many frames right before this one were not known to be durable when it was written |
//! | 32 | 4 | checksum of the frame before, also across segments; 0 for frame 1 |
//! | 36 | 4 | header checksum: CRC32C of segment number, salt, file offset (8 bytes each) and the 36 bytes above |
//! | 40 | n | body |
//! | 40 + n | 4 | frame checksum: the header checksum, continued over the body |
//! | | 0-7 | zeros up to the next multiple of 8 |
//!
//! Because segment number, salt and offset are under every checksum, a frame is valid only in the one place it was written
//! to: bytes of a recycled file, another log or a copied block never validate. The rest of a segment is zeros.
//!
//! Version 1 is the same but for the bits behind bit 0 of a frame, which are 0: each frame was synced before the next. Its segments are
//! read; nothing is added to one, so a log whose last segment is of version 1 goes on in a new one.
//!
//! # When a frame is durable
//!
//! | [`Durability`] | Durable | A crash of the machine takes | Known from |
//! |---|---|---|---|
//! | `Fsync` | when [`Log::append`] returns | nothing that was appended | |
//! | `Interval` | after the next [`Log::sync`], which the caller owes within the interval | at most about that time | Redis `appendfsync everysec`: a second's worth; PostgreSQL `synchronous_commit = off`: at most three times `wal_writer_delay` |
//! | `Os` | after the next [`Log::sync`], if the caller calls it | what the kernel had not written, up to a segment | Redis `appendfsync no` |
//!
//! A crash of the process alone takes nothing, since what was written is the kernel's. In every mode a segment is synced before the next
//! one appears, deletions sync first, and opening a log makes all of it durable. The modes may change from start to start.
//!
//! # Why recovery can tell what a crash left from corruption
//!
//! *A frame says what was durable before it.* An invalid frame is **corruption** if any valid frame header after it, in the same
//! segment, counts it among the durable ones, or if its segment is not the last: the log refuses to open, names file and offset, and
//! changes nothing. Otherwise it is the first of an **unsynced tail**: from there on everything up to the end of the segment, later frames
//! with a hole before them included, is copied aside, counted ([`Recovered::torn_bytes`], [`Recovered::torn_events`]) and zeroed.
//! So what comes back is always a prefix of what was appended, with everything up to the last sync.
//!
//! *With `Fsync` one frame is in flight*: frame n+1 is written only after frame n is durable, so it counts all before it. An
//! invalid frame with any valid header after it is corruption; one with none after it is the write that a crash interrupted, and was
//! never acknowledged.
//!
//! What this cannot tell is rot in frames that were synced when no frame was written since: the very last one with `Fsync`, those of the
//! last sync otherwise. An empty frame, written when the log goes idle (after a sync), says that they were durable.
//!
//! The others draw the line elsewhere. PostgreSQL ends recovery at the first invalid record, corruption or not, and relies on checkpoints
//! that were synced. RocksDB lets one choose: `kPointInTimeRecovery`, its default, stops at the first invalid record as well and so
//! gives a consistent prefix; `kAbsoluteConsistency` refuses any damage, a torn tail too. Redis loads an append-only file that
//! ends early (`aof-load-truncated`), and refuses one that is damaged in the middle until `redis-check-aof --fix` cuts it there. Here the
//! frames themselves say where the one case ends and the other begins.
//!
//! *A segment appears whole*: header and opening frame are written to a spare and synced before the spare is renamed to
//! its segment name. A segment without a valid header and opening is therefore corruption too, never a crash's doing.
//!
//! *A failed sync is final*: the log refuses everything afterwards. The kernel may then show pages that never reached the disk, so
//! opening a log rewrites all frames whose sync can have failed (with `Fsync` only the last one) with the same bytes before syncing.
//!
//! The disk is trusted in one thing: rewriting a sector with bytes of which some are unchanged never damages those.
//!
//! # Past the page cache
//!
//! With `Fsync` each write waits for the disk anyway, so segments and spares are written past the page cache, in whole blocks, where the file
//! system can do that; the block that a frame ends in is written again with the next frame, its front unchanged ([`tally_storage`] says how
//! and why that is safe). The other modes go through the cache, which makes one write of many. Reading goes
//! the way of the writing.
//!
//! # Limits
//!
//! A body is at most [`Options::max_frame_bytes`] (and 2 GiB); a segment is [`Options::segment_bytes`] long unless a single frame needs more.
//! Opening a log reads the last segment into memory. Spare files take at most `2 * spare_segments * segment_bytes`.
//! Spare files and [`Log::reserve`] leave the last [`Options::segment_bytes`] of the disk free: they are for whatever lets segments go.

mod error;
mod format;
mod inspect;
mod log;
mod options;
mod reader;
mod recover;
mod repair;
mod scan;
mod segments;
mod spares;

pub use error::{AppendError, Corruption, DeleteError, OpenError, ReadError, RepairError};
pub use format::HEADER;
pub use inspect::{Inspection, SegmentState, inspect};
pub use log::{Appended, Log, SegmentInfo};
pub use options::{Durability, Options};
pub use reader::{Frame, Reader, View};
pub use recover::{Recovered, TORN_KEPT, TornTail};
pub use repair::{Cut, Keep, Repair, repair};
