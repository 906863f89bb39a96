//! The doors other than a plain Unix socket: TCP, TLS, UDP, HTTP, tokens and MessagePack, against stand-ins.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::send_to;

/// A file in a folder of its own.
struct Lines {
    folder: tempfile::TempDir,
}

impl Lines {
    fn new(text: &str) -> Lines {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lines"), text).unwrap();
        std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
        Lines { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    /// Sends the file; the summary as text without its times, or the error.
    fn send(&self, to: &str, flags: &str) -> String {
        let (mut summary, error) = send_to(to, &self.path("lines"), &flags.replace("TOKEN", &self.path("token")));
        summary.seconds = 1.0;
        let error = error.map(|error| format!("error: {error}\n")).unwrap_or_default();
        summary.text() + &error
    }
}

/// Serves one TCP connection; what `serve` gives back is what it saw.
fn tcp<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, std::thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// Reads a handshake, then `lines` lines, acknowledges them, and reads to the end.
fn acknowledge(stream: impl Read + Write, lines: usize) -> String {
    let mut stream = BufReader::new(stream);
    let mut seen = String::new();
    for _ in 0..=lines {
        stream.read_line(&mut seen).unwrap();
    }
    let answer =
        format!("{{\"durable\":{lines},\"sequence\":{lines},\"rejected\":0,\"rejects\":[],\"duplicates\":1}}\n");
    stream.get_mut().write_all(answer.as_bytes()).unwrap();
    stream.read_to_string(&mut seen).unwrap_or_default();
    seen
}

#[test]
fn tcp_is_acknowledged_and_shows_its_token() {
    let lines = Lines::new("a\nb\n");
    let (port, daemon) = tcp(|stream| acknowledge(stream, 2));
    expect![[r#"
        2 of 2 lines durable; 0 rejected; 1 duplicates; sequence 2; 1.000 s, 2 lines/s
    "#]]
    .assert_eq(&lines.send(&format!("tcp:localhost:{port}"), "--ack --token-file TOKEN"));
    expect![[r#"
        {"tally":"ack","token":"s3cret"}
        a
        b
    "#]]
    .assert_eq(&daemon.join().unwrap());
}

#[test]
fn a_daemon_that_objects_is_heard_without_acknowledgements_too() {
    let lines = Lines::new("a\n");
    let (port, daemon) = tcp(|mut stream| {
        let refusal = b"{\"error\":\"unauthorized\",\"message\":\"this door wants another token\"}\n";
        stream.write_all(refusal).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    expect![[r#"
        1 lines sent in 1.000 s, 1 lines/s; nothing was acknowledged
        error: the daemon ended the connection: this door wants another token (unauthorized)
    "#]]
    .assert_eq(&lines.send(&format!("tcp:localhost:{port}"), "--token-file TOKEN"));
    daemon.join().unwrap();
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// The certificate in `tests/tls` is for `localhost` and signed by itself.
fn tls_server() -> Arc<rustls::ServerConfig> {
    let certificate = CertificateDer::from_pem_file(fixture("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

fn over_tls<T>(
    stream: TcpStream,
    talk: impl FnOnce(rustls::StreamOwned<rustls::ServerConnection, TcpStream>) -> T,
) -> T {
    talk(rustls::StreamOwned::new(rustls::ServerConnection::new(tls_server()).unwrap(), stream))
}

#[test]
fn tls_carries_the_same_protocol() {
    let lines = Lines::new("a\nb\n");
    let (port, daemon) = tcp(|stream| over_tls(stream, |stream| acknowledge(stream, 2)));
    let flags = format!("--ack --ca {}", fixture("cert.pem").display());
    expect![[r#"
        2 of 2 lines durable; 0 rejected; 1 duplicates; sequence 2; 1.000 s, 2 lines/s
    "#]]
    .assert_eq(&lines.send(&format!("tcp+tls:localhost:{port}"), &flags));
    expect![[r#"
        {"tally":"ack"}
        a
        b
    "#]]
    .assert_eq(&daemon.join().unwrap());
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused() {
    let lines = Lines::new("a\n");
    let (port, daemon) = tcp(|stream| over_tls(stream, |mut stream| stream.read(&mut [0; 9]).is_err()));
    let flags = format!("--ack --ca {}", fixture("cert.pem").display());
    let told = lines.send(&format!("tcp+tls:127.0.0.1:{port}"), &flags);
    assert!(told.contains("does --ca name who signed its certificate?"), "{told}");
    assert!(daemon.join().unwrap());
}

#[test]
fn datagrams_hold_whole_lines() {
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("udp:{}", daemon.local_addr().unwrap());
    let text: String = (0..1500).map(|n| format!("{n:0>99}\n")).collect();
    expect![[r#"
        1500 lines sent in 3 datagrams in 1.000 s, 1500 lines/s; UDP acknowledges nothing
    "#]]
    .assert_eq(&Lines::new(&text).send(&to, ""));
    let mut seen = String::new();
    let mut buffer = vec![0; 1 << 16];
    while seen.len() < text.len() {
        let n = daemon.recv(&mut buffer).unwrap();
        assert!(n <= 60 << 10 && buffer[n - 1] == b'\n', "{n}");
        seen += std::str::from_utf8(&buffer[..n]).unwrap();
    }
    assert!(seen == text);

    let long = format!("a\n{}\nb\n", "x".repeat(60 << 10));
    expect![[r#"
        1 lines sent in 1 datagrams in 1.000 s, 1 lines/s; UDP acknowledges nothing
        error: line 2 has more than the 61440 bytes that a datagram takes; send it by unix, tcp or http
    "#]]
    .assert_eq(&Lines::new(&long).send(&to, ""));
}

/// A request as a stand-in saw it.
struct Request {
    head: String,
    body: Vec<u8>,
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Request {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "half a request: {head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Request { head, body }
}

/// Answers one request after the other, all on one connection.
fn http(answers: Vec<(&'static str, Value)>) -> (u16, JoinHandle<Vec<Request>>) {
    tcp(|stream| {
        let mut stream = BufReader::new(stream);
        let mut requests = Vec::new();
        for (head, body) in answers {
            requests.push(read_request(&mut stream));
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
        requests
    })
}

fn taken(accepted: u64, last_sequence: u64) -> (&'static str, Value) {
    let answer =
        json!({"accepted": accepted, "rejected": 0, "duplicates": 0, "last_sequence": last_sequence, "rejects": []});
    ("200 OK", answer)
}

fn check_http(text: &str, flags: &str, answers: Vec<(&'static str, Value)>, told: Expect) -> Vec<Request> {
    let (port, daemon) = http(answers);
    told.assert_eq(
        &Lines::new(text).send(&format!("http://localhost:{port}"), flags).replace(&port.to_string(), "PORT"),
    );
    daemon.join().unwrap()
}

#[test]
fn http_goes_in_batches_on_one_connection() {
    let requests = check_http(
        "one\ntwo\n\nfour\nfive",
        "--batch 2 --wait applied --token-file TOKEN",
        vec![taken(2, 2), taken(1, 3), taken(1, 4)],
        expect![[r#"
            5 of 5 lines applied; 0 rejected; sequence 4; 1.000 s, 5 lines/s
        "#]],
    );
    let bodies: Vec<_> = requests.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
    assert_eq!(bodies, ["one\ntwo\n", "\nfour\n", "five\n"]);
    let head = &requests[0].head;
    let head: String = head.lines().filter(|line| !line.starts_with("host")).map(|line| format!("{line}\n")).collect();
    expect![[r#"
        POST /v1/events?wait=applied HTTP/1.1
        user-agent: tally/0.1.0
        authorization: Bearer s3cret
        content-type: application/x-ndjson
        content-length: 8

    "#]]
    .assert_eq(&head);
}

#[test]
fn rejected_lines_are_told_with_field_and_detail() {
    let reject =
        |index: u64| json!({"index": index, "field": "/timestamp", "reason": "invalid_timestamp", "detail": "no date"});
    let some = json!({"accepted": 1, "rejected": 1, "duplicates": 0, "last_sequence": 1, "rejects": [reject(1)]});
    let none = json!({"accepted": 0, "rejected": 2, "duplicates": 0, "last_sequence": 1,
        "rejects": [{"index": 0, "field": null, "reason": "invalid_json", "detail": ""}], "rejects_left_out": 1});
    let duplicates = json!({"accepted": 0, "rejected": 0, "duplicates": 2, "last_sequence": 1, "rejects": []});
    check_http(
        "one\ntwo\nthree\nfour\nfive\nsix\n",
        "--batch 2",
        vec![("200 OK", some), ("400 Bad Request", none), ("200 OK", duplicates)],
        expect![[r#"
            line 2 was rejected: invalid_timestamp (/timestamp: no date)
            line 3 was rejected: invalid_json
            ...
            6 of 6 lines durable; 3 rejected (invalid_json 1, invalid_timestamp 1, not_named 1); 2 duplicates; sequence 1; 1.000 s, 6 lines/s
        "#]],
    );
}

#[test]
fn a_full_daemon_is_asked_again() {
    let full = json!({"code": "queue_full", "detail": "the queue is full"});
    let requests = check_http(
        "a\n",
        "",
        vec![
            ("429 Too Many Requests\r\nretry-after: 0", full.clone()),
            ("503 Service Unavailable", full.clone()),
            taken(1, 1),
        ],
        expect![[r#"
            1 of 1 lines durable; 0 rejected; sequence 1; 1.000 s, 1 lines/s
        "#]],
    );
    assert!(requests.iter().all(|request| request.body == b"a\n"));
    check_http(
        "a\n",
        "--retry-for 0s",
        vec![("429 Too Many Requests\r\nretry-after: 1", full)],
        expect![[r#"
        0 of 1 lines durable; 0 rejected; sequence 0; 1.000 s, 1 lines/s
        error: gave up after 0ns: the queue is full (429 queue_full)
    "#]],
    );
}

#[test]
fn what_asking_again_cannot_mend_ends_it() {
    let problem = |code: &str, detail: &str| json!({"code": code, "detail": detail});
    let large = problem("body_too_large", "the body has more than 16 MiB");
    check_http(
        "one\ntwo\n",
        "--batch 1",
        vec![taken(1, 1), ("413 Content Too Large", large)],
        expect![[r#"
            1 of 2 lines durable; 0 rejected; sequence 1; 1.000 s, 2 lines/s
            error: stopped at line 2, those before are durable: the body has more than 16 MiB (413 body_too_large); give a smaller --batch
        "#]],
    );
    let token = problem("unauthorized", "this door wants a token");
    check_http(
        "a\n",
        "",
        vec![("401 Unauthorized", token)],
        expect![[r#"
        0 of 1 lines durable; 0 rejected; sequence 0; 1.000 s, 1 lines/s
        error: this door wants a token (401 unauthorized)
    "#]],
    );
    check_http(
        "a\n",
        "",
        vec![("200 OK", json!({"hello": "world"}))],
        expect![[r#"
        0 of 1 lines durable; 0 rejected; sequence 0; 1.000 s, 1 lines/s
        error: the answer (200) does not say what became of the lines; is that a door for events?
    "#]],
    );
}

#[test]
fn a_request_that_may_have_been_taken_is_not_repeated() {
    let (port, daemon) = tcp(|stream| drop(read_request(&mut BufReader::new(stream))));
    let told = Lines::new("a\n").send(&format!("http://localhost:{port}"), "");
    daemon.join().unwrap();
    assert!(told.contains("error: the last request may have been taken or not"), "{told}");
}

#[test]
fn accepted_promises_no_more() {
    let requests = check_http(
        "one\ntwo\n",
        "--wait accepted",
        vec![("202 Accepted", json!({"queued": 2}))],
        expect![[r#"
            2 of 2 lines accepted, their fate not awaited; 1.000 s, 2 lines/s
        "#]],
    );
    assert!(requests[0].head.starts_with("POST /v1/events?wait=accepted HTTP/1.1"));
}

#[test]
fn messagepack_goes_as_maps() {
    let text = "{\"a\":1}\n\n{}\n";
    let requests = check_http(
        text,
        "--encoding msgpack",
        vec![taken(2, 2)],
        expect![[r#"
        2 of 2 lines durable; 0 rejected; sequence 2; 1.000 s, 2 lines/s
    "#]],
    );
    assert!(requests[0].head.contains("content-type: application/msgpack"));
    assert_eq!(requests[0].body, [0x81, 0xa1, b'a', 1, 0x80]);

    let (port, daemon) = tcp(|mut stream| {
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).unwrap();
        seen
    });
    expect![[r#"
        2 lines sent in 1.000 s, 2 lines/s; nothing was acknowledged
    "#]]
    .assert_eq(&Lines::new(text).send(&format!("tcp:localhost:{port}"), "--encoding msgpack"));
    let seen = daemon.join().unwrap();
    let frames = b"{\"encoding\":\"msgpack\",\"tally\":\"data\"}\n\0\0\0\x04\x81\xa1a\x01\0\0\0\x01\x80";
    assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(frames));

    let bad = check_http(
        "{}\n[]\n{}\n",
        "--encoding msgpack --batch 1",
        vec![taken(1, 1)],
        expect![[r#"
        1 of 2 lines durable; 0 rejected; sequence 1; 1.000 s, 2 lines/s
        error: line 2 cannot be sent as MessagePack: it is not a JSON object; send it as it is, without --encoding
    "#]],
    );
    assert_eq!(bad.len(), 1);
}
