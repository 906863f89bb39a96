//! The server as clients meet it: limits, checks and the stop, over real sockets.

use std::path::Path;
use std::time::Duration;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

const LIMITS: Limits =
    Limits { connections: 2, header_timeout: Duration::from_millis(300), idle_timeout: Duration::from_secs(2) };

struct Running {
    address: String,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _limits: watch::Sender<Limits>,
}

fn start(token: Option<Token>) -> Running {
    let listener = Listener::tcp("127.0.0.1:0".parse().expect("an address"), None).expect("bound");
    let address = listener.address().to_owned();
    let counters = Arc::new(Counters::default());
    let router = axum::Router::new().route("/", get(|| async { "hello" })).route("/health", get(|| async { "well" }));
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        "at last"
    };
    let router = router.route("/slow", get(slow));
    let (stop, stopped) = watch::channel(false);
    let (limits, watched) = watch::channel(LIMITS);
    let server = Server {
        listener,
        router,
        limits: watched,
        allow: AllowList::default(),
        token,
        open_paths: &["/health"],
        hosts: Some(Hosts::default()),
        counters: Arc::clone(&counters),
    };
    let task = tokio::spawn(serve(server, stopped, Duration::from_secs(2)));
    Running { address, counters, stop, task, _limits: limits }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.expect("connected")
    }

    /// Everything that comes back for these bytes until the server closes.
    async fn say(&self, bytes: &str) -> String {
        let mut socket = self.connect().await;
        socket.write_all(bytes.as_bytes()).await.expect("sent");
        rest(&mut socket).await
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        self.say(&format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")).await
    }
}

async fn rest(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).await.expect("an answer and the end");
    text
}

#[tokio::test]
async fn a_foreign_host_or_none_is_refused() {
    let server = start(None);
    assert!(server.get("/", "host: localhost\r\n").await.ends_with("hello"));
    let foreign = server.get("/", "host: evil.example\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 403") && foreign.contains("host_not_allowed"), "{foreign}");
    let none = server.get("/", "").await;
    assert!(none.starts_with("HTTP/1.1 400") && none.contains("missing_host"), "{none}");
    assert_eq!(server.counters.snapshot().wrong_hosts, 2);
}

#[tokio::test]
async fn a_token_is_wanted_but_for_open_paths() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "s3cret").expect("written");
    let server = start(Some(Token::load(Path::new(&path)).expect("a token")));
    let without = server.get("/", "host: localhost\r\n").await;
    assert!(without.starts_with("HTTP/1.1 401") && without.contains("www-authenticate: Bearer"), "{without}");
    assert!(server.get("/health", "host: localhost\r\n").await.ends_with("well"));
    assert!(server.get("/", "host: localhost\r\nauthorization: Bearer s3cret\r\n").await.ends_with("hello"));
    assert_eq!(server.counters.snapshot().unauthorized, 1);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_others_go_on() {
    let server = start(None);
    let (mut one, two) = (server.connect().await, server.connect().await);
    let third = server.say("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(third.starts_with("HTTP/1.1 503") && third.contains("too_many_connections"), "{third}");
    one.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.expect("sent");
    assert!(rest(&mut one).await.ends_with("hello"));
    drop(two);
    assert_eq!(server.counters.snapshot().too_many, 1);
}

#[tokio::test]
async fn who_still_sends_a_body_sees_the_answer_to_it() {
    let server = start(None);
    let mut socket = server.connect().await;
    let body = vec![b'x'; 20 << 20];
    let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket.write_all(&body).await.expect("sent to the end");
    let answer = rest(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn slow_heads_and_silence_are_ended_and_counted_apart() {
    let server = start(None);
    assert_eq!(server.say("GET / HTTP/1.1\r\nhost: loc").await, "");
    assert_eq!(server.counters.snapshot().header_timeouts, 1);
    // A connection that has been answered may wait longer than a head may take.
    let mut kept = server.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for _ in 0..2 {
        kept.write_all(request).await.expect("sent");
        let mut answer = [0; 512];
        assert!(kept.read(&mut answer).await.expect("an answer") > 0);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(rest(&mut kept).await, "");
    let counts = server.counters.snapshot();
    assert_eq!((counts.header_timeouts, counts.idle_timeouts, counts.requests), (1, 1, 2));
}

#[tokio::test]
async fn a_client_that_has_finished_sending_gets_its_answers() {
    let server = start(None);
    let mut socket = server.connect().await;
    let request = "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
    socket.write_all(request.repeat(2).as_bytes()).await.expect("sent");
    socket.shutdown().await.expect("half closed");
    assert_eq!(rest(&mut socket).await.matches("at last").count(), 2);
}

#[tokio::test]
async fn a_request_in_doubt_is_refused_and_nothing_after_it_is_read() {
    let server = start(None);
    let fine = "GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let doubtful = [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "x: y\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 0\r\ncontent-length: 0\r\n\r\n",
        "host: localhost\r\n\r\n",
    ];
    for head in doubtful {
        let answers = server.say(&format!("{fine}GET / HTTP/1.1\r\nhost: localhost\r\n{head}{fine}")).await;
        let (first, second) = answers.split_once("at last").expect("the request before it is answered");
        assert!(first.starts_with("HTTP/1.1 200"), "{first}");
        assert!(second.starts_with("HTTP/1.1 400") && second.contains("\"malformed_request\""), "{head:?}: {second}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    }
    let large = server.say(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(MAX_HEAD))).await;
    assert!(large.starts_with("HTTP/1.1 431") && large.contains("head_too_large"), "{large}");
    let target = server.say("GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(target.starts_with("HTTP/1.1 403") && target.contains("evil.example"), "{target}");
    let mut socket = server.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.expect("sent");
    socket.shutdown().await.expect("half closed");
    assert_eq!(rest(&mut socket).await, "");
    let counts = server.counters.snapshot();
    assert_eq!((counts.malformed_requests, counts.large_heads, counts.unfinished_requests), (4, 1, 1));
    assert_eq!((counts.wrong_hosts, counts.requests), (1, 5));
    assert_eq!(counts.answers, [(200, 4), (400, 4), (403, 1), (431, 1)]);
}

#[tokio::test]
async fn stopping_closes_idle_connections() {
    let server = start(None);
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    assert!(idle.read(&mut [0; 512]).await.expect("an answer") > 0);
    server.stop.send(true).expect("told");
    assert_eq!(rest(&mut idle).await, "");
    server.task.await.expect("ended");
    assert_eq!(server.counters.snapshot().connections, 0);
}

#[test]
fn a_connection_that_has_said_nothing_is_small() {
    fn size_of_future<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }
    let size = size_of_future(|(door, accepted): (Arc<Door>, Accepting)| door.converse(accepted));
    assert!(size < 2048, "{size} bytes each, and there may be thousands");
}
