//! Plugin versions and which of them run: `registry` keeps every version that the log names, `folder` reads the plugins
//! directory, `controller` compares what is wanted with what runs and activates the difference, `check` looks at a file alone.

pub mod check;
pub mod controller;
pub mod folder;
pub mod registry;

pub use controller::{Controller, Request};
pub use registry::{Compiled, Registry};
