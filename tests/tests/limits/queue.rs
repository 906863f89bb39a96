//! The queue's bound. The disk is made slow, so that events come in faster than they can be written: sockets are made to
//! wait, requests are turned away, datagrams are dropped and counted. Nothing that was acknowledged is missing.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use tally_tests::wire::{self, Lines, request};
use tally_tests::{Work, tally, wait_until};

use crate::bystander::Bystander;

/// How long every write to disk takes, in microseconds.
const DELAY: u64 = 400_000;
/// More than the queue holds, several times over.
const LINES: u64 = 2500;

pub fn queue_max_bytes() {
    let work = Work::new(&[]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"]);
    strace.arg(format!("inject=fdatasync:delay_enter={DELAY}")).arg(tally().get_program());
    let more = "--tcp 127.0.0.1:0 --udp 127.0.0.1:0 --http 127.0.0.1:0 --set limits.line_bytes=1KiB \
                --set queue.max_bytes=257KiB --set shutdown.grace=60s";
    strace.args(work.run_arguments(more));
    let mut daemon = work.start_as(strace);
    let mut bystander = Bystander::new(&work);

    let padding = "x".repeat(900);
    let line = format!("{{\"type\":\"action\",\"text\":\"{padding}\"}}\n");
    let fast: Vec<_> = ["unix", "tcp"]
        .map(|door| {
            let stream = match door {
                "unix" => wire::unix(&work.path("t.sock")),
                _ => wire::tcp(daemon.address("tcp")),
            };
            let lines = line.repeat(usize::try_from(LINES).expect("small"));
            std::thread::spawn(move || {
                let mut client = Lines::begin(stream, r#"{"tally":"ack"}"#);
                client.write(lines);
                assert_eq!(client.durable(LINES)["rejected"], 0);
            })
        })
        .into();

    // Requests are turned away by name, and told when to come again.
    let body = format!("[{}]", vec![line.trim(); 100].join(","));
    let post =
        || request(wire::tcp(daemon.address("http")), "POST /v1/events", &["Content-Type: application/json"], &body);
    let mut turned_away = 0;
    let mut posted = 0;
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut datagrams_sent = 0;
    wait_until("a request is turned away and a datagram dropped", || {
        datagrams.send_to(line.as_bytes(), daemon.address("udp")).expect("a datagram");
        datagrams_sent += 1;
        let reply = post();
        match reply.status {
            429 => {
                assert_eq!((reply.code().as_str(), reply.header("retry-after")), ("queue_full", "1"), "{reply:?}");
                turned_away += 1;
            }
            200 => posted += 100,
            _ => panic!("{reply:?}"),
        }
        turned_away > 0 && work.metric("tally_source_dropped_lines_total{source=\"udp\"}") > 0.0
    });
    // A small client on a connection of its own has its turn all the same.
    bystander.works();
    for client in fast {
        client.join().expect("everything that the sockets sent is durable");
    }
    for source in ["unix", "tcp"] {
        assert!(
            work.metric(&format!("tally_source_queue_waits_total{{source=\"{source}\"}}")) > 0.0,
            "{source} waited"
        );
    }
    assert_eq!(work.metric("tally_door_answers_total{door=\"http\",status=\"429\"}"), f64::from(turned_away));
    let capacity = work.metric("tally_queue_capacity_bytes");
    assert!(capacity == f64::from(257 << 10) && work.metric("tally_queue_bytes") <= capacity);

    // Once there is room again everybody is served.
    wait_until("a request is taken again", || {
        let reply = post();
        posted += if reply.status == 200 { 100 } else { 0 };
        reply.status == 200
    });
    bystander.works();
    let sent = 2 * LINES + posted + bystander.sent() + datagrams_sent;
    wait_until("every event is accounted for", || work.status()["ledger"]["received"] == sent);
    let ledger = work.status()["ledger"].clone();
    let dropped = ledger["dropped"]["queue_full"].as_u64().expect("datagrams were dropped");
    assert_eq!(ledger["accepted"], sent - dropped, "{ledger}");
    assert_eq!(work.metric("tally_events_dropped_total{reason=\"queue_full\"}"), dropped as f64);
    assert_eq!(work.metric("tally_source_dropped_lines_total{source=\"udp\"}"), dropped as f64);
    // The process started is strace, which ends with the daemon.
    let pid = std::fs::read_to_string(work.path("data/tally.lock")).expect("the daemon's process id");
    assert!(Command::new("kill").args(["-s", "TERM", pid.trim()]).status().expect("kill").success());
    assert_eq!(daemon.wait(Duration::from_secs(60)), Some(0));
    work.verified(&[]);
}
