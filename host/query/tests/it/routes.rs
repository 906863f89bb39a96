//! What each route answers, and every way to ask wrongly.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use expect_test::{Expect, expect};
use tally_query::{Door, router};

use crate::fake::{Fake, answer, bytes, query_door, send};

async fn check(line: &str, expected: Expect) {
    expected.assert_eq(&answer(query_door(Fake::default()), line, &[]).await);
}

/// Status and code of a problem document.
async fn problem(line: &str) -> String {
    let response = send(query_door(Fake::default()), line, &[]).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{line}");
    let problem: serde_json::Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!(problem["status"], status, "{line}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{line}");
    format!("{status} {}", problem["code"].as_str().unwrap())
}

#[tokio::test]
async fn a_report() {
    check("GET /v1/aggregators/video%2Dactions?rows=1", expect![[r#"
        200 OK
        content-type: application/json
        x-as-of-sequence: 12
        x-data-age: 1.234
        x-watermark: 2026-01-27T10:00:00.000000Z
        x-complete: true
        {"age_seconds":1.234,"aggregator":"video-actions","as_of_sequence":12,"complete":true,"rows_left_out":{"posts":6},"summary":{"cold_post":null,"hot_post":"post_1","total_events":12},"tables":{"posts":[{"extra":{"k":[1]},"last":"2026-01-27T10:00:00.123Z","plays":9223372036854775807,"post":"a \"b\", c","revenue":"-0.05","robot":true,"share":0.25}]},"watermark":"2026-01-27T10:00:00.000000Z"}
    "#]]).await;
}

#[tokio::test]
async fn one_table() {
    check("GET /v1/aggregators/video-actions/posts?rows=1&skip=5", expect![[r#"
        200 OK
        content-type: application/json
        x-as-of-sequence: 12
        x-data-age: 1.234
        x-watermark: 2026-01-27T10:00:00.000000Z
        x-complete: true
        {"age_seconds":1.234,"aggregator":"video-actions","as_of_sequence":12,"columns":[{"kind":"text","name":"post","role":"key"},{"kind":"integer","name":"plays","role":"counter"},{"kind":"decimal(2)","name":"revenue","role":"counter"},{"kind":"float","name":"share","role":"gauge"},{"kind":"boolean","name":"robot","role":"gauge"},{"kind":"timestamp","name":"last","role":"gauge"},{"kind":"json","name":"extra","role":"gauge"}],"complete":true,"rows":[{"extra":{"k":[1]},"last":"2026-01-27T10:00:00.123Z","plays":9223372036854775807,"post":"a \"b\", c","revenue":"-0.05","robot":true,"share":0.25}],"rows_left_out":1,"skipped":5,"table":"posts","watermark":"2026-01-27T10:00:00.000000Z"}
    "#]]).await;
    check("GET /v1/aggregators/tiny/summary", expect![[r#"
        200 OK
        content-type: application/json
        x-as-of-sequence: 12
        x-data-age: 1.234
        x-complete: true
        {"age_seconds":1.234,"aggregator":"tiny","as_of_sequence":12,"columns":[{"kind":"integer","name":"total_events","role":"counter"},{"kind":"text","name":"hot_post","role":"gauge"},{"kind":"text","name":"cold_post","role":"gauge"}],"complete":true,"rows":[{"cold_post":null,"hot_post":"post_1","total_events":12}],"rows_left_out":0,"skipped":0,"table":"summary","watermark":null}
    "#]]).await;
}

#[tokio::test]
async fn one_value() {
    check("GET /v1/aggregators/video-actions/summary/hot_post", expect![[r#"
        200 OK
        content-type: application/json
        x-as-of-sequence: 12
        x-data-age: 1.234
        x-watermark: 2026-01-27T10:00:00.000000Z
        x-complete: true
        {"age_seconds":1.234,"aggregator":"video-actions","as_of_sequence":12,"column":"hot_post","complete":true,"kind":"text","table":"summary","value":"post_1","watermark":"2026-01-27T10:00:00.000000Z"}
    "#]]).await;
    check("GET /v1/aggregators/video-actions/summary/cold_post", expect![[r#"
        200 OK
        content-type: application/json
        x-as-of-sequence: 12
        x-data-age: 1.234
        x-watermark: 2026-01-27T10:00:00.000000Z
        x-complete: true
        {"age_seconds":1.234,"aggregator":"video-actions","as_of_sequence":12,"column":"cold_post","complete":true,"kind":"text","table":"summary","value":null,"watermark":"2026-01-27T10:00:00.000000Z"}
    "#]]).await;
    check("GET /v1/aggregators/video-actions/posts/plays", expect![[r#"
        400 Bad Request
        content-type: application/problem+json
        {"code":"not_one_row","detail":"table \"posts\" has 7 rows, and a value is asked of a table of one row; ask /v1/aggregators/video-actions/posts","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]).await;
    check("GET /v1/aggregators/video-actions/summary/hot", expect![[r#"
        404 Not Found
        content-type: application/problem+json
        {"code":"unknown_column","detail":"table \"summary\" has no column \"hot\"; it has total_events, hot_post, cold_post","status":404,"title":"Not Found","type":"about:blank"}
    "#]]).await;
}

#[tokio::test]
async fn flushes_and_rejected_lines() {
    check(
        "GET /v1/batches/last",
        expect![[r#"
        200 OK
        content-type: application/json
        {"batch_id":3}
    "#]],
    )
    .await;
    check(
        "GET /v1/batches/2",
        expect![[r#"
        200 OK
        content-type: application/json
        {"batch_id":2}
    "#]],
    )
    .await;
    check(
        "GET /v1/batches/4",
        expect![[r#"
        404 Not Found
        content-type: application/problem+json
        {"code":"no_batch","detail":"there is no batch 4","status":404,"title":"Not Found","type":"about:blank"}
    "#]],
    )
    .await;
    check(
        "GET /v1/rejected",
        expect![[r#"
        200 OK
        content-type: application/json
        {"reason":null,"rows":20}
    "#]],
    )
    .await;
    check(
        "GET /v1/rejected?rows=1000&reason=too_deep",
        expect![[r#"
        200 OK
        content-type: application/json
        {"reason":"too_deep","rows":1000}
    "#]],
    )
    .await;
    check("GET /v1/rejected?reason=deep", expect![[r#"
        400 Bad Request
        content-type: application/problem+json
        {"code":"unknown_reason","detail":"no line is rejected for the reason `deep`; known are invalid_json, invalid_utf8, too_deep, line_too_long, not_an_object, missing_type, invalid_type, invalid_timestamp, invalid_event_id, missing_field, invalid_encoding, refused_by_all","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]).await;
}

#[tokio::test]
async fn operation() {
    check(
        "GET /health",
        expect![[r#"
        200 OK
        content-type: application/json
        {"status":"ok"}
    "#]],
    )
    .await;
    check(
        "HEAD /health",
        expect![[r#"
        200 OK
        content-type: application/json
    "#]],
    )
    .await;
    check(
        "GET /ready",
        expect![[r#"
        200 OK
        content-type: application/json
        {"status":"ready"}
    "#]],
    )
    .await;
    check(
        "GET /metrics",
        expect![[r#"
        200 OK
        content-type: text/plain; version=0.0.4; charset=utf-8
        # HELP tally_ready 1 while events are accepted.
    "#]],
    )
    .await;
    check(
        "GET /v1/status",
        expect![[r#"
        200 OK
        content-type: application/json
        {"sequence":7}
    "#]],
    )
    .await;
    check("GET /v1/plugins", expect![[r#"
        503 Service Unavailable
        content-type: application/problem+json
        {"code":"starting","detail":"plugins are being loaded; ask again","status":503,"title":"Service Unavailable","type":"about:blank"}
    "#]]).await;
    let stopping = Fake { stopping: true, ..Fake::default() };
    expect![[r#"
        503 Service Unavailable
        content-type: application/problem+json
        {"code":"stopping","detail":"the daemon is stopping","status":503,"title":"Service Unavailable","type":"about:blank"}
    "#]].assert_eq(&answer(query_door(stopping), "GET /ready", &[]).await);
}

#[tokio::test]
async fn changes_are_for_the_admin_door() {
    check("POST /v1/plugins/reload", expect![[r#"
        403 Forbidden
        content-type: application/problem+json
        {"code":"admin_only","detail":"this door only answers questions; reload plugins through the admin socket, /run/tally.sock.admin","status":403,"title":"Forbidden","type":"about:blank"}
    "#]]).await;
    check("GET /v1/plugins/reload", expect![[r#"
        405 Method Not Allowed
        content-type: application/problem+json
        allow: POST
        {"code":"wrong_method","detail":"/v1/plugins/reload does not take GET; use POST","status":405,"title":"Method Not Allowed","type":"about:blank"}
    "#]]).await;
    let admin = router(Arc::new(Fake::default()), Door::Admin);
    expect![[r#"
        200 OK
        content-type: application/json
        {"plugins":[]}
    "#]]
    .assert_eq(&answer(admin, "POST /v1/plugins/reload", &[]).await);
}

#[tokio::test(start_paused = true)]
async fn a_reload_outlives_its_client() {
    let fake = Arc::new(Fake::default());
    let asked = send(router(fake.clone(), Door::Admin), "POST /v1/plugins/reload", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(50), asked).await.is_err(), "the client hangs up");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(fake.reloads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_asked_reaches_the_backend() {
    check(
        "GET /v1/aggregators/echo?table=posts&table=actions&rows=3&skip=1&min_sequence=9&wait=2s&param.by=a%26b",
        expect![[r#"
            400 Bad Request
            content-type: application/problem+json
            {"code":"not_answered","detail":"Ask { tables: [\"posts\", \"actions\"], row_limit: 3, skip_rows: 1, parameters: [(\"by\", \"a&b\")], min_sequence: Some(9), wait: 2s }","status":400,"title":"Bad Request","type":"about:blank"}
        "#]],
    )
    .await;
    check("GET /v1/aggregators/echo/posts?rows=0", expect![[r#"
        400 Bad Request
        content-type: application/problem+json
        {"code":"not_answered","detail":"Ask { tables: [\"posts\"], row_limit: 10000, skip_rows: 0, parameters: [], min_sequence: None, wait: 10s }","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]).await;
    check("GET /v1/aggregators/echo/posts/plays?min_sequence=9", expect![[r#"
        400 Bad Request
        content-type: application/problem+json
        {"code":"not_answered","detail":"Ask { tables: [\"posts\"], row_limit: 1, skip_rows: 0, parameters: [], min_sequence: Some(9), wait: 10s }","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]).await;
}

#[tokio::test]
async fn all_rows_are_all_or_none() {
    let fake = Fake { max_rows: Some(1), ..Fake::default() };
    expect![[r#"
        400 Bad Request
        content-type: application/problem+json
        {"code":"too_many_rows","detail":"table \"posts\" has 5 rows from row 2 on, more than an answer may have, 1 (query.max_rows); ask for pages with `rows` and `skip`","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]
        .assert_eq(&answer(query_door(fake), "GET /v1/aggregators/video-actions/posts?rows=0&skip=2", &[]).await);
    let fake = Fake { max_rows: Some(1), ..Fake::default() };
    let last = answer(query_door(fake), "GET /v1/aggregators/video-actions/posts?rows=0&skip=6", &[]).await;
    assert!(last.starts_with("200"), "{last}");
}

#[tokio::test]
async fn dead_letters_and_changes_pass_on_what_is_asked() {
    let admin = || router(Arc::new(Fake::default()), Door::Admin);
    let passed = |line: &'static str| async move {
        let text = answer(admin(), line, &[]).await;
        text.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(passed("GET /v1/dead-letters").await, r#"{"aggregator":null,"rows":20}"#);
    assert_eq!(passed("GET /v1/dead-letters?aggregator=a&rows=3").await, r#"{"aggregator":"a","rows":3}"#);
    assert_eq!(passed("GET /v1/dead-letters/a%3A7").await, r#"{"id":"a:7"}"#);
    assert_eq!(passed("POST /v1/plugins/a%20b/plan").await, r#"{"bytes":0,"plan":"a b"}"#);
    for (path, change) in [
        ("a%20b/resume", "Resume"),
        ("a%20b/pause", "Pause"),
        ("a%20b/rollback", "Rollback"),
        ("a%20b/promote", "Promote"),
        ("a%20b/rebuild", "Rebuild { from: Some(Beginning), discard_state: false }"),
        ("a%20b/rebuild?from=same", "Rebuild { from: None, discard_state: false }"),
        (
            "a%20b/rebuild?from=2026-01-27T11:00:00%2B01:00&discard_state=true",
            "Rebuild { from: Some(Time(1769508000000000)), discard_state: true }",
        ),
        ("a%20b/reset?discard_state=true", "Reset { discard_state: true }"),
        ("a%20b/remove?discard_state=false", "Remove { discard_state: false }"),
    ] {
        let text = answer(admin(), &format!("POST /v1/plugins/{path}"), &[]).await;
        let expected = format!("{{\"changed\":\"a b\",\"to\":\"{change}\"}}");
        assert_eq!(text.lines().last(), Some(&*expected), "{path}");
    }
    for path in ["rebuild?from=yesterday", "reset?discard_state=yes", "remove?all=true"] {
        let text = answer(admin(), &format!("POST /v1/plugins/a/{path}"), &[]).await;
        assert!(text.starts_with("400"), "{path}: {text}");
    }
    let shadow = "POST /v1/plugins/a%20b/shadow";
    assert_eq!(passed(shadow).await, r#"{"bytes":0,"from":null,"shadow":"a b"}"#);
    let shadow = "POST /v1/plugins/a%20b/shadow?from=beginning";
    assert_eq!(passed(shadow).await, r#"{"bytes":0,"from":"Beginning","shadow":"a b"}"#);
    assert_eq!(passed("DELETE /v1/plugins/a%20b/shadow").await, r#"{"dropped":"a b"}"#);
    assert_eq!(passed("GET /v1/plugins/a%20b/diff").await, r#"{"diff":"a b","rows":20}"#);
    assert_eq!(passed("GET /v1/plugins/a%20b/diff?rows=0").await, r#"{"diff":"a b","rows":0}"#);
}

#[tokio::test]
async fn mistakes_get_problem_documents() {
    let table = [
        ("GET /", "404 unknown_route"),
        ("GET /v1/aggregator", "404 unknown_route"),
        ("GET /v1/aggregators/", "404 unknown_route"),
        ("GET /v1/aggregators/a/b/c/d", "404 unknown_route"),
        ("GET /v1/aggregators/nobody", "404 unknown_aggregator"),
        ("GET /v1/aggregators/video-actions/nothing", "404 unknown_table"),
        ("GET /v1/aggregators/video-actions?table=nothing", "404 unknown_table"),
        ("GET /v1/aggregators/video-actions/nothing/hot_post", "404 unknown_table"),
        ("DELETE /v1/status", "405 wrong_method"),
        ("OPTIONS /metrics", "405 wrong_method"),
        ("POST /v1/aggregators/video-actions", "405 wrong_method"),
        ("GET /v1/aggregators/video-actions?tabel=posts", "400 unknown_parameter"),
        ("GET /v1/aggregators/video-actions/posts?table=posts", "400 unknown_parameter"),
        ("GET /v1/aggregators/video-actions/summary/hot_post?format=csv", "400 unknown_parameter"),
        ("GET /v1/status?verbose", "400 unknown_parameter"),
        ("GET /health?x=1", "400 unknown_parameter"),
        ("POST /v1/plugins/reload?x=1", "400 unknown_parameter"),
        ("GET /v1/batches/last?x=1", "400 unknown_parameter"),
        ("GET /v1/batches/newest", "400 invalid_parameter"),
        ("GET /v1/batches/0", "400 invalid_parameter"),
        ("GET /v1/rejected?rows=0", "400 too_many_rows"),
        ("GET /v1/rejected?rows=1001", "400 too_many_rows"),
        ("GET /v1/rejected?rows=many", "400 invalid_parameter"),
        ("GET /v1/rejected?skip=1", "400 unknown_parameter"),
        ("GET /v1/dead-letters?rows=1001", "400 too_many_rows"),
        ("GET /v1/dead-letters?reason=trap", "400 unknown_parameter"),
        ("GET /v1/dead-letters/bad:7?rows=1", "400 unknown_parameter"),
        ("GET /v1/plugins/bad/resume", "405 wrong_method"),
        ("POST /v1/plugins/bad/pause?now", "400 unknown_parameter"),
        ("POST /v1/plugins/bad/resume", "403 admin_only"),
        ("GET /v1/plugins/bad/plan", "405 wrong_method"),
        ("POST /v1/plugins/bad/plan", "403 admin_only"),
        ("GET /v1/plugins/bad/shadow", "405 wrong_method"),
        ("POST /v1/plugins/bad/shadow", "403 admin_only"),
        ("DELETE /v1/plugins/bad/shadow", "403 admin_only"),
        ("POST /v1/plugins/bad/diff", "405 wrong_method"),
        ("GET /v1/plugins/bad/diff?rows=1001", "400 too_many_rows"),
        ("GET /v1/plugins/bad/diff?rows=many", "400 invalid_parameter"),
        ("GET /v1/plugins/bad/diff?from=x", "400 unknown_parameter"),
        ("GET /v1/aggregators/video-actions?rows=10001", "400 too_many_rows"),
        ("GET /v1/aggregators/video-actions?rows=1&rows=2", "400 repeated_parameter"),
        ("GET /v1/aggregators/%zz", "400 invalid_encoding"),
        ("GET /v1/aggregators/%ff", "400 invalid_encoding"),
        ("GET /v1/aggregators/x?table=%ff", "400 invalid_encoding"),
        ("GET /%2", "400 invalid_encoding"),
    ];
    for (line, expected) in table {
        assert_eq!(problem(line).await, expected, "{line}");
    }
    assert_eq!(problem(&format!("GET /v1/aggregators/{}", "a".repeat(9000))).await, "414 uri_too_long");
}

#[tokio::test]
async fn no_answer_is_kept_by_a_cache() {
    for line in ["GET /v1/status", "GET /nothing", "GET /%"] {
        let response = send(query_door(Fake::default()), line, &[]).await;
        assert_eq!(response.headers()["cache-control"], "no-store", "{line}");
    }
}
