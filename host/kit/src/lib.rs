//! What plugin authors are given beside the SDK: a project to begin with ([`project`]), its build ([`build`]), trials in the
//! daemon's engine ([`samples`], [`laws`]) and a benchmark ([`mod@bench`]).
//!
//! Knows components, events and cargo; must not know the daemon, its log or a command line. Whatever language a component is
//! written in, it is only called by the contract.

pub mod bench;
pub mod build;
pub mod laws;
pub mod project;
mod random;
mod shrink;
mod subject;
mod trial;

pub mod samples;

pub use laws::Law;
pub use subject::Subject;
