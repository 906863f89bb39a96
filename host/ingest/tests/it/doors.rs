//! Doors other than the Unix socket: TCP, tokens, datagrams.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tally_ingest::{Body, Counters, Popped, Producers, Queue, SocketLimits, SocketSource, UdpSource};
use tally_net::{Listener, Token};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::{Daemon, until};

fn token() -> Token {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "s3cret\n").expect("writes");
    Token::load(&path).expect("a token")
}

#[test]
fn a_door_with_a_token_takes_nothing_without_it() {
    let daemon = Daemon::with(|config| config.token = Some(token()));
    for first in [r#"{"type":"a"}"#, r#"{"tally":"ack"}"#, r#"{"tally":"ack","token":"s3cre"}"#] {
        let mut client = daemon.hello(first);
        let answer = client.line().expect("an answer");
        assert!(answer.starts_with(r#"{"error":"unauthorized""#), "{answer}");
        assert!(!answer.contains("s3cre\""), "{answer}");
        assert_eq!(client.line(), None);
    }
    daemon.until_ended("unauthorized", 3);
    let mut client = daemon.hello(r#"{"tally":"ack","token":"s3cret"}"#);
    client.send("one\n");
    client.until_durable(1);
    let mut quiet = daemon.hello(r#"{"tally":"data","token":"s3cret"}"#);
    quiet.send("two\n");
    quiet.finish();
    quiet.until_closed();
    drop(client);
    assert_eq!(daemon.stop_texts(), ["one", "two"]);
}

#[test]
fn who_must_show_a_token_must_not_be_waited_for() {
    let daemon = Daemon::with(|config| {
        config.token = Some(token());
        config.limits.handshake = Duration::from_millis(100);
    });
    let mut client = daemon.connect();
    client.send("{\"tally\":");
    let answer = client.line().expect("why it is closed");
    assert!(answer.starts_with(r#"{"error":"unauthorized""#) && answer.contains("in time"), "{answer}");
    assert_eq!(client.line(), None);
    daemon.until_ended("unauthorized", 1);
    daemon.stop();
}

#[test]
fn whoever_shows_no_token_holds_no_memory() {
    let daemon = Daemon::with(|config| config.token = Some(token()));
    let mut client = daemon.connect();
    client.send(&"x".repeat(40_000));
    let answer = client.line().expect("an answer");
    assert!(answer.starts_with(r#"{"error":"unauthorized""#), "{answer}");
    daemon.until_ended("unauthorized", 1);
    daemon.stop();
}

#[test]
fn tcp_speaks_the_same_protocol() {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let listener = Listener::tcp("127.0.0.1:0".parse().expect("an address"), None).expect("binds");
    let address = listener.address().to_owned();
    let (_limits, limits) = watch::channel(SocketLimits::default());
    let (stop, stopped) = watch::channel(false);
    let queue: Arc<Queue<()>> = Queue::new(1 << 20);
    let counters = Arc::new(Counters::default());
    let source = SocketSource::new("tcp", listener, limits);
    assert_eq!(*source.name, format!("tcp:{address}"));
    let served = runtime.spawn(source.serve(queue.clone(), Producers::new(1), counters.clone(), stopped));
    let mut client = TcpStream::connect(&address).expect("connects");
    client.write_all(b"{\"tally\":\"ack\"}\none\ntwo\n").expect("sends");
    let Popped::Chunks(chunks) = queue.pop(1 << 20) else { panic!("chunks") };
    assert_eq!(chunks[0].lines, 2);
    assert!(chunks[0].stream.peer().starts_with("#1 127.0.0.1:"), "{}", chunks[0].stream.peer());
    for chunk in &chunks {
        let lines = chunk.lines;
        chunk.stream.decided(&tally_ingest::Decision { lines, duplicates: 0, last_sequence: 2, rejects: &[] });
    }
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer).expect("an answer");
    assert_eq!(answer, "{\"durable\":2,\"sequence\":2,\"rejected\":0,\"rejects\":[]}\n");
    drop(chunks);
    stop.send_replace(true);
    runtime.block_on(served).expect("ends");
    assert_eq!(counters.snapshot().connections, 0);
}

/// A UDP source and a socket to send from.
struct Datagrams {
    queue: Arc<Queue<()>>,
    counters: Arc<Counters>,
    client: UdpSocket,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

fn datagrams(max_bytes: usize) -> Datagrams {
    let runtime = Runtime::new().expect("a runtime");
    let inside = runtime.enter();
    let source = UdpSource::bind("127.0.0.1:0".parse().expect("an address"), 3, 64 * 1024).expect("binds");
    assert_eq!(source.kernel_drops().read(), Some(0));
    let client = UdpSocket::bind("127.0.0.1:0").expect("binds");
    client.connect(source.address()).expect("connects");
    let queue: Arc<Queue<()>> = Queue::new(max_bytes);
    let counters = Arc::new(Counters::default());
    let (stop, stopped) = watch::channel(false);
    let served = runtime.spawn(source.serve(queue.clone(), counters.clone(), stopped));
    drop(inside);
    Datagrams { queue, counters, client, runtime, stop, served }
}

impl Datagrams {
    /// Every line that was queued, once the source has ended.
    fn stop(self) -> Vec<String> {
        self.stop.send_replace(true);
        self.runtime.block_on(self.served).expect("ends");
        self.queue.close();
        let mut lines = Vec::new();
        while let Popped::Chunks(chunks) = self.queue.pop(1 << 20) {
            for chunk in chunks {
                let Body::Lines(text) = &chunk.body else { panic!("lines") };
                assert_eq!(chunk.preset, 3);
                assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), chunk.lines as usize);
                lines.extend(String::from_utf8_lossy(text).lines().map(str::to_owned));
            }
        }
        lines
    }
}

#[test]
fn a_datagram_is_whole_lines() {
    let udp = datagrams(1 << 20);
    for datagram in ["one", "two\nthree", "four\n", "", "\n"] {
        udp.client.send(datagram.as_bytes()).expect("sends");
    }
    until("five datagrams", || udp.counters.snapshot().datagrams == 5);
    let counts = udp.counters.snapshot();
    assert_eq!(udp.stop(), ["one", "two", "three", "four", ""]);
    assert_eq!(counts.dropped_lines, 0);
}

#[test]
fn what_a_full_queue_cannot_take_is_dropped_and_counted() {
    let udp = datagrams(40_000);
    let sent = 100;
    for i in 0..sent {
        udp.client.send(format!("{i} {}\n", "x".repeat(1000)).as_bytes()).expect("sends");
        let seen = i + 1;
        until("the datagram", || udp.counters.snapshot().datagrams == seen);
    }
    until("all counted", || {
        let counts = udp.counters.snapshot();
        counts.lines + counts.dropped_lines == sent
    });
    let counts = udp.counters.snapshot();
    assert!(counts.dropped_lines > 0 && counts.lines > 0, "{counts:?}");
    assert_eq!(udp.stop().len() as u64, counts.lines);
}
