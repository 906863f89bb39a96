//! One aggregator: two Wasm stores. `apply` holds the open delta only, `total` the saved past; both are plain state machines
//! that `verify` runs over a log at rest. In the daemon `follower` leads the one along the log and `keeper` keeps the other,
//! each on a thread of its own.

pub mod apply;
pub mod failures;
pub mod follower;
pub mod keeper;
pub mod line;
pub mod meta;
pub mod meter;
pub mod thread;
pub mod total;

pub use apply::{Apply, Care, Delta, Failed};
pub use failures::{Failures, Next};
pub use follower::{Follower, Moved, Start, presets};
pub use keeper::{Answer, Keeper, TotalMessage};
pub use meta::{Meta, Pinned};
pub use meter::Meter;
pub use total::{Failure, Total};
