//! The daemon as its users meet it: first lines, rejected lines, flushes by time, signals, wrong input.

use std::time::Duration;

use tally_tests::{Client, Work, plugin, succeed, tally, text, wait_until};

const VIEW: &str = r#"{"type":"action","user_id":"u1","resource_type":"posts:1","action":"view"}"#;

#[test]
fn bad_lines_are_rejected_by_reason_and_kept() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("");
    let mut client = Client::connect(&work, r#"{"tally":"ack"}"#);
    client.write(&format!("{VIEW}\nnonsense\n\n{{\"user_id\":\"u\"}}\n{VIEW}\n"));
    let mut rejects = Vec::new();
    let last = loop {
        let answer = client.answer();
        rejects.extend(answer["rejects"].as_array().expect("rejects").clone());
        if answer["durable"] == 5 {
            break answer;
        }
    };
    assert_eq!((&last["sequence"], &last["rejected"]), (&2.into(), &2.into()));
    let expected = serde_json::json!([[2, "invalid_json"], [4, "missing_type"]]);
    assert_eq!(serde_json::Value::from(rejects), expected);
    assert_eq!(client.rest(), "");
    let status = work.ask(&["status"]);
    assert_eq!(status["ledger"]["rejected"], serde_json::json!({"invalid_json": 1, "missing_type": 1}));
    daemon.stop();
    let kept = std::fs::read_to_string(work.path("data/rejected_00001.log")).expect("rejected lines");
    assert_eq!(kept.lines().count(), 2);
    assert!(kept.contains("nonsense") && kept.contains("invalid_json") && kept.contains("unix:"), "{kept}");
}

#[test]
fn a_flush_comes_by_time_and_carries_its_window() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("--flush-interval 300ms");
    let mut client = Client::connect(&work, r#"{"tally":"ack"}"#);
    client.write(&format!("{VIEW}\n"));
    wait_until("the first record is written", || work.ask(&["status"])["records_written"] == 1);
    client.write(&format!("{VIEW}\n{VIEW}\n"));
    wait_until("the second record is written", || work.ask(&["status"])["records_written"] == 2);
    daemon.stop();
    let records = work.records();
    let views = |i: usize, part: &str| records[i][part]["video-actions"]["total_views"].clone();
    assert_eq!((views(0, "aggregates"), views(1, "aggregates"), views(1, "totals")), (1.into(), 2.into(), 3.into()));
    assert_eq!(records[0]["to"], records[1]["from"]);
    assert_eq!(records.len(), 2, "nothing is flushed without events");
}

#[test]
fn sigterm_flushes_and_a_second_signal_loses_nothing() {
    let work = Work::new(&[plugin("video-actions")]);
    let mut daemon = work.start("");
    let events = work.generate("events", "--events 200000 --seed 3");
    succeed(work.send(&["--ack"]).arg(&events));
    daemon.signal("TERM");
    daemon.signal("TERM");
    daemon.wait(Duration::from_secs(20));
    let daemon = work.start("");
    assert_eq!(daemon.sequence, 200_000);
    daemon.stop();
    let records = work.records();
    assert_eq!(records.last().expect("a record")["totals"]["video-actions"]["total_events"], 200_000);
    work.verified(&[]);
}

#[test]
fn a_second_daemon_and_wrong_input_get_a_clear_answer() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("");
    let second = tally().args(work.run_arguments("--query-socket /tmp/unused")).output().expect("a second daemon");
    assert!(!second.status.success() && text(&second).contains(&daemon.pid().to_string()), "{}", text(&second));
    let mut client = Client::connect(&work, r#"{"tally":"hello"}"#);
    assert_eq!(client.answer()["error"], "bad_handshake");
    let unknown =
        tally().args(["query", "nobody", "--to"]).arg(work.path("t.sock.query")).output().expect("a question");
    assert!(!unknown.status.success() && text(&unknown).contains("nobody"), "{}", text(&unknown));
    let config = work.path("tally.toml");
    std::fs::write(&config, "[flush]\nevent = 5\n").expect("writing the configuration");
    let output = tally().args(work.run_arguments("")).arg("--config").arg(&config).output().expect("a daemon");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("events"), "an unknown key suggests the right one: {}", text(&output));
    daemon.stop();
}
