//! Limits on what events and requests are made of: lines, nesting, ids, bodies, and what is kept of the bad ones.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use serde_json::json;
use tally_tests::wire::{self, Lines, request};
use tally_tests::{Daemon, Work, wait_until};

use crate::bystander::{Bystander, VIEW};

const DOORS: &str = "--tcp 127.0.0.1:0 --udp 127.0.0.1:0 --http 127.0.0.1:0";
const JSON: &str = "Content-Type: application/json";
const ACK: &str = r#"{"tally":"ack"}"#;

/// An event of exactly so many bytes.
fn event_of(bytes: usize) -> String {
    let (head, tail) = (r#"{"type":"action","text":""#, r#""}"#);
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

/// Sends an event by every door; each must reject it for this reason, and take the next one.
fn every_door_rejects(work: &Work, daemon: &Daemon, event: &str, reason: &str) {
    for stream in [wire::unix(&work.path("t.sock")), wire::tcp(daemon.address("tcp"))] {
        let mut client = Lines::begin(stream, ACK);
        client.write(format!("{VIEW}\n{event}\n{VIEW}\n"));
        let answer = client.durable(3);
        assert_eq!((&answer["rejected"], &answer["rejects"]), (&json!(1), &json!([[2, reason]])), "{answer}");
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    datagrams.send_to(format!("{event}\n{VIEW}").as_bytes(), daemon.address("udp")).expect("a datagram");
    let body = format!("[{VIEW},{event},{VIEW}]");
    let reply = request(wire::tcp(daemon.address("http")), "POST /v1/events", &[JSON], body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)), "{answer}");
    assert_eq!((&answer["rejects"][0]["index"], &answer["rejects"][0]["reason"]), (&json!(1), &json!(reason)));
    let alone = request(wire::tcp(daemon.address("http")), "POST /v1/events", &[JSON], event);
    assert_eq!(alone.status, 400, "{alone:?}");
    wait_until("the datagram is decided", || work.status()["ledger"]["received"] == 14);
    assert_eq!(work.status()["ledger"]["rejected"], json!({ reason: 5 }));
    assert_eq!(work.metric(&format!("tally_events_rejected_total{{reason=\"{reason}\"}}")), 5.0);
    wait_until("they are kept to be looked at", || {
        let kept = work.get(&format!("/v1/rejected?reason={reason}")).json();
        kept["rejected"].as_array().map(Vec::len) == Some(5)
    });
}

pub fn line_bytes() {
    let work = Work::new(&[]);
    let daemon = work.start(&format!("{DOORS} --set limits.line_bytes=1KiB"));
    let mut bystander = Bystander::new(&work);
    let mut exact = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    exact.write(event_of(1024) + "\n");
    assert_eq!(exact.durable(1)["rejected"], 0, "as long as may be is not too long");
    every_door_rejects(&work, &daemon, &event_of(1025), "line_too_long");
    let mut frames = Lines::begin(wire::tcp(daemon.address("tcp")), r#"{"tally":"ack","encoding":"msgpack"}"#);
    // {"text": a string of 1100 bytes}
    let map = [&b"\x81\xa4text\xda\x04\x4c"[..], &[b'x'; 1100]].concat();
    frames.write([&u32::try_from(map.len()).expect("small").to_be_bytes()[..], &map].concat());
    assert_eq!(frames.durable(1)["rejects"], json!([[1, "line_too_long"]]));
    bystander.works();
    daemon.stop();
}

pub fn depth() {
    let work = Work::new(&[]);
    let daemon = work.start(&format!("{DOORS} --set limits.depth=3"));
    let mut bystander = Bystander::new(&work);
    let mut exact = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    exact.write("{\"type\":\"action\",\"a\":[[1]]}\n");
    assert_eq!(exact.durable(1)["rejected"], 0, "as deep as may be is not too deep");
    every_door_rejects(&work, &daemon, r#"{"type":"action","a":[[{}]]}"#, "too_deep");
    bystander.works();
    daemon.stop();
}

pub fn event_id_bytes() {
    let work = Work::new(&[]);
    let daemon = work.start(&format!("{DOORS} --set limits.event_id_bytes=8"));
    let mut bystander = Bystander::new(&work);
    let mut exact = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    exact.write("{\"type\":\"action\",\"event_id\":\"12345678\"}\n");
    assert_eq!(exact.durable(1)["rejected"], 0, "as long as may be is not too long");
    every_door_rejects(&work, &daemon, r#"{"type":"action","event_id":"123456789"}"#, "invalid_event_id");
    bystander.works();
    daemon.stop();
}

pub fn body_bytes() {
    let work = Work::new(&[]);
    let daemon = work.start(&format!("{DOORS} --set limits.body_bytes=4KiB"));
    let mut bystander = Bystander::new(&work);
    let post = |headers: &[&str], body: &[u8]| {
        request(wire::tcp(daemon.address("http")), "POST /v1/events", &[&[JSON], headers].concat(), body)
    };
    assert_eq!(post(&[], event_of(4096).as_bytes()).status, 200, "as long as may be is not too long");
    let announced = post(&[], event_of(4097).as_bytes());
    assert_eq!((announced.status, announced.code().as_str()), (413, "body_too_large"));
    assert!(announced.body.contains("limits.body_bytes"), "{announced:?}");
    bystander.works();
    // A small one that becomes a large one.
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    gzip.stdin.take().expect("its input").write_all(event_of(1 << 20).as_bytes()).expect("writing to gzip");
    let packed = gzip.wait_with_output().expect("gzip").stdout;
    assert!(packed.len() < 4096);
    let packed = post(&["Content-Encoding: gzip"], &packed);
    assert_eq!((packed.status, packed.code().as_str()), (413, "body_too_large"));
    let chunked = format!("1001\r\n{}\r\n0\r\n\r\n", event_of(4097));
    let mut stream = wire::tcp(daemon.address("http"));
    let head = format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}\r\n");
    let _ = stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunked}").as_bytes());
    let chunked = wire::reply(stream);
    assert_eq!((chunked.status, chunked.code().as_str()), (413, "body_too_large"));
    assert_eq!(work.metric("tally_door_answers_total{door=\"http\",status=\"413\"}"), 3.0);
    bystander.works();
    assert_eq!(work.status()["ledger"]["received"], 1 + bystander.sent(), "nothing of a refused body is taken");
    daemon.stop();
}

pub fn rejected_bytes() {
    const BAD: u64 = 5000;
    let work = Work::new(&[]);
    let daemon = work.start("--set limits.rejected_bytes=64KiB");
    let mut bystander = Bystander::new(&work);
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    let bad: String = (1..=BAD).map(|i| format!("this is bad line number {i}\n")).collect();
    client.write(bad);
    assert_eq!(client.durable(BAD)["rejected"], BAD);
    wait_until("every bad line is written or left out", || {
        bystander.works();
        work.metric("tally_rejected_lines_kept_total") + work.metric("tally_rejected_lines_left_out_total")
            == BAD as f64
    });
    let files = std::fs::read_dir(work.path("data")).expect("the data directory").map(|entry| entry.expect("an entry"));
    let kept: u64 = files
        .filter(|file| file.file_name().to_string_lossy().starts_with("rejected_"))
        .map(|file| file.metadata().expect("its size").len())
        .sum();
    assert!((16 << 10..=64 << 10).contains(&kept), "{kept} bytes of rejected lines are kept");
    let answer = work.get("/v1/rejected?rows=1").json();
    assert_eq!(answer["counts"], json!({ "invalid_json": BAD }), "all are counted");
    assert_eq!(answer["rejected"][0]["line"], BAD, "the newest are kept");
    bystander.works();
    daemon.stop();
}
