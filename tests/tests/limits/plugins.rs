//! Limits on plugins. One that goes past a limit is quarantined with the reason; every other one and every door goes on.

use tally_tests::wire::{self, Lines};
use tally_tests::{Work, component, plugin, succeed, wait_until};

use crate::bystander::Bystander;

const EVENTS: u64 = 2000;

/// A daemon with the probe, called `bad`, beside a well-behaved plugin. Gives why the probe is in quarantine, if it is.
fn quarantined(limits: &str, settings: &str) -> Option<String> {
    let work = Work::new(&[plugin("video-actions"), component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let aggregators = format!(
        "[[aggregator]]\nname = \"bad\"\nplugin = \"probe\"\nsettings = {settings}\n\
         [[aggregator]]\nname = \"video-actions\"\nplugin = \"video-actions\"\n"
    );
    let more = work.configure(&format!("{limits}\n{aggregators}"));
    let events = work.generate("events", &format!("--events {EVENTS} --seed 41"));
    let daemon = work.start(&more);
    let mut bystander = Bystander::new(&work);
    succeed(work.send(&["--ack"]).arg(&events));
    let state = || work.status()["aggregators"]["bad"].clone();
    bystander.works();
    wait_until("the probe has applied everything or given up", || {
        let applied = work.metric("tally_aggregator_lag_events{aggregator=\"bad\"}") == 0.0;
        state()["quarantined"].is_string() || (applied && state()["complete"] == true)
    });
    bystander.works();
    let everything = EVENTS + bystander.sent();
    let good = work.get(&format!("/v1/aggregators/video-actions?min_sequence={everything}")).json();
    assert_eq!((&good["as_of_sequence"], &good["complete"]), (&everything.into(), &true.into()), "{good}");
    let reason = state()["quarantined"].as_str().map(str::to_owned);
    let counted = work.metric("tally_aggregator_quarantined{aggregator=\"bad\"}");
    assert_eq!(counted, f64::from(u8::from(reason.is_some())));
    assert_eq!(work.metric("tally_aggregator_quarantined{aggregator=\"video-actions\"}"), 0.0);
    daemon.stop();
    if reason.is_some() {
        assert!(work.records().last().expect("a record")["quarantined"]["bad"].is_string());
    }
    reason
}

pub fn plugin_memory() {
    let reason = quarantined("[plugin]\nmemory = \"16MiB\"", "{ grow_in = \"apply\" }").expect("in quarantine");
    assert!(reason.contains("`apply` wanted too much memory") && reason.contains("16777216 allowed"), "{reason}");
}

pub fn plugin_backstop() {
    let limits = "[plugin]\nbackstop = \"1500ms\"\nfuel_base = 1000000000000000";
    let reason = quarantined(limits, "{ loop_in = \"apply\" }").expect("in quarantine");
    assert!(reason.contains("`apply` was ended after 1.5s of wall-clock time"), "{reason}");
}

pub fn plugin_fuel_base() {
    let spin = "{ spin = 20000000 }";
    let limits = |base: u64| format!("[plugin]\nfuel_per_row = 1\nfuel_base = {base}");
    let reason = quarantined(&limits(20_000_000), spin).expect("in quarantine");
    assert!(reason.contains("`apply` used up its compute budget of 2000"), "{reason}");
    assert_eq!(quarantined(&limits(2_000_000_000), spin), None, "the same work within the limit is done");
}

pub fn plugin_fuel_per_row() {
    let spin = "{ spin = 20000000 }";
    let limits = |per_row: u64| format!("[plugin]\nfuel_base = 20000000\nfuel_per_row = {per_row}");
    let reason = quarantined(&limits(1), spin).expect("in quarantine");
    assert!(reason.contains("`apply` used up its compute budget"), "{reason}");
    assert_eq!(quarantined(&limits(2_000_000_000), spin), None, "the same work within the limit is done");
}

pub fn batch_rows() {
    // The probe panics when a call has more rows than this.
    let settings = "{ trap_above_rows = 7 }";
    let reason = quarantined("[limits]\nbatch_rows = 8", settings).expect("in quarantine");
    assert!(reason.contains("`apply` trapped"), "{reason}");
    assert_eq!(quarantined("[limits]\nbatch_rows = 7", settings), None, "no call has more rows than the limit");

    let work = Work::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let daemon = work.start("--set limits.batch_rows=7");
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), r#"{"tally":"ack"}"#);
    client.write("{\"type\":\"action\",\"n\":1}\n".repeat(100));
    client.durable(100);
    let summary = work.get("/v1/aggregators/probe?min_sequence=100").json()["summary"].clone();
    assert_eq!((&summary["actions"], &summary["sum"]), (&100.into(), &100.into()), "and none is lost: {summary}");
    daemon.stop();
    work.verified(&["--batch-rows", "100"]);
}

/// A daemon whose probe fails on each of these events, beside a client that nobody keeps waiting.
fn failing(limits: &str, events: u64) -> (Work, tally_tests::Daemon) {
    let work = Work::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let aggregator = "[[aggregator]]\nname = \"bad\"\nplugin = \"probe\"\nsettings = { obey = true }\n";
    let daemon = work.start(&work.configure(&format!("{limits}\n{aggregator}")));
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), r#"{"tally":"ack"}"#);
    client.write("{\"type\":\"action\",\"do\":\"trap\"}\n".repeat(events as usize));
    assert_eq!(client.durable(events)["rejected"], 0, "they are accepted all the same");
    (work, daemon)
}

pub fn plugin_strikes() {
    let (work, daemon) = failing("[plugin]\nstrikes = 5", 6);
    let state = || work.status()["aggregators"]["bad"].clone();
    wait_until("it is in quarantine", || state()["quarantined"].is_string());
    let reason = state()["quarantined"].as_str().expect("a reason").to_owned();
    assert!(reason.ends_with("it failed on 5 events before, and plugin.strikes allows 5"), "{reason}");
    assert_eq!(state()["strikes"], 5);
    daemon.stop();

    let (work, daemon) = failing("[plugin]\nstrikes = 6", 6);
    let report = work.get("/v1/aggregators/bad?min_sequence=6").json();
    assert_eq!((&report["complete"], &report["summary"]["actions"]), (&true.into(), &0.into()), "{report}");
    daemon.stop();
    work.verified(&[]);
}

pub fn dead_letters() {
    let (work, daemon) = failing("[limits]\ndead_letters = 4", 10);
    work.get("/v1/aggregators/bad?min_sequence=10").json();
    let letters = work.ask(&["dead-letters", "list"]);
    let kept: Vec<_> =
        letters["dead_letters"].as_array().expect("a list").iter().map(|one| one["sequence"].clone()).collect();
    assert_eq!(kept, [10, 9, 8, 7], "the newest are kept: {letters}");
    assert_eq!(work.status()["aggregators"]["bad"]["ledger"]["skipped"], 10, "and all are counted");
    daemon.stop();
    work.verified(&[]);
}
