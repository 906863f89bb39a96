//! The daemon: wires the stages together. The data path reads like the picture, in [`pipeline::run`]; everything that is
//! decided is decided in [`sequencer`], everything else follows the log.
//!
//! ```text
//! unix source -> Queue -> parsers -> sequencer -> log (fdatasync) -> Tail -> apply threads -> total threads -> records
//! ```

pub mod aggregator;
pub mod allocator;
pub mod answers;
pub mod at_rest;
pub mod clock;
pub mod config;
pub mod context;
pub mod dead_letters;
pub mod disk;
pub mod doors;
pub mod duplicates;
pub mod feed;
mod guarded;
pub mod life;
pub mod metrics;
pub mod parse;
pub mod pipeline;
pub mod plugins;
pub mod progress;
pub mod records;
pub mod recovery;
pub mod reload;
mod reorder;
pub mod replay;
pub mod sequencer;
pub mod tail;
pub mod verify;

pub use pipeline::run;
pub use reload::Reload;
pub use verify::{VerifyOptions, VerifyReport, verify};

/// Version of the decoder: which lines are events and what their columns hold. Logged, since replay depends on it.
pub const DECODER_VERSION: u32 = 1;

/// Between two tries on a full disk.
const DISK_FULL_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// The folder of the log within the data directory.
pub const LOG_FOLDER: &str = "wal";
