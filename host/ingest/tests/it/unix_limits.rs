//! Bad input and limits: named, counted, and never more than the connection's end.

use std::time::Duration;

use expect_test::expect;
use serde_json::json;

use crate::harness::Daemon;

const ACK: &str = r#"{"tally":"ack"}"#;

#[test]
fn a_line_over_the_limit_is_one_rejected_line() {
    let daemon = Daemon::with(|config| config.limits.line_bytes = 100_000);
    let mut client = daemon.hello(ACK);
    client.send("before\n");
    let long = "x".repeat(1_000_000);
    client.send(&format!("{long}\n{}\nafter\n{long}", &long[..100_000]));
    client.finish();
    let last = client.rest().pop().expect("an answer");
    assert_eq!((&last["durable"], &last["rejected"]), (&json!(5), &json!(2)));
    let lengths: Vec<usize> = daemon.stop_texts().iter().map(String::len).collect();
    assert_eq!(lengths, [6, 4096, 100_000, 5, 4096]);
}

#[test]
fn a_long_first_line_is_data() {
    let daemon = Daemon::with(|config| config.limits.line_bytes = 50_000);
    let mut client = daemon.connect();
    client.send(&format!("{{\"a\":\"{}\"}}\ntwo\n", "x".repeat(100_000)));
    client.finish();
    client.until_closed();
    let texts = daemon.stop_texts();
    assert_eq!((texts[0].len(), &*texts[1]), (4096, "two"));
}

#[test]
fn a_bad_handshake_is_answered_and_ends_the_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.hello(r#"{"tally":"yes"}"#);
    client.try_send("data\n");
    let answer = client.line().expect("an answer");
    expect![[r#"
        {"error":"bad_handshake","message":"\"tally\" must be \"ack\" (answers) or \"data\" (none), not \"yes\""}
    "#]]
    .assert_eq(&answer);
    assert_eq!(client.line(), None);
    daemon.until_ended("bad_handshake", 1);
    assert!(daemon.stop().is_empty(), "its lines are not taken");
}

#[test]
fn a_handshake_without_newline_is_one_at_the_end() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(r#"{"tally":"ack","producer":"p"}"#);
    client.finish();
    assert_eq!(client.rest(), [json!({"resume": 0})]);
    assert!(daemon.stop().is_empty());
}

#[test]
fn only_the_first_line_is_a_handshake() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(&format!("one\n{ACK}\n"));
    client.finish();
    client.until_closed();
    assert_eq!(daemon.stop_texts(), ["one", ACK]);
}

#[test]
fn too_many_connections_are_refused_in_words() {
    let daemon = Daemon::with(|config| config.limits.connections = 2);
    let first = daemon.connect();
    let mut second = daemon.hello(ACK);
    daemon.until("open", |counters| counters.connections == 2);
    let refusal = daemon.connect().line().expect("a reason");
    expect![[r#"
        {"error":"too_many_connections","message":"2 connections are open, which is the limit; try again later"}
    "#]]
    .assert_eq(&refusal);
    drop(first);
    daemon.until("closed", |counters| counters.connections == 1);
    let mut third = daemon.hello(ACK);
    third.send("one\n");
    third.until_durable(1);
    second.send("two\n");
    second.until_durable(1);
    let counters = daemon.counters();
    assert_eq!((counters.accepted, counters.refused), (3, 1));
    daemon.stop();
}

#[test]
fn an_idle_connection_is_ended_when_configured() {
    let daemon = Daemon::with(|config| config.limits.idle = Some(Duration::from_millis(100)));
    let mut client = daemon.hello(ACK);
    client.send("one\n");
    client.until_durable(1);
    assert_eq!(client.answer(), json!({"error": "idle", "message": "nothing was sent for 100ms"}));
    assert_eq!(client.line(), None);
    let mut silent = daemon.connect();
    silent.until_closed();
    daemon.until_ended("idle", 2);
    daemon.stop();
}

#[test]
fn many_small_writes_hold_little_memory() {
    let daemon = Daemon::with_queue(1 << 20, |_| {});
    daemon.hold();
    let mut client = daemon.connect();
    for line in 0..1000 {
        client.send("a line of no great length\n");
        daemon.until("taken one by one", |counters| counters.lines == line + 1);
    }
    let depth = daemon.queue.depth();
    assert!(depth.bytes < 1000 * 400, "{depth:?}");
    daemon.release();
    assert_eq!(daemon.stop().len(), 1000);
}

#[test]
fn a_line_sent_byte_by_byte() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for byte in r#"{"tally":"ack"}"#.chars().chain("\nslow\n".chars()) {
        client.send(&byte.to_string());
    }
    assert_eq!(client.until_durable(1)["durable"], 1);
    assert_eq!(daemon.stop_texts(), ["slow"]);
}
