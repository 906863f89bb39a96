//! Native tests of aggregators, without Wasm. Work in progress.
