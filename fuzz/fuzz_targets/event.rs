//! Lines decoded by every preset: counts add up, validity agrees with serde_json, what is logged decodes to the same batch
//! when it is replayed, and so do the lines one by one.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tally_event::batch::Batch;
use tally_event::columns::{ColumnRef, Rows, ValuesRef, entry};
use tally_event::decode::{Decoder, Mode, Pushed, RejectReason};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::presets::shipped;
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering};

const LIMITS: Limits = Limits { line_bytes: 2000, depth: 8, type_bytes: 32, event_id_bytes: 32 };

/// Two aggregators that want a field of every kind, of some types and of all.
static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let field = |path: &str, kind| Field { path: path.into(), kind };
    let fields = vec![
        field("/user_id", Kind::Text),
        field("/n", Kind::Integer),
        field("/price", Kind::Decimal(2)),
        field("/x", Kind::Float),
        field("/ok", Kind::Boolean),
        field("/at", Kind::Timestamp),
        field("/properties", Kind::Json),
        field("/a/0/b", Kind::Text),
    ];
    let event_type =
        |name: &str, required: Vec<u32>, optional: Vec<u32>| EventType { name: name.into(), required, optional };
    let subscriber = |name: &str, event_types| Subscriber {
        name: name.into(),
        manifest: Arc::new(Manifest {
            fields: fields.clone(),
            event_types,
            state_version: "1".into(),
            ordering: Ordering::LogOrder,
            loads: Vec::new(),
            refusals: Vec::new(),
        }),
    };
    let one = subscriber(
        "one",
        vec![event_type("a", vec![0, 1], vec![2, 3, 4]), event_type("track", vec![], (0..8).collect())],
    );
    let all = subscriber("all", vec![event_type("*", vec![], (0..8).collect())]);
    Arc::new(Plan::new(vec![one, all], shipped().to_vec(), LIMITS).expect("a sound plan"))
});

fuzz_target!(|data: &[u8]| {
    let Some((&preset, bytes)) = data.split_first() else { return };
    let preset = usize::from(preset) % shipped().len();
    let mut decoder = Decoder::new(PLAN.clone());
    let pushed = decoder.push(preset, bytes, Mode::Admit);
    check_counts(bytes, &pushed);
    check_validity(bytes, &pushed);
    let batch = view(decoder.finish());
    let ids: Vec<u128> = pushed.ids.iter().map(|id| id.hash).collect();

    let logged = kept(bytes, &pushed);
    let replayed = decoder.push(preset, &logged, Mode::Replay);
    assert!(replayed.rejects.is_empty() && replayed.removed.is_empty(), "what is logged is accepted when replayed");
    assert_eq!(replayed.ids.iter().map(|id| id.hash).collect::<Vec<_>>(), ids);
    assert_eq!(view(decoder.finish()), batch, "replay gives the same batch");

    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        decoder.push(preset, line, Mode::Admit);
    }
    assert_eq!(view(decoder.finish()), batch, "line by line gives the same batch");
});

/// Everything that aggregators are given.
fn view(mut batch: Batch) -> String {
    batch.stamp(1000, 1_769_508_000_000_000);
    let shares: Vec<String> = (0..batch.plan().subscribers().len())
        .map(|index| {
            let selected = batch.for_subscriber(index);
            format!("{} {:?} {}", rows(&selected.rows), selected.refused, selected.not_subscribed)
        })
        .collect();
    format!("{} {:?} {}", batch.accepted(), batch.max_time(), shares.join("\n"))
}

/// Rows as text; what a dictionary holds beside them is nobody's business.
fn rows(rows: &Rows<'_>) -> String {
    let column = |column: &ColumnRef<'_>| {
        let value = |row: usize| match &column.values {
            _ if !column.is_present(row) => "-".to_owned(),
            ValuesRef::Text { codes, ends, bytes, .. } => {
                format!("{:?}", entry(ends, bytes, codes[row]).expect("an entry"))
            }
            ValuesRef::Integers(values) => values[row].to_string(),
            ValuesRef::Floats(values) => values[row].to_bits().to_string(),
            ValuesRef::Booleans(values) => values[row].to_string(),
        };
        (0..rows.len()).map(value).collect::<Vec<_>>()
    };
    let columns: Vec<_> = rows.columns.iter().map(column).collect();
    format!("{:?} {:?} {:?} {columns:?}", rows.sequence_offsets, rows.times, rows.event_types)
}

fn check_counts(bytes: &[u8], pushed: &Pushed) {
    let newlines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    let unterminated = bytes.last().is_some_and(|&byte| byte != b'\n');
    assert_eq!(pushed.lines as usize, newlines + usize::from(unterminated));
    assert_eq!(pushed.received as usize, pushed.accepted as usize + pushed.rejects.len());
}

/// A line that is accepted, or refused for what it says, is JSON to serde_json too; one refused for its form is none, unless
/// Tally is stricter: bounds, and text that is half a surrogate pair.
fn check_validity(bytes: &[u8], pushed: &Pushed) {
    let mut rejects = pushed.rejects.iter().peekable();
    for (number, line) in (0..).zip(bytes.split(|&byte| byte == b'\n')) {
        let reject = rejects.next_if(|reject| reject.line == number);
        let read = serde_json::from_slice::<&serde_json::value::RawValue>(line);
        let blank = line.iter().all(|byte| byte.is_ascii_whitespace() && *byte != 0x0c);
        match reject.map(|reject| reject.reason) {
            Some(RejectReason::LineTooLong | RejectReason::TooDeep) => {}
            Some(RejectReason::InvalidUtf8) => assert!(std::str::from_utf8(line).is_err()),
            Some(RejectReason::InvalidJson) => assert!(read.is_err(), "{:?}", String::from_utf8_lossy(line)),
            Some(RejectReason::NotAnObject) => {
                assert!(!serde_json::from_slice::<Value>(line).is_ok_and(|value| value.is_object()));
            }
            _ if blank => {}
            _ => assert!(read.is_ok(), "{:?}: {read:?}", String::from_utf8_lossy(line)),
        }
    }
}

/// What is left when the removed ranges are taken out.
fn kept(bytes: &[u8], pushed: &Pushed) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut at = 0;
    for range in &pushed.removed {
        kept.extend_from_slice(&bytes[at..range.start]);
        at = range.end;
    }
    kept.extend_from_slice(&bytes[at..]);
    kept
}
