//! Plugins that misbehave: each limit bites, each failure has its own name, and nobody else notices.

use crate::fixture::{bytes, failure, instance, load, logged, rows};
use expect_test::{Expect, expect};
use std::time::Duration;
use tally_event::table::Question;
use tally_plugin::{CallError, Instance, Limits, PluginError};

/// Calls a probe by the name of the call.
fn call(probe: &mut Instance, call: &str) -> Result<(), CallError> {
    if call == "create" {
        return probe.create().map(drop);
    }
    if call == "load" {
        return probe.load("1", &[0; 40]).map(drop);
    }
    let accumulator = probe.create()?;
    match call {
        "apply" => probe.apply(&accumulator, &rows(1, 10)).map(drop),
        "merge" => {
            let later = probe.create()?;
            probe.merge(&accumulator, &later)
        }
        "save" => probe.save(&accumulator).map(drop),
        "report" => probe.report(&accumulator, &Question::default()).map(drop),
        _ => panic!("no such call: {call}"),
    }
}

const CALLS: [&str; 6] = ["create", "apply", "merge", "save", "load", "report"];

/// An instance under tight limits.
fn tight(settings: &str) -> Instance {
    let limits = Limits { fuel_base: 20_000_000, fuel_per_byte: 1, memory_bytes: 8 << 20, ..Limits::default() };
    let probe = load(limits, &bytes("probe"));
    probe.configure(settings).unwrap().instantiate().unwrap()
}

fn misbehaves(settings: &str, name: &str, is: impl Fn(&CallError) -> bool) {
    let mut probe = tight(settings);
    let error = failure(call(&mut probe, name));
    assert!(is(&error), "{settings}: {error:?}");
    let named = error.to_string().starts_with(&format!("`{name}`"));
    assert!(named, "{error}");
    // Whatever comes next is refused, and says why.
    let after = failure(call(&mut probe, name));
    assert_eq!(after, CallError::Poisoned(Box::new(error)));
}

#[test]
fn a_trap_in_any_call_ends_the_instance() {
    for name in CALLS {
        let settings = format!(r#"{{"trap_in": "{name}"}}"#);
        misbehaves(&settings, name, |error| matches!(error, CallError::Trap { .. }));
    }
}

#[test]
fn an_endless_loop_in_any_call_runs_out_of_fuel() {
    for name in CALLS {
        let settings = format!(r#"{{"loop_in": "{name}"}}"#);
        misbehaves(&settings, name, |error| matches!(error, CallError::OutOfFuel { .. }));
    }
}

#[test]
fn endless_growth_in_any_call_reaches_the_memory_limit() {
    for name in CALLS {
        let settings = format!(r#"{{"grow_in": "{name}"}}"#);
        misbehaves(&settings, name, |error| matches!(error, CallError::Memory { .. }));
    }
}

#[test]
fn endless_recursion_is_a_trap() {
    misbehaves(
        r#"{"recurse_in": "apply"}"#,
        "apply",
        |error| matches!(error, CallError::Trap { reason, .. } if reason == "call stack exhausted"),
    );
}

#[test]
fn the_backstop_ends_what_has_fuel_left() {
    let limits = Limits { fuel_base: u64::MAX / 4, backstop: Duration::from_millis(200), ..Limits::default() };
    let probe = load(limits, &bytes("probe"));
    let settings = r#"{"loop_in": "apply"}"#;
    let mut probe = probe.configure(settings).unwrap().instantiate().unwrap();
    let error = failure(call(&mut probe, "apply"));
    expect!["`apply` was ended after 200ms of wall-clock time"].assert_eq(&error.to_string());
    assert!(matches!(error, CallError::Timeout { call: "apply", .. }));
}

#[test]
fn the_backstop_does_not_end_calls_that_are_short() {
    let limits = Limits { backstop: Duration::from_millis(300), ..Limits::default() };
    let probe = load(limits, &bytes("probe"));
    let mut probe = probe.configure("{}").unwrap().instantiate().unwrap();
    // Longer than the backstop altogether.
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(call(&mut probe, "apply"), Ok(()));
    }
}

#[test]
fn a_trap_says_where() {
    let mut probe = instance(r#"{"trap_on_sequence": 5}"#);
    match failure(call(&mut probe, "apply")) {
        CallError::Trap { backtrace, reason, .. } => {
            assert!(backtrace.contains("trap_as_asked"), "{backtrace}");
            expect!["wasm `unreachable` instruction executed"].assert_eq(&reason);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_single_row_can_be_found_by_row_and_the_rest_applied() {
    let mut bad = Vec::new();
    for row in 0..10 {
        let mut probe = instance(r#"{"trap_on_sequence": 5}"#);
        let accumulator = probe.create().unwrap();
        if probe.apply(&accumulator, &rows(1, 10).slice(row..row + 1)).is_err() {
            bad.push(row);
        }
    }
    assert_eq!(bad, [4]);
}

#[test]
fn one_failed_instance_leaves_its_siblings_alone() {
    let probe = load(Limits::default(), &bytes("probe"));
    let configured = probe.configure(r#"{"trap_on_sequence": 5}"#).unwrap();
    let (mut bad, mut good) = (configured.instantiate().unwrap(), configured.instantiate().unwrap());
    let accumulator = good.create().unwrap();
    failure(call(&mut bad, "apply"));
    assert_eq!(good.apply(&accumulator, &rows(100, 10)), Ok(vec![]));
    assert!(configured.instantiate().is_ok(), "and a new one starts");
}

#[test]
fn answers_that_break_the_contract_end_the_instance() {
    let breaks = |settings: &str, name: &str, message: Expect| {
        let mut probe = instance(settings);
        let error = failure(call(&mut probe, name));
        assert!(matches!(error, CallError::Invalid(_)), "{error:?}");
        message.assert_eq(&error.to_string());
        let after = failure(call(&mut probe, "save"));
        assert_eq!(after, CallError::Poisoned(Box::new(error)));
    };
    breaks(
        r#"{"lying_refusals": true}"#,
        "apply",
        expect![
            "the plugin gave an answer that breaks the contract: `apply` refused row 10 of 10; each row may be refused once, in ascending order"
        ],
    );
    breaks(
        r#"{"lying_report": true}"#,
        "report",
        expect![[
            r#"the plugin gave an answer that breaks the contract: `report`: table "types", column "rows": it has 1 rows, but column "type" has 3"#
        ]],
    );
    breaks(
        r#"{"huge_report": 65}"#,
        "report",
        expect![
            "the plugin gave an answer that breaks the contract: `report` handed over more than the 67108864 bytes it may"
        ],
    );
}

#[test]
fn a_big_report_within_the_limit_is_taken() {
    let mut probe = instance(r#"{"huge_report": 30}"#);
    assert_eq!(call(&mut probe, "report"), Ok(()));
}

#[test]
fn a_guest_that_starts_with_too_much_memory_is_refused() {
    let limits = Limits { memory_bytes: 64 << 10, ..Limits::default() };
    let engine = tally_plugin::Engine::new(limits, None).unwrap();
    let error = engine.load(&bytes("probe")).err();
    assert!(matches!(&error, Some(PluginError::Call(CallError::Memory { call: "instantiate", .. }))), "{error:?}");
}

#[test]
fn log_lines_are_cut_and_counted() {
    let mut probe = instance(r#"{"log_in": "apply"}"#);
    let log = logged(|| call(&mut probe, "apply").unwrap());
    let (lines, last): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.contains("line line"));
    // A hundred in a second, of which it had used one when it was configured, unless that is a second ago.
    assert!((99..=100).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|line| line.len() < 4200), "{}", lines[0].len());
    let said = r#" WARN the plugin logged more lines than it may in a second plugin="probe" call="apply" dropped="#;
    let dropped = last.iter().map(|line| line.strip_prefix(said).expect(line).parse::<usize>().expect("a number"));
    assert_eq!(dropped.sum::<usize>(), 1000 - lines.len(), "each line is shown or counted");
    let next = logged(|| call(&mut probe, "save").unwrap());
    assert_eq!(next, "");
}
