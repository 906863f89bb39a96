//! Every number equals an independent count of the file that was sent: totals, every record over its own range of
//! sequences, every term of the ledger.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tally_tests::{Work, plugin, succeed};

const AGGREGATORS: [&str; 2] = ["video-actions", "homepage-fetch"];

/// Compares everything that is left behind with the independent count.
pub fn everything_equals_the_count(work: &Work, events: &Path) {
    let records = work.records();
    assert!(!records.is_empty(), "records were written");
    let number = |value: &Value| value.as_u64().expect("a number");
    let ranges: Vec<(u64, u64)> =
        records.iter().map(|r| (number(&r["first_sequence"]), number(&r["last_sequence"]))).collect();
    let mut next = 1;
    for (i, (first, last)) in ranges.iter().enumerate() {
        assert_eq!((*first, number(&records[i]["batch_id"])), (next, i as u64 + 1), "records follow one another");
        next = last + 1;
    }
    let count = work.count(events, &ranges);
    assert_eq!(next - 1, number(&count["accepted"]), "the records cover every accepted event");
    let (mut received, mut rejected) = (0, BTreeMap::<String, u64>::new());
    for (record, counted) in records.iter().zip(count["ranges"].as_array().expect("ranges")) {
        let batch = &record["batch_id"];
        received += number(&record["ledger"]["received"]);
        for (reason, n) in record["ledger"]["rejected"].as_object().expect("reasons") {
            *rejected.entry(reason.clone()).or_default() += number(n);
        }
        for name in AGGREGATORS {
            compare(
                &format!("batch {batch}, {name}"),
                &record["aggregates"][name],
                &record["ledger"]["aggregators"][name],
                &counted["aggregators"][name],
            );
        }
    }
    assert_eq!(received, number(&count["received"]), "every received event is in one record");
    assert_eq!(serde_json::to_value(&rejected).expect("reasons"), count["rejected"]["reasons"], "rejected by reason");
    let last = records.last().expect("a record");
    for name in AGGREGATORS {
        let counted = &count["count"]["aggregators"][name];
        compare(
            &format!("the total of {name}"),
            &last["totals"][name],
            &last["ledger_total"]["aggregators"][name],
            counted,
        );
    }
}

/// The summary and the posts of a report, and its ledger.
fn compare(what: &str, report: &Value, ledger: &Value, counted: &Value) {
    for (column, value) in counted["summary"].as_object().expect("a summary") {
        assert_eq!(&report[column], value, "{what}: {column}");
    }
    if let Some(posts) = report["tables"]["posts"].as_array() {
        let counted = counted["posts"].as_array().expect("posts");
        assert_eq!(posts[..], counted[..posts.len()], "{what}: posts");
    }
    assert_eq!(ledger["applied"], counted["applied"], "{what}: applied");
    assert_eq!(ledger["not_subscribed"], counted["not_subscribed"], "{what}: not subscribed");
    assert_eq!(ledger["refused"], counted["refused"], "{what}: refused");
}

#[test]
fn a_million_events_are_counted_to_the_event() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let events = work.generate(
        "events",
        "--events 1000000 --seed 7 --invalid 0.01 --unsubscribed 0.1 --refused 0.01 --homepage 0.05",
    );
    let daemon = work.start("--flush-events 50000");
    let summary = succeed(work.send(&["--ack", "--output", "json"]).arg(&events));
    let summary: Value = serde_json::from_str(&summary).expect("a summary");
    assert_eq!(summary["durable"], 1_000_000);
    let answer =
        work.ask(&["query", "video-actions", "--rows", "5", "--min-sequence", &summary["sequence"].to_string()]);
    let status = work.ask(&["status"]);
    assert_eq!(status["ledger"]["received"], 1_000_000);
    daemon.stop();
    everything_equals_the_count(&work, &events);
    let records = work.records();
    let totals = &records.last().expect("a record")["totals"]["video-actions"];
    assert_eq!(answer["summary"]["total_visitors"], totals["total_visitors"]);
    assert_eq!(answer["tables"]["posts"][0], totals["tables"]["posts"][0]);
    work.verified(&[]);
}

#[test]
fn a_batch_has_exactly_as_many_events_as_configured() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let events = work.generate("events", "--events 10000 --seed 2 --invalid 0.05");
    let daemon = work.start("--flush-events 700 --flush-interval 1h");
    succeed(work.send(&["--ack"]).arg(&events));
    daemon.stop();
    let records = work.records();
    let accepted: Vec<u64> = records.iter().map(|r| r["ledger"]["accepted"].as_u64().expect("a count")).collect();
    assert!(accepted.len() > 10 && accepted[..accepted.len() - 1].iter().all(|n| *n == 700), "{accepted:?}");
    everything_equals_the_count(&work, &events);
}
