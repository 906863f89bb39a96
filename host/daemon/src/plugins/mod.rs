//! Plugin versions and which of them run: `registry` keeps every version that the log names, `retired` says which may go, `folder` reads the
//! plugins directory, `overrides` what operators asked for beside it, `planner` works out what the plan has to become, `controller` puts it
//! into effect, `check` looks at a file alone. A `shadow` is a `replica` of a running aggregator under another version, on live traffic;
//! `offline` runs two over a log at rest; `diff` says where their reports differ.

pub mod check;
pub mod controller;
pub mod diff;
pub mod folder;
pub mod offline;
pub mod overrides;
pub mod planner;
pub mod registry;
pub mod replica;
pub mod retired;
pub mod shadow;

pub use controller::{Controller, Request};
pub use registry::{Compiled, Registry};
pub use retired::Retired;
pub use shadow::Shadows;
