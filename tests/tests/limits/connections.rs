//! Limits on connections: how many, how many producers, how long they may be silent.

use std::io::{Read, Write};

use serde_json::{Value, json};
use tally_tests::wire::{self, Lines, Wire, reply, request};
use tally_tests::{Daemon, Work, wait_until};

use crate::bystander::{Bystander, VIEW};

const ACK: &str = r#"{"tally":"ack"}"#;
const JSON: &str = "Content-Type: application/json";

fn works(client: &mut Lines, sent: u64) {
    client.write(format!("{VIEW}\n"));
    assert_eq!(client.durable(sent)["rejected"], 0);
}

pub fn connections() {
    let work = Work::new(&[]);
    let daemon = work.start("--tcp 127.0.0.1:0 --http 127.0.0.1:0 --set limits.connections=2");
    for door in ["unix", "tcp"] {
        let connect = || match door {
            "unix" => wire::unix(&work.path("t.sock")),
            _ => wire::tcp(daemon.address("tcp")),
        };
        let mut first = Lines::begin(connect(), ACK);
        let mut second = Lines::begin(connect(), ACK);
        works(&mut first, 1);
        works(&mut second, 1);
        let refused = Lines::begin(connect(), ACK).answer();
        assert_eq!(refused["error"], "too_many_connections", "{door}: {refused}");
        works(&mut first, 2);
        works(&mut second, 2);
        assert_eq!(work.metric(&format!("tally_source_connections_refused_total{{source=\"{door}\"}}")), 1.0);
        drop(first);
        wait_until("a place is free", || work.metric(&format!("tally_source_connections{{source=\"{door}\"}}")) < 2.0);
        works(&mut Lines::begin(connect(), ACK), 1);
        works(&mut second, 3);
    }
    // Questions have a limit, too: one that comes right behind others may be refused.
    wait_until("both are counted", || work.status()["connections"]["refused"] == 2);

    // Two that keep their connections, then a third.
    let busy = || {
        let mut stream = wire::tcp(daemon.address("http"));
        let head =
            format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {}\r\n", VIEW.len());
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).expect("a head");
        stream
    };
    let mut held = [busy(), busy()];
    wait_until("both are open", || work.metric("tally_door_connections{door=\"http\"}") == 2.0);
    let refused = request(wire::tcp(daemon.address("http")), "POST /v1/events", &[JSON], VIEW);
    assert_eq!((refused.status, refused.code().as_str()), (503, "too_many_connections"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), "1");
    let counted = "tally_door_refused_total{door=\"http\",reason=\"too_many_connections\"}";
    assert_eq!(work.metric(counted), 1.0);
    assert_eq!(work.metric("tally_source_connections_refused_total{source=\"http\"}"), 1.0);
    wait_until("all are counted", || work.status()["connections"]["refused"] == 3);
    held.iter_mut().for_each(|stream| stream.write_all(VIEW.as_bytes()).expect("a body"));
    for stream in held {
        assert_eq!(reply(stream).status, 200, "those that were there are served");
    }
    wait_until("there is room again", || work.metric("tally_door_connections{door=\"http\"}") == 0.0);
    assert_eq!(request(wire::tcp(daemon.address("http")), "POST /v1/events", &[JSON], VIEW).status, 200);
    daemon.stop();
}

pub fn producers() {
    let work = Work::new(&[]);
    let daemon = work.start("--set limits.producers=2");
    let mut bystander = Bystander::new(&work);
    let produce = |name: &str| {
        let hello = format!("{{\"tally\":\"ack\",\"producer\":\"{name}\"}}");
        let mut client = Lines::begin(wire::unix(&work.path("t.sock")), &hello);
        let resume = client.answer()["resume"].as_u64().expect("where to go on");
        client.write(format!("{VIEW}\n"));
        (client, resume)
    };
    let (mut one, _) = produce("one");
    let (mut two, _) = produce("two");
    one.durable(1);
    two.durable(1);
    let (mut three, _) = produce("three");
    assert_eq!(three.answer()["error"], "too_many_producers");
    let ended = "tally_source_connections_ended_total{source=\"unix\",reason=\"too_many_producers\"}";
    wait_until("it is counted", || work.metric(ended) == 1.0);
    bystander.works();
    works(&mut one, 2);
    works(&mut two, 2);
    // One that is not connected makes room, and is forgotten.
    drop(one);
    wait_until("it is gone", || work.metric("tally_source_connections{source=\"unix\"}") == 2.0);
    let (mut three, resume) = produce("three");
    three.durable(1);
    assert_eq!(resume, 0);
    drop(three);
    drop(two);
    wait_until("they are gone", || work.metric("tally_source_connections{source=\"unix\"}") == 1.0);
    let (mut two, resume) = produce("two");
    assert_eq!(resume, 2, "the others are remembered");
    two.durable(1);
    drop(two);
    wait_until("it is gone", || work.metric("tally_source_connections{source=\"unix\"}") == 1.0);
    assert_eq!(produce("one").1, 0, "the least recently used was forgotten");
    bystander.works();
    daemon.stop();
}

/// Waits for the daemon to close, and gives what it said.
fn last_words(mut stream: Box<dyn Wire>) -> String {
    let mut text = String::new();
    // Closed with bytes unread is a reset, which is an end as well.
    let _ = stream.read_to_string(&mut text);
    text
}

/// A daemon whose TCP door wants a token.
fn with_token(work: &Work, limit: &str) -> (Daemon, String) {
    std::fs::write(work.path("token"), "open-sesame\n").expect("a token");
    let token = work.path("token").display().to_string();
    let doors = "--tcp 127.0.0.1:0 --http 127.0.0.1:0 --query-listen 127.0.0.1:0";
    let daemon = work.start(&format!("{doors} --set tcp.token_file={token} {limit}"));
    (daemon, r#"{"tally":"ack","token":"open-sesame"}"#.to_owned())
}

pub fn header_timeout() {
    let work = Work::new(&[]);
    let (daemon, hello) = with_token(&work, "--set limits.header_timeout=1s");
    let mut bystander = Bystander::new(&work);
    let mut inside = Lines::begin(wire::tcp(daemon.address("tcp")), &hello);
    works(&mut inside, 1);
    for door in ["http", "query_tcp"] {
        let mut slow = wire::tcp(daemon.address(door));
        slow.write_all(b"GET /v1/status HTT").expect("half a head");
        bystander.works();
        assert_eq!(last_words(slow), "", "half a head gets no answer");
        assert_eq!(work.metric(&format!("tally_door_refused_total{{door=\"{door}\",reason=\"header_timeout\"}}")), 1.0);
    }
    let mut slow = wire::tcp(daemon.address("tcp"));
    slow.write_all(b"{\"tally\":\"ack\",").expect("half a handshake");
    let said: Value = serde_json::from_str(&last_words(slow)).expect("why it is closed");
    assert_eq!(said["error"], "unauthorized", "{said}");
    let ended = "tally_source_connections_ended_total{source=\"tcp\",reason=\"unauthorized\"}";
    wait_until("it is counted", || work.metric(ended) == 1.0);
    bystander.works();
    works(&mut inside, 2);
    daemon.stop();
}

pub fn idle_timeout() {
    let work = Work::new(&[]);
    let (daemon, hello) = with_token(&work, "--set limits.idle_timeout=1s");
    let mut bystander = Bystander::new(&work);
    let mut silent = Lines::begin(wire::tcp(daemon.address("tcp")), &hello);
    works(&mut silent, 1);
    assert_eq!(silent.answer()["error"], "idle");
    assert_eq!(silent.answer(), Value::Null, "and it is closed");
    let ended = "tally_source_connections_ended_total{source=\"tcp\",reason=\"idle\"}";
    wait_until("it is counted", || work.metric(ended) == 1.0);
    let mut kept = wire::tcp(daemon.address("http"));
    let head =
        format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {}\r\n\r\n", VIEW.len());
    kept.write_all(format!("{head}{VIEW}").as_bytes()).expect("a request");
    assert_eq!(reply(kept).json()["accepted"], json!(1), "kept alive, then closed");
    assert_eq!(work.metric("tally_door_refused_total{door=\"http\",reason=\"idle_timeout\"}"), 1.0);
    bystander.works();
    works(&mut Lines::begin(wire::tcp(daemon.address("tcp")), &hello), 1);
    daemon.stop();
}
