//! What a plugin may use. All of it is counted, nothing is a hint; knows nothing of wasmtime.

use std::time::Duration;

/// Bounds on one component and on each of its instances.
///
/// Compute is counted in *fuel*, about one unit per WebAssembly instruction or byte moved in bulk (one to a few
/// thousand units per microsecond). The defaults leave room for interpreted guests, which are a few hundred times slower
/// than compiled ones, and still end an endless loop within a second or so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest component file, in bytes.
    pub component_bytes: usize,
    /// Linear memory of one instance, in bytes, all of its memories together.
    pub memory_bytes: usize,
    /// Elements of all tables of one instance.
    pub table_elements: usize,
    /// WebAssembly stack, in bytes. The calling thread needs this and about 512 KiB more.
    pub stack_bytes: usize,
    /// Fuel of every call.
    pub fuel_base: u64,
    /// Fuel added to `apply` per row.
    pub fuel_per_row: u64,
    /// Fuel added to `load` per saved byte, and to `save`, `merge` and `report` per byte of the instance's memory.
    pub fuel_per_byte: u64,
    /// Rows for each shard from which on they share a batch; fewer are not worth waking threads for. Decides no result.
    pub dealt_rows: usize,
    /// Wall-clock time after which a call is ended, whatever fuel it has left.
    pub backstop: Duration,
    /// What one report may hand over, in bytes of host memory.
    pub report_bytes: usize,
    /// Log lines of one instance in a second; further ones are counted and dropped.
    pub log_lines: u32,
    /// Length of one log line, in bytes; the rest is cut off.
    pub log_line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes: 64 << 20,
            memory_bytes: 256 << 20,
            table_elements: 100_000,
            stack_bytes: 512 << 10,
            fuel_base: 1_000_000_000,
            fuel_per_row: 100_000,
            fuel_per_byte: 200,
            dealt_rows: 128,
            backstop: Duration::from_secs(10),
            report_bytes: 64 << 20,
            log_lines: 100,
            log_line_bytes: 4096,
        }
    }
}

impl Limits {
    /// Fuel of an `apply` of so many rows.
    pub(crate) fn fuel_for_rows(&self, rows: usize) -> u64 {
        self.fuel_base.saturating_add(self.fuel_per_row.saturating_mul(rows as u64))
    }

    /// Fuel of a call whose work follows so many bytes.
    pub(crate) fn fuel_for_bytes(&self, bytes: usize) -> u64 {
        self.fuel_base.saturating_add(self.fuel_per_byte.saturating_mul(bytes as u64))
    }
}
