//! What a call and a row cost: `cargo run --release -p tally-plugin --example crossing -- target/fixtures/probe.wasm`.
//!
//! Gives the probe batches of 1 to 4096 rows (an integer and a text each, some 3,000 different texts) and prints nanoseconds
//! per call and per row, with rows ignored and with rows looked at, next to what loading and instantiating take.

use std::time::{Duration, Instant};
use tally_event::columns::{ColumnRef, Rows, ValuesRef};
use tally_plugin::{CallError, Configured, Engine, Limits};

const USERS: u32 = 3000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a component file")?;
    let bytes = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    let cache = std::env::temp_dir().join("tally-crossing-cache");
    let engine = Engine::new(Limits::default(), Some(cache))?;
    engine.load(&bytes)?;
    let (component, loading) = timed(|| engine.load(&bytes));
    let component = component?;
    println!("load from the cache (with hashing) {loading:?}");
    let configured = component.configure("{}")?;
    let ignoring = component.configure(r#"{"ignore_rows": true}"#)?;
    let (_, instantiating) = timed(|| (0..1000).try_for_each(|_| configured.instantiate().map(drop)));
    println!("instantiate and configure {:?}", instantiating / 1000);
    for rows in [1, 16, 256, 4096] {
        let crossing = measure(&ignoring, rows)?.as_nanos() as f64;
        let applied = measure(&configured, rows)?.as_nanos() as f64;
        let per_row = |nanos: f64| nanos / rows as f64;
        println!(
            "{rows:5} rows: {crossing:7.0} ns to cross ({:6.2} per row), {applied:7.0} ns with each row looked at ({:6.2})",
            per_row(crossing),
            per_row(applied)
        );
    }
    Ok(())
}

/// The mean time of an `apply` of so many rows, the best of five rounds.
fn measure(configured: &Configured, count: usize) -> Result<Duration, CallError> {
    let mut instance = configured.instantiate()?;
    let accumulator = instance.create()?;
    let text: Vec<u8> = (0..USERS).flat_map(|user| format!("u_{user:06}").into_bytes()).collect();
    let entries = (count as u32).min(USERS);
    let ends: Vec<u32> = (1..=entries).map(|end| end * 8).collect();
    let hashes: Vec<u64> = (0..u64::from(entries)).collect();
    let rows = Rows {
        first_sequence: 1,
        sequence_offsets: (0..count as u32).collect(),
        times: vec![0; count].into(),
        event_types: vec![0; count].into(),
        columns: vec![
            ColumnRef { values: ValuesRef::Integers((0..count as i64).collect()), present: vec![].into() },
            ColumnRef {
                values: ValuesRef::Text {
                    codes: (0..count as u32).map(|row| row % entries).collect(),
                    ends: &ends,
                    bytes: &text[..entries as usize * 8],
                    hashes: &hashes,
                },
                present: vec![].into(),
            },
        ],
    };
    let calls = (2_000_000 / count).clamp(100, 200_000);
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (applied, time) = timed(|| (0..calls).try_for_each(|_| instance.apply(&accumulator, &rows).map(drop)));
        applied?;
        best = best.min(time / calls as u32);
    }
    Ok(best)
}

#[allow(clippy::disallowed_methods, reason = "this measures")]
fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed())
}
