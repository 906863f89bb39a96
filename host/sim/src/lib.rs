//! Whole lives of the daemon in memory, from a seed: the same sequencer, log, aggregation, flush and recovery as in the daemon, stepped in an
//! order that chance decides, on a disk that tears, loses and refuses, under a clock that jumps, with plugins that are swapped and clients
//! that remember what they were told. What must hold is known from outside, by the oracle. For tests; nothing here is part of the program.
//!
//! ```text
//! seed -> World { clients, disk, clock, plugins } -> Machines (one life) -> fault -> Machines (the next) -> ... -> oracle, verify
//! ```

pub mod changes;
pub mod cli;
pub mod counts;
pub mod events;
pub mod flips;
pub mod machines;
pub mod oracle;
pub mod producer;
pub mod random;
pub mod runs;
pub mod world;
