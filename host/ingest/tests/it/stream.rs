//! Streams that collect a verdict.

use std::sync::Arc;
use std::time::Duration;

use tally_ingest::protocol::MAX_REJECTS;
use tally_ingest::{Decision, RejectedLine, Stream, Verdict};
use tokio::time::timeout;

fn rejected(line: u32) -> RejectedLine {
    let field = Some("/timestamp".to_owned());
    RejectedLine { line, reason: "invalid_timestamp", field, detail: format!("line {line}") }
}

fn decide(stream: &Stream, lines: u32, duplicates: u32, last_sequence: u64, rejects: &[RejectedLine]) {
    stream.decided(&Decision { lines, duplicates, last_sequence, rejects });
}

#[tokio::test]
async fn a_verdict_waits_for_all_lines_and_counts_over_all_chunks() {
    let stream = Stream::collected("http:test".into(), "#1".into());
    assert!(stream.wants_answers());
    decide(&stream, 5, 1, 40, &[rejected(4)]);
    assert!(timeout(Duration::from_millis(20), stream.verdict(8)).await.is_err(), "it waits");
    let later = {
        let stream = Arc::clone(&stream);
        tokio::spawn(async move { stream.verdict(8).await })
    };
    decide(&stream, 3, 0, 42, &[rejected(0)]);
    let verdict = later.await.expect("no panic");
    let second = RejectedLine { line: 5, ..rejected(0) };
    let expected = Verdict {
        lines: 8,
        accepted: 5,
        rejected: 2,
        duplicates: 1,
        last_sequence: 42,
        rejects: vec![rejected(4), second],
        left_out: 0,
    };
    assert_eq!(verdict, expected);
}

#[tokio::test]
async fn a_verdict_names_a_bounded_number_of_rejects() {
    let stream = Stream::collected("http:test".into(), "#1".into());
    let rejects: Vec<RejectedLine> = (0..700).map(rejected).collect();
    for _ in 0..2 {
        decide(&stream, 700, 0, 0, &rejects);
    }
    let verdict = stream.verdict(1400).await;
    assert_eq!((verdict.rejects.len(), verdict.left_out), (MAX_REJECTS, 400));
    assert_eq!((verdict.accepted, verdict.rejected), (0, 1400));
    assert_eq!(verdict.rejects.last().map(|reject| reject.line), Some(999));
}

#[tokio::test]
async fn nothing_admitted_is_decided_at_once() {
    let stream = Stream::collected("http:test".into(), "#1".into());
    assert_eq!(stream.verdict(0).await, Verdict::default());
}
