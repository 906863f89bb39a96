//! What the sandbox costs: `video-actions` as Wasm beside the same code compiled natively, over the same columns in one run, and
//! what a row costs that only crosses the border. `cargo bench -p tally-bench --bench wasm_over_native`, after `cargo xtask build
//! --fixtures`; prints one JSON object: medians, and under `spread` the least, the greatest and all values.

#![allow(clippy::disallowed_methods, reason = "this measures")]

#[path = "stages/ground.rs"]
#[allow(dead_code, reason = "shared with the benchmarks of single stages")]
mod ground;

use std::time::Instant;

use tally_bench::{Outcome, Report};
use tally_event::batch::Batch;
use tally_event::columns::{ColumnRef, Rows, ValuesRef};
use tally_plugin::{Configured, Engine, Limits};
use tally_sdk::wire::exports::tally::aggregator::aggregator::GuestAccumulator;

const LINES: usize = 1_000_000;
const ROUNDS: usize = 11;

fn main() {
    let batches = ground::batches(&ground::lines(LINES, false));
    let plugin = configured("TALLY_BUILT_PLUGINS_DIR", "plugins", "video-actions.wasm", "{}");
    let ignoring = configured("TALLY_FIXTURES_DIR", "fixtures", "probe.wasm", r#"{"ignore_rows": true}"#);
    let rounds = (0..ROUNDS).map(|_| {
        let mut outcome = Outcome::default();
        let native = native(&batches);
        let wasm = wasm(&plugin, batches.iter().map(|batch| batch.for_subscriber(0).rows));
        outcome.add("wasm_over_native", wasm / native);
        outcome.add("wasm_ns_per_event", wasm);
        outcome.add("native_ns_per_event", native);
        outcome.add("boundary_ns_per_event", self::wasm(&ignoring, batches.iter().map(an_integer_and_a_text)));
        outcome
    });
    println!("{}", Report::new("wasm-over-native", rounds.collect()).json());
}

fn configured(variable: &str, default: &str, file: &str, settings: &str) -> Configured {
    let path = ground::built(variable, default).join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let engine = Engine::new(Limits::default(), None).expect("an engine");
    engine.load(&bytes).expect("a component").configure(settings).expect("its settings")
}

/// Nanoseconds per event.
fn native(batches: &[Batch]) -> f64 {
    let batches: Vec<_> = batches.iter().map(|batch| ground::wire_batch(&batch.for_subscriber(0).rows)).collect();
    let native = ground::native();
    let started = Instant::now();
    for batch in batches {
        assert!(native.apply(batch).is_empty(), "a generated action was refused");
    }
    started.elapsed().as_nanos() as f64 / LINES as f64
}

/// Nanoseconds per event.
fn wasm<'a>(plugin: &Configured, rows: impl Iterator<Item = Rows<'a>>) -> f64 {
    let rows: Vec<Rows> = rows.collect();
    let mut instance = plugin.instantiate().expect("an instance");
    let accumulator = instance.create().expect("an accumulator");
    let started = Instant::now();
    for rows in &rows {
        let refused = instance.apply(&accumulator, rows).expect("it applies");
        assert!(refused.is_empty(), "a generated action was refused");
    }
    started.elapsed().as_nanos() as f64 / LINES as f64
}

/// The columns that the probe asks for: the users as its text.
fn an_integer_and_a_text(batch: &Batch) -> Rows<'_> {
    let mut rows = batch.for_subscriber(0).rows;
    let integers = ValuesRef::Integers(vec![1; rows.len()].into());
    let user = rows.columns.swap_remove(0);
    rows.columns = vec![ColumnRef { values: integers, present: vec![].into() }, user];
    rows
}
