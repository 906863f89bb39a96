//! Resuming and fencing over real sockets: whatever happens to connections, each line of a producer counts once.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tally_ingest::{Producers, Queue};
use tokio::time::Instant;

use crate::harness::{Client, Daemon};

fn named(id: &str) -> String {
    json!({"tally": "ack", "producer": id}).to_string()
}

#[test]
fn a_producer_resumes_after_its_decided_lines() {
    let daemon = Daemon::start();
    let mut client = daemon.hello(&named("p"));
    assert_eq!(client.answer(), json!({"resume": 0}));
    client.send("one\n\nbad\nunfinished");
    client.finish();
    let last = client.rest().pop().expect("an answer");
    assert_eq!((&last["durable"], &last["rejected"]), (&json!(3), &json!(1)));
    assert_eq!(daemon.counters().unfinished_lines, 1);

    let mut again = daemon.hello(&named("p"));
    assert_eq!(again.answer(), json!({"resume": 3}), "the unfinished line is not one");
    again.send("unfinished no more\n");
    let answer = again.answer();
    assert_eq!(answer["durable"], 1, "counts this connection's lines");
    assert_eq!(daemon.hello(&named("q")).answer(), json!({"resume": 0}));
    let decided = daemon.stop();
    let texts: Vec<_> = decided.iter().map(|line| (line.line, line.text.as_str())).collect();
    assert_eq!(texts, [(1, "one"), (2, ""), (3, "bad"), (1, "unfinished no more")]);
}

#[test]
fn restored_counts_are_where_producers_resume() {
    let producers = Producers::new(10);
    producers.restore([("p", 41)]);
    let daemon = Daemon::with_parts(Queue::new(1 << 20), producers, |_| {});
    let mut client = daemon.hello(&named("p"));
    assert_eq!(client.answer(), json!({"resume": 41}));
    client.send("x\n");
    client.answer();
    let known = daemon.producers.snapshot();
    assert_eq!(known.iter().map(|(id, lines)| (&**id, *lines)).collect::<Vec<_>>(), [("p", 42)]);
    daemon.stop();
}

#[test]
fn a_newer_connection_takes_over_once_everything_before_is_durable() {
    let daemon = Daemon::start();
    daemon.hold();
    let mut older = daemon.hello(&named("p"));
    assert_eq!(older.answer(), json!({"resume": 0}));
    older.send("one\ntwo\n");
    daemon.until("queued", |counters| counters.lines == 2);

    let mut newer = daemon.hello(&named("p"));
    let answers = older.rest();
    assert_eq!(answers.len(), 1, "the older connection is closed");
    assert_eq!(answers[0]["error"], "superseded");
    older.try_send("three\n");
    assert!(newer.is_silent(), "two lines are undecided");
    daemon.release();
    assert_eq!(newer.answer(), json!({"resume": 2}));
    newer.send("three again\n");
    newer.until_durable(1);
    daemon.until_ended("superseded", 1);
    assert_eq!(daemon.stop_texts(), ["one", "two", "three again"]);
}

#[test]
fn a_connection_that_waits_for_room_is_fenced_with_its_lines() {
    let daemon = Daemon::with_queue(2000, |_| {});
    daemon.hold();
    let mut older = daemon.hello(&named("p"));
    older.answer();
    older.send(&"x\n".repeat(500));
    daemon.until("queued", |counters| counters.lines == 500);
    older.send(&"y\n".repeat(500));
    daemon.until("waits", |counters| counters.queue_waits > 0);
    let mut newer = daemon.hello(&named("p"));
    assert_eq!(older.rest().pop().expect("a reason")["error"], "superseded");
    daemon.release();
    assert_eq!(newer.answer(), json!({"resume": 500}));
    assert_eq!(daemon.counters().unqueued_lines, 500);
    assert_eq!(daemon.stop().len(), 500);
}

#[test]
fn a_connection_that_has_finished_sending_is_fenced_too() {
    let daemon = Daemon::start();
    daemon.hold();
    let mut older = daemon.hello(&named("p"));
    older.answer();
    older.send("one\n");
    older.finish();
    daemon.until("queued", |counters| counters.lines == 1);
    assert!(older.is_silent(), "it waits for its verdict");
    let mut newer = daemon.hello(&named("p"));
    assert_eq!(older.answer()["error"], "superseded");
    assert_eq!(older.line(), None);
    daemon.release();
    assert_eq!(newer.answer(), json!({"resume": 1}));
    assert_eq!(daemon.stop_texts(), ["one"]);
}

#[test]
fn a_waiting_connection_is_superseded_by_a_newer_one() {
    let daemon = Daemon::start();
    daemon.hold();
    let mut first = daemon.hello(&named("p"));
    first.answer();
    first.send("one\n");
    daemon.until("queued", |counters| counters.lines == 1);
    drop(first);
    let mut second = daemon.hello(&named("p"));
    assert!(second.is_silent());
    let mut third = daemon.hello(&named("p"));
    assert_eq!(second.answer()["error"], "superseded");
    daemon.release();
    assert_eq!(third.answer(), json!({"resume": 1}));
    daemon.stop();
}

#[test]
fn as_many_producers_as_may_be_remembered_are_in_use() {
    let daemon = Daemon::with_parts(Queue::new(1 << 20), Producers::new(1), |_| {});
    let mut first = daemon.hello(&named("a"));
    first.answer();
    first.send("one\n");
    first.until_durable(1);
    let mut second = daemon.hello(&named("b"));
    assert_eq!(second.answer(), json!({"resume": 0}));
    second.send("two\n");
    let end = second.answer();
    assert_eq!(end["error"], "too_many_producers");
    assert!(end["message"].as_str().expect("a message").contains("limits.producers"));
    assert_eq!(second.line(), None);
    assert_eq!(daemon.stop_texts(), ["one"]);
}

/// Sends lines `1..=total` as a producer would that is killed at every turn: each life sends from where the daemon says, cut off at some byte,
/// and mostly without reading what came back.
fn send_through_crashes(path: &Path, id: &str, total: u64, mut random: u64, done: &AtomicBool) {
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    let start = Instant::now();
    while !done.load(Relaxed) {
        assert!(start.elapsed() < Duration::from_secs(120), "{id} gets nowhere");
        let mut client = Client::connect(path);
        if !client.try_send(&(named(id) + "\n")) {
            continue;
        }
        let Some(first) = client.line() else { continue };
        let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
        let Some(resume) = first["resume"].as_u64() else {
            continue;
        };
        if resume == total {
            done.store(true, Relaxed);
            return;
        }
        let upto = total.min(resume + 1 + next(300));
        let lines: String = (resume + 1..=upto).map(|line| format!("{id} {line}\n")).collect();
        let cut = lines.len() - (next(2) * next(20)) as usize % lines.len();
        client.try_send(&lines[..cut]);
        if next(3) == 0 {
            thread::sleep(Duration::from_micros(next(500)));
        }
    }
}

#[test]
fn every_line_counts_once_through_crashes_and_rivals() {
    const TOTAL: u64 = 8000;
    let daemon = Daemon::with_queue(16 * 1024, |_| {});
    let done = [const { AtomicBool::new(false) }; 3];
    thread::scope(|scope| {
        for (number, done) in done.iter().enumerate() {
            for rival in 0..2 {
                let path = &daemon.path;
                let seed = 17 + number as u64 * 10 + rival;
                scope.spawn(move || {
                    send_through_crashes(path, &format!("p{number}"), TOTAL, seed, done);
                });
            }
        }
    });
    let known = daemon.producers.snapshot();
    let decided = daemon.stop();
    assert_eq!(known.len(), 3);
    for (id, lines) in known {
        assert_eq!(lines, TOTAL);
        let mine = decided.iter().filter(|line| line.producer == *id).map(|line| &*line.text);
        assert!(mine.eq((1..=TOTAL).map(|line| format!("{id} {line}"))), "{id}");
    }
}
