//! The durable log: segments, frames, group commit, recovery.
//!
//! The log is the only source of truth of the daemon. It is synchronous, sits on the small [`Storage`] trait (real files
//! in [`RealStorage`], a fault-injecting twin in the test kit), and keeps bytes: what a body means is its caller's
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
//! | `torn_00001.bin` | bytes of a torn tail, copied aside before they were cut; at most [`TORN_KEPT`] are kept |
//! | `wal.lock` | locked by the one process that may write |
//!
//! Any other file is left alone.
//!
//! # Format, version 1
//!
//! All integers are little-endian. A segment starts with a header block of 4096 bytes, so that no frame ever shares
//! a sector with it:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | magic `TALLYWAL` |
//! | 8 | 4 | format version, 1 |
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
//! | 28 | 4 | flags: bit 0 = opening frame; others must be 0 |
//! | 32 | 4 | checksum of the frame before, also across segments; 0 for frame 1 |
//! | 36 | 4 | header checksum: CRC32C of segment number, salt, file offset (8 bytes each) and the 36 bytes above |
//! | 40 | n | body |
//! | 40 + n | 4 | frame checksum: the header checksum, continued over the body |
//! | | 0-7 | zeros up to the next multiple of 8 |
//!
//! Because segment number, salt and offset are under every checksum, a frame is valid only in the one place it was written
//! to: bytes of a recycled file, another log or a copied block never validate. The rest of a segment is zeros.
//!
//! # Why recovery can tell a torn tail from corruption
//!
//! *One frame is in flight*: frame n+1 is written only after frame n is durable. So an invalid frame with any valid frame
//! header after it was durable once and is corruption: the log refuses to open and changes nothing. An invalid frame
//! with none after it is the write that a crash interrupted; it was never acknowledged, is copied aside and zeroed. What this
//! cannot tell is rot in the very last acknowledged frame; an empty frame written when the log goes idle covers the one before it.
//!
//! *A segment appears whole*: header and opening frame are written to a spare and synced before the spare is renamed to
//! its segment name. A segment without a valid header and opening is therefore corruption too, never a crash's doing.
//!
//! *A failed sync is final*: the log refuses everything afterwards. The kernel may then show pages that never reached the disk, so
//! opening a log rewrites its last frame, the only one whose sync can have failed, with the same bytes before syncing.
//!
//! The disk is trusted in one thing: rewriting a sector with bytes of which some are unchanged never damages those.
//!
//! # Limits
//!
//! A body is at most [`Options::max_frame_bytes`] (and 2 GiB); a segment is [`Options::segment_bytes`] long unless a single frame needs more.
//! Opening a log reads the last segment into memory. Spare files take at most `2 * spare_segments * segment_bytes`.

mod error;
mod format;
mod log;
mod reader;
mod real;
mod recover;
mod scan;
mod segments;
mod spares;
mod storage;

pub use error::{AppendError, Corruption, DeleteError, OpenError, ReadError};
pub use log::{Appended, Log, Options, SegmentInfo};
pub use reader::{Frame, Reader};
pub use real::{RealFile, RealStorage};
pub use recover::{Recovered, TORN_KEPT, TornTail};
pub use storage::{Storage, StorageFile};
