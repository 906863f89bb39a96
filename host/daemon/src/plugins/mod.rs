//! Plugin versions and which of them run: `registry` keeps every version that the log names, `folder` reads the plugins
//! directory, `overrides` what operators asked for beside it,
//! `planner` works out what the plan has to become, `controller` puts it into effect, `check` looks at a file alone.

pub mod check;
pub mod controller;
pub mod folder;
pub mod overrides;
pub mod planner;
pub mod registry;

pub use controller::{Controller, Request};
pub use registry::{Compiled, Registry};
