//! Events, schemas, columns and JSON decoding. Pure: no I/O, no clock, no threads; knows nothing of logs, plugins or sockets.

mod assemble;
pub mod batch;
mod block;
mod build;
pub mod columns;
pub mod decode;
mod dictionary;
mod envelope;
mod event_id;
mod json;
pub mod manifest;
mod marks;
mod number;
pub mod plan;
mod pointer;
mod preset_plan;
pub mod presets;
mod reject;
mod run;
pub mod schema;
mod shapes;
mod short;
mod simd;
pub mod table;
pub mod time;
mod trie;
mod walk;
