//! What Tally writes for others to read: analytics files and the file of rejected lines.
//!
//! - [`RecordFiles`] appends one JSON line per flush to `analytics_00001.log` and its successors, durably, and goes back to
//!   what was committed after a crash; [`read_records`] reads them all, [`find_record`] and [`last_record`] one.
//! - [`RejectedFiles`] keeps the newest rejected lines in `rejected_00001.log` and its successors, bounded, best effort.
//!
//! It must not know what a record says, where its numbers come from, or how the committed position is stored: it gives a
//! [`Position`], and takes it back at the next start. It reads no clock.

mod backwards;
mod error;
mod files;
mod find;
mod position;
mod read;
mod rejected;
mod series;
#[cfg(test)]
mod tests;

pub use error::SinkError;
pub use files::{RecordFiles, Recovered, Rotation};
pub use find::{find_record, last_record, newest_rejected};
pub use position::Position;
pub use read::{Record, Records, read_records, read_records_until};
pub use rejected::{KEPT_BYTES, Rejected, RejectedCounts, RejectedFiles};
