//! One aggregator: two Wasm stores on two threads. `apply` holds the open delta only, `total` the saved past; both are
//! plain state machines, `thread` runs them in the daemon and `verify` runs them over a log at rest.

pub mod apply;
pub mod failures;
pub mod meta;
pub mod meter;
pub mod thread;
pub mod total;

pub use apply::{Apply, Care, Delta, Failed};
pub use failures::{Failures, Next};
pub use meta::{Meta, Pinned};
pub use meter::Meter;
pub use total::{Failure, Total};
