//! What crosses: rows in, refusals, saved bytes and tables out, and nothing is lost or turned on the way.

use crate::fixture::{configured, failure, instance, probe, rows};
use expect_test::expect;
use std::sync::Arc;
use tally_event::columns::Values;
use tally_event::table::Question;
use tally_plugin::{CallError, Component, Configured, Engine, Instance, Refusal, Usage};

/// What the probe should keep of `rows`: rows per type, sum of `/n` where present, bytes of text.
fn expected(first_sequence: u64, count: usize) -> Vec<u8> {
    let rows = rows(first_sequence, count);
    let mut words = [0i64; 5];
    for row in 0..count {
        words[row % 3] += 1;
        if row % 3 != 1 {
            words[3] += row as i64 * 1000 - 7;
        }
        // Two bytes per `é`.
        words[4] += 2 * ((row * 7 % 100) % 13) as i64;
    }
    assert_eq!(rows.len(), count);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn rows_cross_whole_and_apply_splits_as_merge_does() {
    let count = 1000;
    let all = rows(1, count);
    for slice in [1, 7, 64, count] {
        let mut probe = instance("{}");
        let (one, total) = (probe.create().unwrap(), probe.create().unwrap());
        for start in (0..count).step_by(slice) {
            let part = all.slice(start..(start + slice).min(count));
            assert_eq!(probe.apply(&one, &part), Ok(vec![]));
            let delta = probe.create().unwrap();
            assert_eq!(probe.apply(&delta, &part), Ok(vec![]));
            assert_eq!(probe.merge(&total, &delta), Ok(()));
            assert_eq!(probe.discard(delta), Ok(()));
        }
        assert_eq!(probe.save(&one).unwrap(), expected(1, count), "slices of {slice}");
        assert_eq!(probe.save(&total).unwrap(), expected(1, count), "slices of {slice}");
    }
}

#[test]
fn saved_bytes_load_in_another_instance() {
    let (mut one, mut other) = (instance("{}"), instance("{}"));
    let accumulator = one.create().unwrap();
    one.apply(&accumulator, &rows(1, 50)).unwrap();
    let saved = one.save(&accumulator).unwrap();
    let loaded = other.load("1", &saved).unwrap();
    assert_eq!(other.save(&loaded).unwrap(), saved);
}

#[test]
fn an_error_of_the_guests_own_leaves_the_instance_working() {
    let mut probe = instance("{}");
    let error = failure(probe.load("1", b"garbage"));
    assert_eq!(error, CallError::Refused("a saved probe has 40 bytes, these are 7".into()));
    let accumulator = probe.create().unwrap();
    let fail = Question { parameters: vec![("fail".into(), String::new())], ..Question::default() };
    let error = failure(probe.report(&accumulator, &fail));
    assert_eq!(error, CallError::Refused("asked to fail".into()));
    assert!(probe.failure().is_none());
    assert_eq!(probe.save(&accumulator).unwrap(), expected(1, 0));
}

#[test]
fn refused_rows_come_back_by_number() {
    let mut probe = instance(r#"{"refuse_on_sequence": 1003}"#);
    let accumulator = probe.create().unwrap();
    let refusal = Refusal { row: 3, reason: 0 };
    assert_eq!(probe.apply(&accumulator, &rows(1000, 10)), Ok(vec![refusal]));
    assert_eq!(probe.apply(&accumulator, &rows(1010, 10)), Ok(vec![]));
}

#[test]
fn no_rows_are_no_call() {
    let mut probe = instance(r#"{"trap_in": "apply"}"#);
    let accumulator = probe.create().unwrap();
    assert_eq!(probe.apply(&accumulator, &rows(1, 0)), Ok(vec![]));
}

#[test]
fn reports_come_out_as_tables() {
    let mut probe = instance("{}");
    let accumulator = probe.create().unwrap();
    probe.apply(&accumulator, &rows(1, 10)).unwrap();
    let tables = probe.report(&accumulator, &Question::default()).unwrap();
    let shown: Vec<String> = tables
        .iter()
        .flat_map(|table| table.columns.iter().map(move |column| (table, column)))
        .map(|(table, column)| {
            let values = match &column.column.values {
                Values::Text(text) => format!("{:?}", String::from_utf8_lossy(&text.bytes)),
                other => format!("{other:?}"),
            };
            format!("{}.{} {:?} {:?} {values}", table.name, column.name, column.kind, column.role)
        })
        .collect();
    expect![[r#"
        summary.actions Integer Counter Integers([4])
        summary.homepage_fetches Integer Counter Integers([3])
        summary.others Integer Counter Integers([3])
        summary.sum Integer Gauge Integers([32951])
        summary.text_bytes Integer Counter Integers([110])
        types.type Text Key "actionhomepage_fetch*"
        types.rows Integer Counter Integers([4, 3, 3])"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn the_same_calls_use_the_same_fuel() {
    let used = |settings: &str| {
        let mut probe = instance(settings);
        let accumulator = probe.create().unwrap();
        probe.apply(&accumulator, &rows(1, 500)).unwrap();
        probe.save(&accumulator).unwrap();
        probe.fuel_used()
    };
    assert_eq!(used("{}"), used("{}"));
    assert!(used(r#"{"spin": 1000}"#) > used(r#"{"spin": 10}"#) + 990);
}

#[test]
fn instances_count_together_what_their_calls_use() {
    let usage = Arc::new(Usage::default());
    let configured = configured(r#"{"spin": 1000}"#).counting(usage.clone());
    let mut fuel = 0;
    for (index, count) in [(1, 500), (2, 1)] {
        let mut probe = configured.instantiate().unwrap();
        let accumulator = probe.create().unwrap();
        let before = probe.fuel_used();
        probe.apply(&accumulator, &rows(1, count)).unwrap();
        fuel += probe.fuel_used() - before;
        probe.save(&accumulator).unwrap();
        assert_eq!(usage.apply_fuel(), fuel, "instance {index}: of `apply` alone");
    }
    assert_eq!(usage.rows(), 501);
    let limits = configured.limits();
    let most = fuel as f64 / limits.fuel_base as f64;
    assert!(usage.peak() > 0.0 && usage.peak() < most, "{} of {most}", usage.peak());
    usage.forget_peak();
    assert_eq!(usage.peak(), 0.0);

    // A call that fails has used all it had, and its rows were given.
    let endless = self::configured(r#"{"loop_in": "apply"}"#).counting(usage.clone());
    let mut probe = endless.instantiate().unwrap();
    let accumulator = probe.create().unwrap();
    failure(probe.apply(&accumulator, &rows(1, 9)));
    assert_eq!(usage.rows(), 510);
    assert!(usage.peak() > 0.999 && usage.peak() <= 1.0, "{}", usage.peak());
}

#[test]
fn memory_is_what_the_guest_took() {
    let mut probe = instance("{}");
    let before = probe.memory_bytes();
    assert!(before >= 64 << 10, "a Rust guest has at least a stack");
    let accumulator = probe.create().unwrap();
    probe.apply(&accumulator, &rows(1, 400_000)).unwrap();
    let grown = probe.memory_bytes() - before;
    // 400,000 rows of 4 + 8 + 4 + 8 + 1 + 4 bytes.
    assert!((11_600_000..40_000_000).contains(&grown), "{grown} bytes");
}

#[test]
fn accumulators_of_another_instance_are_a_bug_of_the_host() {
    let mut one = instance("{}");
    let other = instance("{}").create().unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one.save(&other)));
    assert!(caught.is_err());
}

#[test]
fn everything_moves_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    fn sent<T: Send>() {}
    shared::<Engine>();
    shared::<Component>();
    shared::<Configured>();
    sent::<Instance>();

    let configured = configured("{}");
    let saved = std::thread::spawn(move || {
        let mut probe = configured.instantiate().unwrap();
        let accumulator = probe.create().unwrap();
        probe.apply(&accumulator, &rows(1, 9)).unwrap();
        probe.save(&accumulator).unwrap()
    });
    assert_eq!(saved.join().unwrap(), expected(1, 9));
    assert_eq!(probe().description.name, "probe");
}
