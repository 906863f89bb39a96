//! Decoding as its users see it: examples by hand, and random lines against what serde_json and chrono say.

mod conformance;
mod differential;
mod examples;
mod generate;
mod oracle;
mod preset_laws;
mod presets;
mod seen;
mod view;
