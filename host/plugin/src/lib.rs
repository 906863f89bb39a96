//! The sandbox: loads components, gives each aggregator its instances, bounds what they may use, and turns whatever
//! goes wrong inside into a value. The only crate that knows wasmtime.
//!
//! ```text
//! bytes --Engine::load--> Component --configure--> Configured --instantiate--> Instance --create/load--> Accumulator
//!        hash, validate,             manifest,                 one store,
//!        compile or cache            selfcheck, shard key      one thread at a time
//! ```
//!
//! Nothing here knows the log, sockets, files other than the compilation cache, or which aggregators are configured.
//! It never reads a clock: the wall-clock backstop counts ticks of a thread that only sleeps.
//!
//! What makes the same rows give the same bytes on any machine: no imports but `log`, NaN bits canonical, relaxed SIMD
//! deterministic, no threads, compute counted in fuel and not in time, memory bounded by a fixed number of bytes.
//! What still depends on the machine (the backstop, an operating system out of memory) ends a call with
//! [`CallError::Timeout`] or [`CallError::Memory`], never with an answer.

mod bindings;
mod cache;
mod component;
mod contract;
mod convert;
mod deal;
mod digest;
mod engine;
mod error;
mod instance;
mod limits;
mod sandbox;
mod shards;
mod usage;

pub use component::{Component, Configured, Description};
pub use digest::{Digest, InvalidDigest};
pub use engine::Engine;
pub use error::{CallError, PluginError};
pub use instance::{Accumulator, Instance, Refusal};
pub use limits::Limits;
pub use shards::Shards;
pub use usage::Usage;
