//! Producers under way: a thread each, which sends lines as fast as they are acknowledged, over connections that break off
//! now and then, until it is told to stop. Keeps the account of its lane; must not know what becomes of the daemon.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::Socket;

use super::books::{Kind, Lane};
use super::life::PATIENCE;
use super::random::Random;
use crate::now;

/// Lines that may be on their way.
const WINDOW: u64 = 1200;
/// Lines with event ids that one producer may send while another does not know what became of its own: more would make the daemon
/// forget those ids (it remembers 10,240 in segments of this size), and count what is sent again.
const AHEAD: u64 = 4000;
const LONGEST_BLOCK: u64 = 60;
/// How long a read waits where nothing else is to be done, and where something is.
const IDLE: Duration = Duration::from_millis(10);
const BUSY: Duration = Duration::from_millis(1);

/// Where producers find the daemon.
#[derive(Clone, Debug)]
pub struct Doors {
    /// The Unix socket.
    pub unix: PathBuf,
    /// An address of the TCP source.
    pub tcp: String,
    /// An address of the HTTP source.
    pub http: String,
}

/// What producers are told.
#[derive(Debug, Default)]
struct Orders {
    /// Ends at once, wherever it is.
    stop: AtomicBool,
    /// Sends no more, and ends when everything is acknowledged.
    finish: AtomicBool,
    /// When that must have happened.
    finish_by: Mutex<Option<Instant>>,
}

/// Running producers.
pub struct Load {
    orders: Arc<Orders>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts all lanes; with `without_anonymous` all that know by themselves where to go on.
    pub fn start(lanes: &Arc<Vec<Lane>>, doors: &Doors, seed: u64, without_anonymous: bool) -> Self {
        let orders = Arc::new(Orders::default());
        let wanted = |number: &usize| !(without_anonymous && lanes[*number].kind == Kind::Anonymous);
        let start = |number: usize| {
            let (lanes, orders, doors) = (lanes.clone(), orders.clone(), doors.clone());
            let random = Random::new(seed ^ (number as u64) << 56);
            std::thread::spawn(move || {
                Producer { lane: &lanes[number], lanes: &lanes, orders: &orders, doors, random }.run()
            })
        };
        let threads = (0..lanes.len()).filter(wanted).map(start).collect();
        Self { orders, threads }
    }

    /// Ends them where they are.
    pub fn stop(self) {
        self.orders.stop.store(true, SeqCst);
        self.join();
    }

    /// Lets them send to the end and take every acknowledgement.
    pub fn finish(self) {
        *self.orders.finish_by.lock().expect("nobody panics with it") = Some(now() + PATIENCE);
        self.orders.finish.store(true, SeqCst);
        self.join();
    }

    fn join(self) {
        for thread in self.threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

struct Producer<'a> {
    lane: &'a Lane,
    lanes: &'a [Lane],
    orders: &'a Orders,
    doors: Doors,
    random: Random,
}

impl Producer<'_> {
    fn run(mut self) {
        while !self.orders.stop.load(SeqCst) {
            let done =
                match self.lane.kind {
                    Kind::IdsHttp => self.requests(),
                    Kind::NamedTcp => TcpStream::connect(&self.doors.tcp)
                        .and_then(|stream| self.session(&OwnedFd::from(stream).into())),
                    _ => UnixStream::connect(&self.doors.unix)
                        .and_then(|stream| self.session(&OwnedFd::from(stream).into())),
                };
            match done {
                Ok(true) => return,
                // It does not know what became of its last lines, so it may not go on.
                _ if self.lane.kind == Kind::Anonymous => return,
                Ok(false) => {}
                // The daemon is gone: there is nobody to finish with.
                Err(_) if self.orders.finish.load(SeqCst) => return,
                Err(_) => std::thread::sleep(BUSY),
            }
        }
    }

    /// Lines on one connection; true when everything is sent and acknowledged as ordered.
    fn session(&mut self, stream: &Socket) -> io::Result<bool> {
        let lane = self.lane;
        let mut answers = Unread::default();
        let hello = match lane.kind.is_named() {
            true => format!("{{\"tally\":\"ack\",\"producer\":\"{}\"}}\n", lane.name()),
            false => "{\"tally\":\"ack\"}\n".to_owned(),
        };
        self.write(stream, hello.as_bytes())?;
        let mut begin = lane.acked();
        while lane.kind.is_named() {
            if let Some(answer) = self.read(stream, &mut answers, IDLE)?.first() {
                let resume = answer["resume"].as_u64();
                begin = resume.ok_or_else(|| io::Error::other(format!("no place to resume: {answer}")))?;
                let range = lane.acked()..=lane.sent();
                assert!(range.contains(&begin), "{} resumes at {begin}, not in {range:?}", lane.name());
                break;
            }
        }
        let (mut next, mut acked) = (begin, begin);
        let until = self.random.below(400);
        for turn in 0.. {
            let finishing = self.orders.finish.load(SeqCst);
            if finishing && acked == next {
                stream.shutdown(Shutdown::Both)?;
                return Ok(true);
            }
            let full = next - acked >= WINDOW || self.must_wait();
            if !finishing && !full {
                let lines = 1 + self.random.below(LONGEST_BLOCK);
                let mut text = String::new();
                (next..next + lines).for_each(|line| lane.write(line, &mut text));
                lane.sent.fetch_max(next + lines, SeqCst);
                next += lines;
                self.write(stream, text.as_bytes())?;
            }
            let patience = if full || finishing { IDLE } else { BUSY };
            for answer in self.read(stream, &mut answers, patience)? {
                acked = self.answered(&answer, begin, acked)?;
            }
            if turn == until && lane.kind != Kind::Anonymous && !finishing {
                // Breaks off, and takes no answers any more.
                return Ok(false);
            }
        }
        unreachable!("turns do not end");
    }

    /// The producer by HTTP waits for an answer, and this one is far ahead of where it was when that began.
    fn must_wait(&self) -> bool {
        let waits =
            |other: &Lane| other.sent() > other.acked() && self.lane.sent() > other.other_then.load(SeqCst) + AHEAD;
        self.lane.kind == Kind::IdsUnix && self.lanes.iter().any(|other| other.kind == Kind::IdsHttp && waits(other))
    }

    fn answered(&self, answer: &Value, begin: u64, before: u64) -> io::Result<u64> {
        let lane = self.lane;
        let Some(durable) = answer["durable"].as_u64() else {
            return Err(io::Error::other(format!("the last answer: {answer}")));
        };
        let acked = begin + durable;
        assert!((before..=lane.sent()).contains(&acked), "{}: {answer} after {before}", lane.name());
        let rejected = lane.invalid(begin..acked);
        assert_eq!(answer["rejected"], rejected, "{}: rejected of {begin}..{acked}: {answer}", lane.name());
        lane.acked.fetch_max(acked, SeqCst);
        lane.duplicates.fetch_add(answer["duplicates"].as_u64().unwrap_or(0), SeqCst);
        Ok(acked)
    }

    /// Everything is written, or the order to stop came.
    fn write(&self, mut stream: &Socket, mut bytes: &[u8]) -> io::Result<()> {
        stream.set_write_timeout(Some(IDLE))?;
        while !bytes.is_empty() {
            self.unless_stopped()?;
            match stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The answers that come within this time.
    fn read(&self, mut stream: &Socket, unread: &mut Unread, patience: Duration) -> io::Result<Vec<Value>> {
        self.unless_stopped()?;
        stream.set_read_timeout(Some(patience))?;
        let mut buffer = [0; 8192];
        match stream.read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(unread.lines(&buffer[..count])),
            Err(error) if is_timeout(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn unless_stopped(&self) -> io::Result<()> {
        if self.orders.stop.load(SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let finish_by = *self.orders.finish_by.lock().expect("nobody panics with it");
        let (lane, is_late) = (self.lane, finish_by.is_some_and(|by| now() > by));
        assert!(!is_late, "{}: {} of {} are acknowledged after {PATIENCE:?}", lane.name(), lane.acked(), lane.sent());
        Ok(())
    }

    /// Requests on one connection; true when everything is acknowledged as ordered.
    fn requests(&mut self) -> io::Result<bool> {
        let lane = self.lane;
        let stream = Socket::from(TcpStream::connect(&self.doors.http)?);
        for _ in 0..1 + self.random.below(40) {
            if self.orders.finish.load(SeqCst) {
                return Ok(true);
            }
            let begin = lane.acked();
            let lines = 1 + self.random.below(4 * LONGEST_BLOCK);
            let mut body = String::new();
            (begin..begin + lines).for_each(|line| lane.write(line, &mut body));
            if lane.sent() <= begin {
                let other = self.lanes.iter().find(|other| other.kind == Kind::IdsUnix);
                lane.other_then.store(other.map_or(0, Lane::sent), SeqCst);
            }
            lane.sent.fetch_max(begin + lines, SeqCst);
            let wait = if self.random.once_in(4) { "applied" } else { "durable" };
            let head = format!(
                "POST /v1/events?wait={wait} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            self.write(&stream, (head + &body).as_bytes())?;
            let (status, answer) = self.reply(&stream)?;
            match status {
                200 => {
                    let count = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("no {name}: {answer}"));
                    assert_eq!(count("accepted") + count("duplicates"), lines, "{lines} lines by HTTP: {answer}");
                    lane.acked.fetch_max(begin + lines, SeqCst);
                    lane.duplicates.fetch_add(count("duplicates"), SeqCst);
                }
                429 | 503 => std::thread::sleep(IDLE),
                _ => panic!("{lines} lines by HTTP are answered with {status} {answer}"),
            }
        }
        Ok(false)
    }

    fn reply(&self, mut stream: &Socket) -> io::Result<(u16, Value)> {
        stream.set_read_timeout(Some(IDLE))?;
        let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
        loop {
            self.unless_stopped()?;
            match stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(error),
            }
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let header = |name: &str| {
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name)?.trim().parse().ok())
            };
            if header("content-length:").is_some_and(|length: usize| body.len() >= length) {
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
                let status = status.unwrap_or_else(|| panic!("no status: {head}"));
                return Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)));
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Bytes of answers that are no whole line yet.
#[derive(Default)]
struct Unread(Vec<u8>);

impl Unread {
    fn lines(&mut self, more: &[u8]) -> Vec<Value> {
        self.0.extend_from_slice(more);
        let end = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.0.split_off(end);
        let whole = std::mem::replace(&mut self.0, rest);
        let text = String::from_utf8(whole).expect("answers are text");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
            .collect()
    }
}
