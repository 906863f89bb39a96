//! Bounds: bodies, lines, memory, the queue, time; and clients that go away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, Bytes};
use axum::http::StatusCode;
use expect_test::expect;
use http_body_util::channel::Channel;
use serde_json::json;
use tally_ingest::Popped;
use tally_ingest::http::HttpLimits;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::{Answer, Door, LIMITS, request};

const NDJSON: &str = "application/x-ndjson";

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_its_length_is_said_or_not() {
    let door = Door::open();
    door.limits.send_replace(HttpLimits { body_bytes: 100, ..LIMITS });
    let fits = format!("{:<100}", "{}");
    assert_eq!(door.post("/v1/events", NDJSON, fits).await.status, StatusCode::OK);
    let large = format!("{:<101}", "{}");
    let unsaid = door.post("/v1/events", NDJSON, large.clone()).await;
    let said = request("/v1/events", NDJSON).header("content-length", "101").body(large.into()).expect("a request");
    let said = door.send(said).await;
    assert_eq!(unsaid.shown(), said.shown());
    expect!["413 body_too_large: the body has more than 100 bytes (limits.body_bytes), unpacked; send fewer events at a time"].assert_eq(&said.shown());
}

#[tokio::test]
async fn what_grows_on_the_way_is_bounded_too() {
    let door = Door::open();
    // What the batch says once would be said a thousand times.
    let context = json!({"text": "x".repeat(9_000)});
    let batch = json!({"batch": vec![json!({}); 1000], "context": context}).to_string();
    assert!(batch.len() < 20_000);
    expect!["413 body_too_large: as lines of JSON the body has more than 2098176 bytes; send fewer events at a time"]
        .assert_eq(&door.post("/v1/batch", "application/json", batch).await.shown());
    assert!(door.seen().is_empty(), "none of it was queued");
}

#[tokio::test]
async fn large_bodies_are_queued_in_several_chunks_and_numbered_through() {
    let door = Door::open();
    let line = |number: usize| match number % 1000 {
        999 => json!({"bad": number, "padding": "x".repeat(80)}).to_string(),
        _ => json!({"good": number, "padding": "x".repeat(80)}).to_string(),
    };
    let lines: Vec<String> = (0..9000).map(line).collect();
    for (media, body) in [(NDJSON, lines.join("\n")), ("application/json", format!("[{}]", lines.join(",")))] {
        let answer = door.post("/v1/events", media, body).await;
        assert_eq!(answer.status, StatusCode::OK);
        let json = answer.json();
        assert_eq!((&json["accepted"], &json["rejected"]), (&json!(8991), &json!(9)));
        let indexes: Vec<_> =
            json["rejects"].as_array().expect("an array").iter().map(|r| r["index"].clone()).collect();
        assert_eq!(indexes, [999, 1999, 2999, 3999, 4999, 5999, 6999, 7999, 8999]);
        assert_eq!(door.seen().len(), 9000);
    }
    let counts = door.counts();
    assert_eq!((counts.requests, counts.lines), (2, 18_000));
    assert!(counts.chunks > 4, "{} chunks", counts.chunks);
    // The decider drops a chunk after it has decided it.
    while door.queue.depth().bytes > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_turns_requests_away() {
    let door = Door::undecided(2000);
    let held = door.queue.reserve(1800).await.expect("open");
    let refused = door.post("/v1/events?wait=accepted", NDJSON, "{}").await;
    expect![
        "429 (later) queue_full: the queue is full: events come in faster than they can be written; send again later"
    ]
    .assert_eq(&refused.shown());
    let activity = door.post("/activity?wait=accepted", "application/json", "{}").await;
    assert_eq!((activity.status, activity.retry_after), (StatusCode::INTERNAL_SERVER_ERROR, Some("1".into())));
    assert_eq!((door.counts().turned_away, door.counts().queue_waits), (2, 2));
    drop(held);
    let taken = door.post("/v1/events?wait=accepted", NDJSON, "{}").await;
    assert_eq!((taken.status, door.counts().turned_away), (StatusCode::ACCEPTED, 2));
    // A batch larger than the whole budget goes through an empty queue.
    drop(door.queue.pop(1));
    let large = "{}\n".repeat(2000);
    let taken = door.post("/v1/events?wait=accepted", NDJSON, large).await;
    assert_eq!((taken.status, door.queue.depth().bytes), (StatusCode::ACCEPTED, 2000));
}

#[tokio::test]
async fn a_closed_queue_means_stopping() {
    let door = Door::undecided(10_000);
    door.queue.close();
    expect!["503 (later) stopping: the daemon is stopping; send again once it is back"]
        .assert_eq(&door.post("/v1/events", NDJSON, "{}").await.shown());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up() {
    let door = Door::open();
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
    sender.send_data(Bytes::from_static(b"{\"a\":1}\n")).await.expect("sent");
    let answer = door.post("/v1/events", NDJSON, HttpBody::new(body)).await;
    expect!["408 body_timeout: the body did not arrive within 30 seconds"].assert_eq(&answer.shown());
    assert!(door.seen().is_empty());
}

#[tokio::test]
async fn bodies_under_way_have_a_budget() {
    let door = Door::open();
    door.limits.send_replace(HttpLimits { body_bytes: 10_000, ..LIMITS });
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
        sender.send_data(Bytes::from(vec![b' '; 9_000])).await.expect("sent");
        let request = request("/v1/events", NDJSON).body(HttpBody::new(body)).expect("a request");
        let mut response = Box::pin(door.router.clone().oneshot(request));
        assert!(timeout(Duration::from_millis(20), &mut response).await.is_err(), "its body goes on");
        waiting.push((sender, response));
    }
    let refused = door.post("/v1/events", NDJSON, format!("{:9000}", "{}")).await;
    expect!["429 (later) too_many_bodies: the requests under way hold as much memory as they may; send again later"]
        .assert_eq(&refused.shown());
    assert_eq!(door.counts().turned_away, 1);
    // Those that are under way go on.
    let (mut sender, response) = waiting.pop().expect("one");
    sender.send_data(Bytes::from_static(b"{}")).await.expect("sent");
    drop(sender);
    assert_eq!(Answer::of(response.await.expect("an answer")).await.status, StatusCode::OK);
    drop(waiting);
    let taken = door.post("/v1/events", NDJSON, format!("{:9000}", "{}")).await;
    assert_eq!(taken.status, StatusCode::OK, "room was given back: {}", taken.shown());
}

#[tokio::test]
async fn what_was_queued_is_decided_though_the_client_went_away() {
    let door = Door::undecided(10_000);
    let request = request("/v1/events", NDJSON).body(HttpBody::from("{\"a\":1}\n{\"b\":2}")).expect("a request");
    let response = door.router.clone().oneshot(request);
    assert!(timeout(Duration::from_millis(20), response).await.is_err(), "it waits for the verdict");
    let Popped::Chunks(chunks) = door.queue.pop(1 << 20) else { panic!("the events are queued") };
    assert_eq!((chunks.len(), chunks[0].lines, Arc::strong_count(&chunks[0].stream)), (1, 2, 1));
}

#[tokio::test]
async fn a_refused_request_ends_its_connection_only_when_its_body_is_long() {
    let door = Door::open();
    for (length, closes) in [(100, false), (300 << 10, true)] {
        let refused = request("/v1/events", "text/plain").body(HttpBody::from(vec![b' '; length])).expect("a request");
        let response = door.router.clone().oneshot(refused).await.expect("a router always answers");
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(response.headers().contains_key("connection"), closes, "{length} bytes");
    }
}
