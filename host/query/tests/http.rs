//! The routes over a real socket, against a backend that answers with what it was asked.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tally_query::{Ask, Backend, BindError, QueryError, bind, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Answers with what it was asked; a reload takes a while and is counted when it is done.
#[derive(Default)]
struct Echo {
    reloads: AtomicU32,
}

impl Backend for Echo {
    async fn status(&self) -> Result<Value, QueryError> {
        Ok(json!({"sequence": 7}))
    }

    async fn plugins(&self) -> Result<Value, QueryError> {
        Err(QueryError::unavailable("starting", "plugins are being loaded; ask again"))
    }

    async fn reload(&self) -> Result<Value, QueryError> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.reloads.fetch_add(1, Ordering::SeqCst);
        Ok(json!({"reloaded": true}))
    }

    async fn aggregators(&self) -> Result<Value, QueryError> {
        Ok(json!(["video-actions"]))
    }

    async fn ask(&self, name: &str, ask: Ask) -> Result<Value, QueryError> {
        match name {
            "panics" => panic!("the backend's fault"),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok(json!({}))
            }
            _ => Ok(json!({"name": name, "ask": format!("{ask:?}")})),
        }
    }
}

struct Server {
    path: PathBuf,
    backend: Arc<Echo>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

fn start() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tally.sock.query");
    let backend = Arc::new(Echo::default());
    let (stop, stopped) = oneshot::channel();
    let listener = bind(&path).unwrap();
    let shutdown = async { drop(stopped.await) };
    let task = tokio::spawn(serve(listener, Arc::clone(&backend), shutdown));
    Server { path, backend, stop, task, _folder: folder }
}

async fn raw(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Status line, content type, `Allow` and body of an answer.
async fn ask(path: &Path, line: &str) -> String {
    let answer = raw(path, &format!("{line} HTTP/1.1\r\nhost: tally\r\nconnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let telling = |line: &&str| ["HTTP", "content-type", "allow"].iter().any(|start| line.starts_with(start));
    let head: Vec<&str> = head.lines().filter(telling).collect();
    format!("{}\n{body}", head.join("\n"))
}

async fn check(server: &Server, line: &str, expected: Expect) {
    expected.assert_eq(&ask(&server.path, line).await);
}

#[tokio::test]
async fn questions_reach_the_backend() {
    let server = start();
    check(
        &server,
        "GET /health",
        expect![[r#"
        HTTP/1.1 200 OK
        content-type: application/json
        {"status":"ok"}
    "#]],
    )
    .await;
    check(
        &server,
        "GET /v1/status",
        expect![[r#"
        HTTP/1.1 200 OK
        content-type: application/json
        {"sequence":7}
    "#]],
    )
    .await;
    check(
        &server,
        "GET /v1/aggregators",
        expect![[r#"
        HTTP/1.1 200 OK
        content-type: application/json
        ["video-actions"]
    "#]],
    )
    .await;
    check(
        &server,
        "POST /v1/plugins/reload",
        expect![[r#"
        HTTP/1.1 200 OK
        content-type: application/json
        {"reloaded":true}
    "#]],
    )
    .await;
    check(
        &server,
        "GET /v1/aggregators/video%2Dactions?table=posts&table=actions&rows=3&skip=1&min_sequence=9&wait=2s&param.by=a%26b",
        expect![[r#"
            HTTP/1.1 200 OK
            content-type: application/json
            {"ask":"Ask { tables: [\"posts\", \"actions\"], row_limit: 3, skip_rows: 1, parameters: [(\"by\", \"a&b\")], min_sequence: Some(9), wait: 2s }","name":"video-actions"}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn mistakes_get_problem_documents() {
    let server = start();
    check(&server, "GET /v1/plugins", expect![[r#"
        HTTP/1.1 503 Service Unavailable
        content-type: application/problem+json
        {"code":"starting","detail":"plugins are being loaded; ask again","status":503,"title":"Service Unavailable","type":"about:blank"}
    "#]]).await;
    check(&server, "GET /v1/aggregator", expect![[r#"
        HTTP/1.1 404 Not Found
        content-type: application/problem+json
        {"code":"unknown_route","detail":"there is nothing at /v1/aggregator; there are /health, /v1/status, /v1/plugins, /v1/plugins/reload, /v1/aggregators and /v1/aggregators/NAME","status":404,"title":"Not Found","type":"about:blank"}
    "#]]).await;
    check(&server, "GET /v1/plugins/reload", expect![[r#"
        HTTP/1.1 405 Method Not Allowed
        content-type: application/problem+json
        allow: POST
        {"code":"wrong_method","detail":"/v1/plugins/reload does not take GET; use POST","status":405,"title":"Method Not Allowed","type":"about:blank"}
    "#]]).await;
    check(&server, "DELETE /v1/status", expect![[r#"
        HTTP/1.1 405 Method Not Allowed
        content-type: application/problem+json
        allow: GET,HEAD
        {"code":"wrong_method","detail":"/v1/status does not take DELETE; use GET","status":405,"title":"Method Not Allowed","type":"about:blank"}
    "#]]).await;
    check(&server, "GET /v1/aggregators/video-actions?tabel=posts", expect![[r#"
        HTTP/1.1 400 Bad Request
        content-type: application/problem+json
        {"code":"unknown_parameter","detail":"there is no parameter `tabel`; known are table, rows, skip, min_sequence, wait and param.NAME (passed to the aggregator)","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]).await;
}

#[tokio::test]
async fn nonsense_and_a_panic_end_one_connection_only() {
    let server = start();
    let answer = raw(&server.path, "this is no HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let answer = raw(&server.path, &long).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let nothing = raw(&server.path, "GET /v1/aggregators/panics HTTP/1.1\r\nhost: tally\r\n\r\n").await;
    assert_eq!(nothing, "");
    assert!(ask(&server.path, "GET /v1/status").await.contains("sequence"));
}

#[tokio::test]
async fn a_reload_outlives_its_client() {
    let server = start();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(b"POST /v1/plugins/reload HTTP/1.1\r\nhost: tally\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    let begun = Instant::now();
    while server.backend.reloads.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the reload was cancelled with its client");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way_and_is_bounded() {
    let server = start();
    let path = server.path.clone();
    let under_way = tokio::spawn(async move { ask(&path, "POST /v1/plugins/reload").await });
    let path = server.path.clone();
    let too_slow =
        tokio::spawn(async move { raw(&path, "GET /v1/aggregators/slow HTTP/1.1\r\nhost: tally\r\n\r\n").await });
    let _idle = UnixStream::connect(&server.path).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    server.stop.send(()).unwrap();
    assert!(under_way.await.unwrap().contains("reloaded"));
    server.task.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "shutdown took {:?}", begun.elapsed());
    assert_eq!(too_slow.await.unwrap(), "");
    assert!(!server.path.exists(), "the socket file is still there");
}

#[tokio::test]
async fn a_socket_file_is_replaced_only_when_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q");
    let listener = bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(bind(&path), Err(BindError::InUse { .. })));
    drop(listener);
    assert!(path.exists(), "a dropped listener leaves its file, as a killed process does");
    drop(bind(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path), Err(BindError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert!(matches!(bind(&folder.path().join("none/q")), Err(BindError::NoFolder { .. })));
    assert!(matches!(bind(&folder.path().join("x".repeat(200))), Err(BindError::TooLong { .. })));
}
