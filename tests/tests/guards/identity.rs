//! An event with an id counts once, by whichever doors it comes, before and after a crash.

use std::net::UdpSocket;

use serde_json::json;
use tally_tests::wire::{self, Lines, request};
use tally_tests::{Daemon, Work, plugin, wait_until};

const DOORS: &str = "--tcp 127.0.0.1:0 --udp 127.0.0.1:0 --http 127.0.0.1:0";
const ACK: &str = r#"{"tally":"ack"}"#;

/// Sends the event by every door and in every encoding; gives how often that is.
fn by_every_door(work: &Work, daemon: &Daemon, event: &str, msgpack: &[u8]) -> u64 {
    for stream in [wire::unix(&work.path("t.sock")), wire::tcp(daemon.address("tcp"))] {
        let mut client = Lines::begin(stream, ACK);
        client.write(format!("{event}\n"));
        client.durable(1);
    }
    let mut frames = Lines::begin(wire::unix(&work.path("t.sock")), r#"{"tally":"ack","encoding":"msgpack"}"#);
    frames.write([&u32::try_from(msgpack.len()).expect("small").to_be_bytes()[..], msgpack].concat());
    frames.durable(1);
    let post = |kind: &str, body: &[u8]| {
        let kind = format!("Content-Type: application/{kind}");
        let reply = request(wire::tcp(daemon.address("http")), "POST /v1/events", &[&kind], body);
        assert_eq!(reply.status, 200, "a duplicate is no error: {reply:?}");
        reply.json()["duplicates"].clone()
    };
    assert_eq!(post("json", event.as_bytes()), 1);
    assert_eq!(post("json", format!("[{event},{event}]").as_bytes()), 2);
    assert_eq!(post("x-ndjson", format!("{event}\n").as_bytes()), 1);
    assert_eq!(post("msgpack", msgpack), 1);
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let before = work.status()["ledger"]["received"].as_u64().expect("a count");
    datagrams.send_to(event.as_bytes(), daemon.address("udp")).expect("a datagram");
    wait_until("the datagram is decided", || work.status()["ledger"]["received"] == before + 1);
    9
}

#[test]
fn an_event_counts_once_over_every_door_and_a_crash() {
    let work = Work::new(&[plugin("video-actions")]);
    let event = r#"{"type":"action","event_id":"e-1","user_id":"u1","resource_type":"posts:1","action":"view"}"#;
    let mut msgpack = vec![0x85];
    for text in ["type", "action", "event_id", "e-1", "user_id", "u1", "resource_type", "posts:1", "action", "view"] {
        msgpack.push(0xa0 + u8::try_from(text.len()).expect("short"));
        msgpack.extend(text.as_bytes());
    }
    let daemon = work.start(DOORS);
    let mut sent = by_every_door(&work, &daemon, event, &msgpack);
    let ledger = || work.status()["ledger"].clone();
    assert_eq!((&ledger()["accepted"], &ledger()["duplicate"]), (&json!(1), &json!(sent - 1)));
    daemon.kill();
    let daemon = work.start(DOORS);
    sent += by_every_door(&work, &daemon, event, &msgpack);
    assert_eq!((&ledger()["accepted"], &ledger()["duplicate"]), (&json!(1), &json!(sent - 1)), "{}", ledger());
    assert_eq!(ledger()["received"], sent, "received = accepted + duplicates");
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    client.write(event.replace("e-1", "e-2") + "\n");
    assert_eq!(client.durable(1)["duplicates"], json!(null), "another id is another event");
    let views = work.get("/v1/aggregators/video-actions?min_sequence=2").json()["summary"]["total_views"].clone();
    assert_eq!(views, 2);
    daemon.stop();
    work.verified(&[]);
}
