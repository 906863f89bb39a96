//! What goes in comes out: lines, verdicts, ends, stopping.

use std::thread;
use std::time::Duration;

use expect_test::expect;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::Daemon;

const ACK: &str = r#"{"tally":"ack"}"#;

#[test]
fn plain_lines_arrive_in_order_and_the_unfinished_last_one_too() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send("one\n\ntwo\r\nthr");
    client.send("ee\nfour");
    client.finish();
    client.until_closed();
    let decided = daemon.stop();
    let lines: Vec<_> = decided.iter().map(|line| (line.line, line.text.as_str())).collect();
    assert_eq!(lines, [(1, "one"), (2, ""), (3, "two\r"), (4, "three"), (5, "four")]);
}

#[test]
fn verdicts_are_answered() {
    let daemon = Daemon::start();
    let mut client = daemon.hello(ACK);
    assert!(client.is_silent(), "nothing was decided yet");
    let mut answers = String::new();
    for lines in ["one\n", "\nbad\ntwo\n", "bad\n"] {
        client.send(lines);
        answers.push_str(&client.line().expect("an answer"));
    }
    client.send("three");
    client.finish();
    std::iter::from_fn(|| client.line()).for_each(|line| answers.push_str(&line));
    expect![[r#"
        {"durable":1,"sequence":1,"rejected":0,"rejects":[]}
        {"durable":4,"sequence":2,"rejected":1,"rejects":[[3,"invalid_json"]]}
        {"durable":5,"sequence":2,"rejected":2,"rejects":[[5,"invalid_json"]]}
        {"durable":6,"sequence":3,"rejected":2,"rejects":[]}
    "#]]
    .assert_eq(&answers);
    daemon.until_ended("finished", 1);
    assert_eq!(daemon.stop().len(), 6);
}

#[test]
fn nothing_is_answered_before_it_is_decided() {
    let daemon = Daemon::start();
    daemon.hold();
    let mut client = daemon.hello(ACK);
    client.send("one\ntwo\n");
    daemon.until("queued", |counters| counters.lines == 2);
    assert!(client.is_silent());
    client.finish();
    assert!(client.is_silent(), "the end of sending waits for the verdicts too");
    daemon.release();
    assert_eq!(client.rest(), [json!({"durable": 2, "sequence": 2, "rejected": 0, "rejects": []})]);
    daemon.stop();
}

#[test]
fn many_clients_at_once() {
    let daemon = Daemon::start();
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let mut client = daemon.hello(ACK);
            thread::spawn(move || {
                for line in 0..2000 {
                    client.send(&format!("{number} {line}\n"));
                }
                client.finish();
                client.rest().pop().expect("answers")
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("joins")["durable"], 2000);
    }
    let texts = daemon.stop_texts();
    for number in 0..16 {
        let start = format!("{number} ");
        let mine = texts.iter().filter_map(|text| text.strip_prefix(&start));
        assert!(mine.eq((0..2000).map(|line| line.to_string())), "client {number}");
    }
}

#[test]
fn a_slow_reader_gets_the_newest_state_and_bounded_rejects() {
    const LINES: usize = 400_000;
    let daemon = Daemon::start();
    let mut client = daemon.hello(ACK);
    // More is rejected than the socket's buffers could hold answers for.
    client.send(&"bad\n".repeat(LINES));
    client.finish();
    daemon.until("all taken", |counters| counters.lines == LINES as u64);
    crate::harness::until("all decided", || daemon.queue.depth().bytes == 0);
    let answers = client.rest();
    let last = answers.last().expect("answers");
    assert_eq!((&last["durable"], &last["rejected"]), (&json!(LINES), &json!(LINES)));
    let (mut named, mut left_out, mut numbers) = (0, 0, Vec::new());
    for answer in &answers {
        let rejects = answer["rejects"].as_array().expect("a list");
        assert!(rejects.len() <= 1000);
        named += rejects.len();
        left_out += answer.get("rejects_left_out").map_or(0, |count| count.as_u64().expect("count"));
        numbers.extend(rejects.iter().map(|reject| reject[0].as_u64().expect("a line")));
    }
    assert!(left_out > 0, "the client was slower than the verdicts");
    assert_eq!(named as u64 + left_out, LINES as u64, "none goes uncounted");
    assert!(numbers.is_sorted_by(|a, b| a < b), "each is named once, in order");
    daemon.stop();
}

#[test]
fn a_client_that_vanishes_is_still_heard() {
    let daemon = Daemon::start();
    daemon.hold();
    let mut client = daemon.hello(ACK);
    client.send("one\ntwo\nthree");
    drop(client);
    daemon.until("queued", |counters| counters.lines == 3);
    daemon.release();
    daemon.until("ended", |counters| counters.connections == 0);
    assert_eq!(daemon.stop_texts(), ["one", "two", "three"]);
}

#[test]
fn a_full_queue_stops_reading() {
    const BUDGET: usize = 256 * 1024;
    let daemon = Daemon::with_queue(BUDGET, |config| config.read_bytes = 32 * 1024);
    daemon.hold();
    let mut client = daemon.hello(ACK);
    let sent = client.send_until_stuck("0123456789abcdef\n", Duration::from_millis(300));
    let stuck = daemon.counters();
    assert!(stuck.bytes_read < sent as u64, "the rest stays in the socket");
    assert!(stuck.bytes_read as usize <= BUDGET + 3 * 32 * 1024, "{stuck:?}");
    assert!(stuck.queue_waits > 0);
    assert!(daemon.queue.depth().bytes <= BUDGET);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(daemon.counters().bytes_read, stuck.bytes_read, "nothing more is read");

    let others = daemon.connect();
    daemon.release();
    client.finish();
    let lines = sent.div_ceil(17);
    assert_eq!(client.until_durable(lines as u64)["durable"], lines);
    drop(others);
    assert_eq!(daemon.stop().len(), lines);
}

#[test]
fn stopping_decides_what_was_read_and_says_goodbye() {
    let mut daemon = Daemon::start();
    daemon.hold();
    let mut acked = daemon.hello(ACK);
    acked.send("one\ntwo\nunfinished");
    let mut plain = daemon.connect();
    plain.send("three\nunfini");
    let mut silent = daemon.connect();
    daemon.until("queued", |counters| counters.lines == 3 && counters.connections == 3);
    daemon.shutdown.send_replace(true);
    daemon.until("the others are closed", |counters| counters.connections == 1);
    assert!(acked.is_silent(), "two lines are undecided");
    assert!(!daemon.path.exists(), "nobody else can connect");
    daemon.release();
    let answers = acked.rest();
    assert_eq!(answers.last(), Some(&json!({"closing": "shutdown"})));
    assert_eq!(answers[answers.len() - 2]["durable"], 2);
    plain.until_closed();
    silent.until_closed();
    daemon.wait_served();
    assert_eq!(daemon.counters().unfinished_lines, 2);
    daemon.until_ended("shutdown", 3);
    assert_eq!(daemon.stop().len(), 3);
}

#[test]
fn the_grace_period_bounds_stopping() {
    let mut daemon = Daemon::with_queue(1024, |config| config.grace = Duration::from_millis(200));
    daemon.hold();
    let mut acked = daemon.hello(ACK);
    acked.send("one\n");
    daemon.until("queued", |counters| counters.lines == 1);
    let mut stuck = daemon.connect();
    stuck.send(&"x\n".repeat(1000));
    daemon.until("waits for room", |counters| counters.queue_waits > 0);
    let mut producer = daemon.hello(r#"{"tally":"ack","producer":"p"}"#);
    assert_eq!(producer.answer(), json!({"resume": 0}));

    let start = Instant::now();
    daemon.shutdown.send_replace(true);
    daemon.wait_served();
    assert!((200..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(acked.rest(), [json!({"closing": "shutdown"})], "and no acknowledgement");
    assert_eq!(producer.rest(), [json!({"closing": "shutdown"})]);
    assert_eq!(daemon.counters().unqueued_lines, 1000, "what is lost is counted");
    assert_eq!(daemon.stop().len(), 1);
}

#[test]
fn a_dropped_shutdown_sender_stops_too() {
    let mut daemon = Daemon::start();
    daemon.shutdown = tokio::sync::watch::channel(false).0;
    daemon.wait_served();
    daemon.stop();
}

#[test]
fn answers_are_objects_on_lines_of_their_own() {
    let daemon = Daemon::start();
    let mut client = daemon.hello(ACK);
    for _ in 0..500 {
        client.send("line\n");
    }
    client.finish();
    let answers = client.rest();
    let durable: Vec<u64> = answers.iter().filter_map(|a| a["durable"].as_u64()).collect();
    assert!(durable.is_sorted_by(|a, b| a < b), "each says something new");
    assert!(answers.iter().all(Value::is_object));
    daemon.stop();
}
