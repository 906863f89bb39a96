//! The decisions of the daemon, without I/O: what a frame of the log says (entries), what follows from all of it
//! (control state), when to flush, what balances (ledger), what proves equality (chains), which saved runs to merge.
//! Knows no file, socket, clock or Wasm engine: callers hand in bytes and times.

pub mod chain;
pub mod control;
pub mod entry;
pub mod flush;
pub mod ids;
pub mod ledger;
pub mod runs;

pub use chain::Chain;
pub use control::{Anchor, AskedAnchor, Attached, Control, Detached, Line, Plan, Quarantine, Skips};
pub use entry::{Barrier, BodyBuilder, Entries, Entry, EntryError, Flush, Note, Skip};
pub use flush::FlushPolicy;
pub use ids::IdWindow;
pub use ledger::{AggregatorLedger, Counts, Reasons};
