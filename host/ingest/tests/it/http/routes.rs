//! Routes, what they answer, and what an answer waits for.

use std::fmt::Write as _;

use axum::body::Body as HttpBody;
use axum::http::{Request, StatusCode};
use expect_test::expect;
use serde_json::json;
use tally_ingest::http::Unavailable;

use super::Door;

#[tokio::test]
async fn activities_are_single_events() {
    let door = Door::open();
    let mut shown = String::new();
    for body in [r#"{"user_id":"u1"}"#, r#"{"bad":1}"#, "nonsense", r#"[{"a":1}]"#, r#"{"dup":1}"#, ""] {
        shown.push_str(&door.shown("/activity", "application/json", body).await);
    }
    *door.daemon.refusing.lock().expect("no panic") =
        Some(Unavailable { code: "disk_full", detail: "there is no room for the log".into() });
    shown.push_str(&door.shown("/activity", "application/json", "{}").await);
    expect![[r#"
        200 {"status":"ok","accepted":1,"rejected":0,"duplicates":0,"last_sequence":1,"rejects":[],"rejects_left_out":0}
          activity: {"user_id":"u1"}
        400 {"status":"error","accepted":0,"rejected":1,"duplicates":0,"last_sequence":1,"rejects":[{"index":0,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
          activity: {"bad":1}
        400 {"status":"error","accepted":0,"rejected":1,"duplicates":0,"last_sequence":1,"rejects":[{"index":0,"reason":"invalid_json","detail":"expected ident at line 1 column 2"}],"rejects_left_out":0}
          activity: nonsense
        200 {"status":"ok","accepted":1,"rejected":0,"duplicates":0,"last_sequence":2,"rejects":[],"rejects_left_out":0}
          activity: [{"a":1}]
        200 {"status":"ok","accepted":0,"rejected":0,"duplicates":1,"last_sequence":2,"rejects":[],"rejects_left_out":0}
          activity: {"dup":1}
        400 empty_body: the body is empty: it must hold at least one event
        500 (later) disk_full: there is no room for the log
    "#]].assert_eq(&shown);
}

#[tokio::test]
async fn segment_calls_have_presets_of_their_own() {
    let door = Door::open();
    let mut shown = String::new();
    for path in ["/v1/track", "/v1/page", "/v1/identify"] {
        shown.push_str(&door.shown(path, "application/json", r#"{"userId":"u1"}"#).await);
    }
    shown.push_str(&door.shown("/v1/track", "application/json", r#"{"bad":1}"#).await);
    expect![[r#"
        200 {"success":true,"accepted":1,"rejected":0,"duplicates":0,"last_sequence":1,"rejects":[],"rejects_left_out":0}
          segment-track: {"userId":"u1"}
        200 {"success":true,"accepted":1,"rejected":0,"duplicates":0,"last_sequence":2,"rejects":[],"rejects_left_out":0}
          segment-page: {"userId":"u1"}
        200 {"success":true,"accepted":1,"rejected":0,"duplicates":0,"last_sequence":3,"rejects":[],"rejects_left_out":0}
          segment-identify: {"userId":"u1"}
        400 {"success":false,"accepted":0,"rejected":1,"duplicates":0,"last_sequence":3,"rejects":[{"index":0,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
          segment-track: {"bad":1}
    "#]].assert_eq(&shown);
}

#[tokio::test]
async fn a_segment_batch_says_things_once() {
    let door = Door::open();
    let mut shown = String::new();
    for body in [
        json!({"batch": [{"type": "track"}, {"type": "page", "bad": 1}], "writeKey": "secret"}).to_string(),
        json!({"batch": [{"type": "track"}, {}, 7, {"sentAt": "own"}], "sentAt": "2026-01-27T10:00:00Z"}).to_string(),
        r#"{
            "context": {"ip": "1.2.3.4", "locale": "en"},
            "integrations": {"All": true},
            "batch": [{"type":"a"}, {"type":"b","context":{"ip":"own"}}, {"context":null}, {"context":"text","integrations":{}}, {}]
        }"#
        .to_owned(),
        r#"{"context": {}, "integrations": null, "sentAt": null, "batch": [{"type":"a"}]}"#.to_owned(),
        json!({"batch": []}).to_string(),
        json!({"events": []}).to_string(),
        json!({"batch": {"type": "track"}}).to_string(),
        r#"{"batch": [{"type":"a"}, {"#.to_owned(),
        "[1]".to_owned(),
    ] {
        shown.push_str(&door.shown("/v1/batch", "application/json", body).await);
    }
    expect![[r#"
        200 {"success":true,"accepted":1,"rejected":1,"duplicates":0,"last_sequence":1,"rejects":[{"index":1,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
          segment: {"type":"track"}
          segment: {"bad":1,"type":"page"}
        200 {"success":true,"accepted":4,"rejected":0,"duplicates":0,"last_sequence":5,"rejects":[],"rejects_left_out":0}
          segment: {"sentAt":"2026-01-27T10:00:00Z","type":"track"}
          segment: {"sentAt":"2026-01-27T10:00:00Z"}
          segment: 7
          segment: {"sentAt":"2026-01-27T10:00:00Z","sentAt":"own"}
        200 {"success":true,"accepted":5,"rejected":0,"duplicates":0,"last_sequence":10,"rejects":[],"rejects_left_out":0}
          segment: {"type":"a","context":{"ip": "1.2.3.4", "locale": "en"},"integrations":{"All": true}}
          segment: {"type":"b","context":{"ip":"own"},"context":{"ip": "1.2.3.4", "locale": "en","ip":"own"},"integrations":{"All": true}}
          segment: {"context":null,"context":{"ip": "1.2.3.4", "locale": "en"},"integrations":{"All": true}}
          segment: {"context":"text","integrations":{},"integrations":{"All": true}}
          segment: {"context":{"ip": "1.2.3.4", "locale": "en"},"integrations":{"All": true}}
        200 {"success":true,"accepted":1,"rejected":0,"duplicates":0,"last_sequence":11,"rejects":[],"rejects_left_out":0}
          segment: {"type":"a"}
        200 {"success":true,"accepted":0,"rejected":0,"duplicates":0,"last_sequence":0,"rejects":[],"rejects_left_out":0}
        400 {"success":false,"accepted":0,"rejected":1,"duplicates":0,"last_sequence":11,"rejects":[{"index":0,"reason":"invalid_json","detail":"the body must be an object with an array \"batch\" of events, and each member once"}],"rejects_left_out":0}
          segment: refused, 13 bytes kept
        400 {"success":false,"accepted":0,"rejected":1,"duplicates":0,"last_sequence":11,"rejects":[{"index":0,"reason":"invalid_json","detail":"the body must be an object with an array \"batch\" of events, and each member once"}],"rejects_left_out":0}
          segment: refused, 26 bytes kept
        400 {"success":false,"accepted":0,"rejected":1,"duplicates":0,"last_sequence":11,"rejects":[{"index":0,"reason":"invalid_json","detail":"byte 26: EOF while parsing an object; none of the body's events is taken"}],"rejects_left_out":0}
          segment: refused, 26 bytes kept
        400 {"success":false,"accepted":0,"rejected":1,"duplicates":0,"last_sequence":11,"rejects":[{"index":0,"reason":"invalid_json","detail":"the body must be an object with an array \"batch\" of events, and each member once"}],"rejects_left_out":0}
          segment: refused, 3 bytes kept
    "#]].assert_eq(&shown);
}

#[tokio::test]
async fn only_what_no_page_can_send_unasked_is_taken() {
    let door = Door::open();
    let mut shown = String::new();
    for (path, media) in [
        ("/v1/events", ""),
        ("/v1/events", "application/x-www-form-urlencoded"),
        ("/v1/events", "text/plain;charset=UTF-8"),
        ("/v1/events", "multipart/form-data; boundary=x"),
        ("/activity", "application/msgpack"),
        ("/v1/batch", "text/plain"),
    ] {
        writeln!(shown, "{path} {}", door.post(path, media, "{}").await.shown()).expect("a String takes everything");
    }
    let accepted = ["application/ndjson", "application/jsonl", "Application/JSON", "application/x-jsonlines"];
    for media in accepted {
        assert_eq!(door.post("/v1/events", media, "{}").await.status, StatusCode::OK, "{media}");
    }
    expect![[r#"
        /v1/events 415 unsupported_media_type: the request has no Content-Type; taken are application/json (an object or an array), application/x-ndjson (a line each), application/msgpack, application/cloudevents+json and application/cloudevents-batch+json
        /v1/events 415 unsupported_media_type: the Content-Type is form data; with curl, add -H 'Content-Type: application/json'; taken are application/json (an object or an array), application/x-ndjson (a line each), application/msgpack, application/cloudevents+json and application/cloudevents-batch+json
        /v1/events 415 unsupported_media_type: the Content-Type text/plain is not taken; taken are application/json (an object or an array), application/x-ndjson (a line each), application/msgpack, application/cloudevents+json and application/cloudevents-batch+json
        /v1/events 415 unsupported_media_type: the Content-Type multipart/form-data is not taken; taken are application/json (an object or an array), application/x-ndjson (a line each), application/msgpack, application/cloudevents+json and application/cloudevents-batch+json
        /activity 415 unsupported_media_type: the Content-Type application/msgpack is not taken; this route takes application/json
        /v1/batch 415 unsupported_media_type: the Content-Type text/plain is not taken; this route takes application/json
    "#]].assert_eq(&shown);
}

#[tokio::test]
async fn other_routes_and_methods_are_no_doors() {
    let door = Door::open();
    let get = Request::get("/v1/events").body(HttpBody::empty()).expect("a request");
    let mut shown = door.send(get).await.shown();
    shown.push('\n');
    shown.push_str(&door.post("/v1/alias", "application/json", "{}").await.shown());
    expect![[r#"
        405 method_not_allowed: events are sent by POST
        404 not_found: /v1/alias takes no events; POST them to /v1/events, /activity, /v1/track, /v1/page, /v1/identify or /v1/batch"#]].assert_eq(&shown);
}

#[tokio::test]
async fn an_answer_waits_for_what_was_asked() {
    let door = Door::open();
    let mut shown = String::new();
    for query in ["", "?wait=durable", "?wait=accepted", "?x&wait=applied", "?wait=soon"] {
        let path = format!("/v1/events{query}");
        let answer = door.post(&path, "application/json", r#"[{"a":1},{"bad":1}]"#).await;
        writeln!(shown, "{query} {}", answer.shown()).expect("a String takes everything");
    }
    assert_eq!(*door.daemon.applied.lock().expect("no panic"), [4]);
    let rejected = door.post("/v1/events?wait=applied", "application/json", r#"{"bad":1}"#).await;
    assert_eq!(rejected.status, StatusCode::BAD_REQUEST);
    assert_eq!(door.daemon.applied.lock().expect("no panic").len(), 1, "there is nothing to wait for");
    expect![[r#"
         200 {"accepted":1,"rejected":1,"duplicates":0,"last_sequence":1,"rejects":[{"index":1,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
        ?wait=durable 200 {"accepted":1,"rejected":1,"duplicates":0,"last_sequence":2,"rejects":[{"index":1,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
        ?wait=accepted 202 {"queued":2}
        ?x&wait=applied 200 {"accepted":1,"rejected":1,"duplicates":0,"last_sequence":4,"applied":true,"rejects":[{"index":1,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
        ?wait=soon 400 invalid_parameter: wait must be accepted, durable or applied
    "#]].assert_eq(&shown);
}

#[tokio::test]
async fn nothing_is_taken_while_the_daemon_refuses() {
    let door = Door::open();
    let why = Unavailable { code: "disk_full", detail: "there is no room for the log".into() };
    *door.daemon.refusing.lock().expect("no panic") = Some(why);
    let shown = door.shown("/v1/events", "application/json", "{}").await;
    *door.daemon.refusing.lock().expect("no panic") = None;
    assert_eq!(door.post("/v1/events", "application/json", "{}").await.status, StatusCode::OK);
    expect![[r#"
        503 (later) disk_full: there is no room for the log
    "#]]
    .assert_eq(&shown);
}
