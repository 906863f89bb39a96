//! SIGHUP: what can be changed at once is, what cannot is named, and a wrong file changes nothing.

use serde_json::{Value, json};
use tally_tests::wire::{self, Lines};
use tally_tests::{Daemon, Work, component, wait_until};

const ACK: &str = r#"{"tally":"ack"}"#;

/// Writes a configuration and has it read; waits until the daemon says `done`.
fn reload(work: &Work, daemon: &Daemon, text: &str, done: &str) {
    let before = work.log().len();
    work.configure(text);
    daemon.signal("HUP");
    wait_until(done, || work.log()[before..].contains(done));
}

fn send(work: &Work, lines: &[&str]) -> Value {
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    client.write(lines.join("\n") + "\n");
    client.durable(lines.len() as u64)
}

const VIEW: &str = r#"{"type":"action"}"#;

#[test]
fn flushes_are_changed_at_once() {
    let work = Work::new(&[]);
    let quiet = "[flush]\nevents = 1000\ninterval = \"1h\"\n";
    let daemon = work.start(&work.configure(quiet));
    let written = || work.status()["records_written"].as_u64().expect("a count");
    send(&work, &[VIEW, VIEW]);
    assert_eq!(written(), 0);
    reload(&work, &daemon, "[flush]\nevents = 3\ninterval = \"1h\"\n", "flush.events");
    wait_until("an event more makes it three", || {
        send(&work, &[VIEW]);
        written() > 0
    });
    reload(&work, &daemon, "[flush]\nevents = 1000\ninterval = \"50ms\"\n", "flush.interval");
    send(&work, &[VIEW]);
    wait_until("the rest is flushed by time", || work.status()["open_events"] == 0);
    daemon.stop();
}

#[test]
fn limits_are_changed_at_once() {
    let work = Work::new(&[]);
    let daemon = work.start(&work.configure("[limits]\nline_bytes = \"1KiB\"\nconnections = 1\n"));
    let long = format!("{{\"type\":\"action\",\"text\":\"{}\"}}", "x".repeat(2000));
    assert_eq!(send(&work, &[&long])["rejects"], json!([[1, "line_too_long"]]));
    let none = || work.metric("tally_source_connections{source=\"unix\"}") == 0.0;
    wait_until("the connection is gone", none);
    let mut first = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    first.write(format!("{VIEW}\n"));
    first.durable(1);
    let mut second = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    assert_eq!(second.answer()["error"], "too_many_connections");
    reload(&work, &daemon, "[limits]\nline_bytes = \"4KiB\"\nconnections = 2\n", "limits.connections");
    // The decoders take it on with the plan, a moment later.
    wait_until("a longer line is taken", || {
        let taken = send(&work, &[&long])["rejected"] == 0;
        wait_until("there is room", || work.metric("tally_source_connections{source=\"unix\"}") == 1.0);
        taken
    });
    first.write(format!("{VIEW}\n"));
    assert_eq!(first.durable(2)["rejected"], 0, "who was there goes on");
    daemon.stop();
}

#[test]
fn the_rows_of_a_call_are_changed_at_once() {
    let work = Work::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    // The probe panics when a call has more rows than this.
    let file = |rows: u64| {
        let probe = "[[aggregator]]\nname = \"probe\"\nplugin = \"probe\"\nsettings = { trap_above_rows = 7 }\n";
        format!("[limits]\nbatch_rows = {rows}\n{probe}")
    };
    let daemon = work.start(&work.configure(&file(7)));
    send(&work, &[VIEW; 100]);
    assert_eq!(work.get("/v1/aggregators/probe?min_sequence=100").json()["summary"]["actions"], 100);
    reload(&work, &daemon, &file(8), "limits.batch_rows");
    wait_until("a call has more rows", || {
        send(&work, &[VIEW; 100]);
        work.status()["aggregators"]["probe"]["quarantined"].is_string()
    });
    daemon.stop();
}

#[test]
fn a_preset_and_the_log_level_are_changed_at_once() {
    let work = Work::new(&[]);
    let file = |place: &str, level: &str| {
        format!("[unix]\npreset = \"mine\"\n[preset.mine]\ntype_path = \"/{place}\"\n[logs]\nlevel = \"{level}\"\n")
    };
    let daemon = work.start(&work.configure(&file("kind", "info")));
    let (kind, sort) = (r#"{"kind":"a"}"#, r#"{"sort":"a"}"#);
    assert_eq!(send(&work, &[kind, sort])["rejects"], json!([[2, "missing_type"]]));
    assert!(!work.log().contains("DEBUG"));
    reload(&work, &daemon, &file("sort", "debug"), "preset.mine");
    wait_until("the other definition holds", || send(&work, &[sort])["rejected"] == 0);
    assert_eq!(send(&work, &[kind])["rejects"], json!([[1, "missing_type"]]));
    wait_until("more is logged", || work.log().contains("DEBUG"));
    daemon.stop();
    work.verified(&[]);
}

#[test]
fn what_needs_a_restart_is_named_and_a_wrong_file_changes_nothing() {
    let work = Work::new(&[]);
    let daemon = work.start(&work.configure("[queue]\nmax_bytes = \"8MiB\"\n[limits]\ndepth = 3\n"));
    let deep = r#"{"type":"action","a":[[[1]]]}"#;
    let too_deep = || send(&work, &[deep])["rejects"] == json!([[1, "too_deep"]]);
    assert!(too_deep());
    let text = "[queue]\nmax_bytes = \"16MiB\"\n[limits]\ndepth = 3\n";
    reload(&work, &daemon, text, "needs a restart");
    let log = work.log();
    let line = log.lines().find(|line| line.contains("needs a restart")).expect("a line");
    assert!(line.contains("queue.max_bytes") && line.contains("8MiB") && line.contains("16MiB"), "{line}");
    assert_eq!(work.metric("tally_queue_capacity_bytes"), f64::from(8 << 20));

    let wrong = "[limits]\ndepth = 30\nline_bytes = \"tiny\"\n";
    reload(&work, &daemon, wrong, "the configuration is not taken");
    assert!(work.log().contains("limits.line_bytes"), "it says what is wrong");
    assert!(too_deep(), "none of a wrong file is taken");
    reload(&work, &daemon, "[limits]\ndepth = 30\n", "limits.depth");
    wait_until("the right one is taken", || send(&work, &[deep])["rejected"] == 0);
    daemon.stop();
}

/// Each state version of the fixture saves other bytes, and loads those of all others but "0".
#[test]
fn a_new_state_version_takes_over_what_it_loads() {
    let work = Work::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let version = |version: &str| {
        let settings = format!("settings = {{ state_version = \"{version}\" }}");
        format!("[flush]\nevents = 2\n[[aggregator]]\nname = \"probe\"\nplugin = \"probe\"\n{settings}\n")
    };
    let counts = |sent: u64| {
        let summary = work.ask(&["query", "probe", "--min-sequence", &sent.to_string()])["summary"].clone();
        assert_eq!(summary["actions"], sent, "{summary}");
    };
    let views = |daemon: &Daemon| assert_eq!(send(&work, &[VIEW, VIEW, VIEW])["rejected"], 0, "{}", daemon.pid());
    let mut daemon = work.start(&work.configure(&version("1")));
    views(&daemon);
    counts(3);
    reload(&work, &daemon, &version("2"), "activated");
    let swapped = || work.ask(&["plugin", "list"])["plugins"][0]["reason"].is_null();
    wait_until("it runs", swapped);
    // Nothing was saved under the new version.
    daemon.kill();
    work.verified(&[]);
    daemon = work.start(&work.configure(&version("2")));
    views(&daemon);
    counts(6);
    daemon.stop();
    daemon = work.start(&work.configure(&version("3")));
    views(&daemon);
    counts(9);
    daemon.kill();
    daemon = work.start(&work.configure(&version("0")));
    views(&daemon);
    counts(12);
    reload(&work, &daemon, &version("1"), "which it does not load");
    assert_eq!(work.ask(&["plugin", "list"])["plugins"][0]["state"], "running");
    views(&daemon);
    counts(15);
    daemon.stop();
    work.verified(&[]);
}
