//! A source over a real socket with a twin of the rest of the daemon behind it: one thread that gives sequence numbers, rejects lines that
//! begin with `bad`, and can be held still.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tally_ingest::{
    Body, Chunk, Counters, CountersSnapshot, Decision, Popped, Producers, Queue, RejectedLine, SocketLimits,
    SocketSource, Stream,
};
use tally_net::{Listener, Token};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a test waits for what must happen.
const LONG: Duration = Duration::from_secs(20);

/// One line as it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The producer, or empty.
    pub producer: String,
    /// Its number in its connection.
    pub line: u64,
    /// Its text; the beginning of one over the limit.
    pub text: String,
}

/// How the source is set up.
pub struct Setup {
    pub limits: SocketLimits,
    pub read_bytes: usize,
    pub grace: Duration,
    pub token: Option<Token>,
}

/// Everything behind the socket.
pub struct Daemon {
    pub path: PathBuf,
    pub queue: Arc<Queue<()>>,
    pub producers: Arc<Producers>,
    pub shutdown: watch::Sender<bool>,
    /// Kept, so that the limits stay as they are.
    _limits: watch::Sender<SocketLimits>,
    counters: Arc<Counters>,
    gate: Arc<Gate>,
    runtime: Runtime,
    served: Option<tokio::task::JoinHandle<()>>,
    sequencer: Option<JoinHandle<Vec<Decided>>>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(configure: impl FnOnce(&mut Setup)) -> Self {
        Self::with_queue(64 << 20, configure)
    }

    pub fn with_queue(max_bytes: usize, configure: impl FnOnce(&mut Setup)) -> Self {
        Self::with_parts(Queue::new(max_bytes), Producers::new(100), configure)
    }

    pub fn with_parts(queue: Arc<Queue<()>>, producers: Arc<Producers>, configure: impl FnOnce(&mut Setup)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tally.sock");
        let mut setup = Setup {
            limits: SocketLimits::default(),
            read_bytes: 256 * 1024,
            grace: Duration::from_secs(5),
            token: None,
        };
        configure(&mut setup);
        let (shutdown, stop) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(Listener::unix(&path, 0o660)).expect("binds");
        let (limits, watched) = watch::channel(setup.limits);
        let mut source = SocketSource::new("unix", listener, watched);
        (source.read_bytes, source.grace, source.token) = (setup.read_bytes, setup.grace, setup.token);
        let serving = source.serve(Arc::clone(&queue), Arc::clone(&producers), Arc::clone(&counters), stop);
        let served = Some(runtime.spawn(serving));
        let gate = Arc::new(Gate::default());
        let sequencer = Sequencer::new(&queue, &producers, &gate);
        let sequencer = Some(thread::spawn(move || sequencer.run()));
        Self {
            path,
            queue,
            producers,
            shutdown,
            _limits: limits,
            counters,
            gate,
            runtime,
            served,
            sequencer,
            _folder: folder,
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.path)
    }

    /// A connection that has said its first line.
    pub fn hello(&self, first: &str) -> Client {
        let mut client = self.connect();
        client.send(first);
        client.send("\n");
        client
    }

    pub fn counters(&self) -> CountersSnapshot {
        self.counters.snapshot()
    }

    /// From now on nothing is decided.
    pub fn hold(&self) {
        *self.gate.held.lock().expect("a gate") = true;
    }

    pub fn release(&self) {
        *self.gate.held.lock().expect("a gate") = false;
        self.gate.changed.notify_all();
    }

    /// Waits until the counters are as they must become.
    pub fn until(&self, what: &str, holds: impl Fn(&CountersSnapshot) -> bool) {
        until(what, || holds(&self.counters()));
    }

    /// Waits until as many connections as that have ended for this reason.
    pub fn until_ended(&self, reason: &'static str, count: u64) {
        self.until(reason, |counters| counters.ended.contains(&(reason, count)));
    }

    /// Waits until serving has returned.
    pub fn wait_served(&mut self) {
        let served = self.served.take().expect("served once");
        let done = async { tokio::time::timeout(LONG, served).await };
        self.runtime.block_on(done).expect("serving returns").expect("serving does not panic");
    }

    /// Stops everything in order and gives what was decided.
    pub fn stop(mut self) -> Vec<Decided> {
        self.shutdown.send_replace(true);
        if self.served.is_some() {
            self.wait_served();
        }
        self.release();
        self.queue.close();
        let sequencer = self.sequencer.take().expect("stopped once");
        assert_eq!(self.counters().connections, 0, "no connection is left");
        let decided = sequencer.join().expect("the sequencer does not panic");
        assert_eq!(self.queue.depth().bytes, 0, "every permit is given back");
        decided
    }

    /// The same, texts only.
    pub fn stop_texts(self) -> Vec<String> {
        self.stop().into_iter().map(|decided| decided.text).collect()
    }
}

pub fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}: not in time");
        thread::sleep(Duration::from_millis(1));
    }
}

#[derive(Default)]
struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let held = self.held.lock().expect("a gate");
        drop(self.changed.wait_while(held, |held| *held).expect("a gate"));
    }
}

struct Sequencer {
    queue: Arc<Queue<()>>,
    producers: Arc<Producers>,
    gate: Arc<Gate>,
    sequence: u64,
    decided: Vec<Decided>,
    /// Streams seen, with the number that their next line must have.
    next: Vec<(Arc<Stream>, u64)>,
}

impl Sequencer {
    fn new(queue: &Arc<Queue<()>>, producers: &Arc<Producers>, gate: &Arc<Gate>) -> Self {
        let (queue, producers, gate) = (Arc::clone(queue), Arc::clone(producers), Arc::clone(gate));
        Self { queue, producers, gate, sequence: 0, decided: Vec::new(), next: Vec::new() }
    }

    fn run(mut self) -> Vec<Decided> {
        loop {
            match self.queue.pop(1 << 20) {
                Popped::Closed => return self.decided,
                Popped::Control(()) => {}
                Popped::Chunks(chunks) => {
                    self.gate.pass();
                    chunks.iter().for_each(|chunk| self.decide(chunk));
                }
            }
        }
    }

    fn decide(&mut self, chunk: &Chunk) {
        self.check_numbers(chunk);
        let rejects = match &chunk.body {
            Body::Refused { prefix, .. } => {
                self.note(chunk, 0, prefix);
                vec![rejected(0, "line_too_long")]
            }
            Body::Lines(bytes) => self.decide_lines(chunk, bytes),
        };
        if let (Some(id), Some(lines)) = (chunk.stream.producer(), chunk.producer_lines) {
            self.producers.durable(id, lines);
        }
        let (lines, last_sequence) = (chunk.lines, self.sequence);
        chunk.stream.decided(&Decision { lines, duplicates: 0, last_sequence, rejects: &rejects });
    }

    fn decide_lines(&mut self, chunk: &Chunk, bytes: &[u8]) -> Vec<RejectedLine> {
        let mut rejects = Vec::new();
        for (index, line) in bytes.split_terminator_newline().enumerate() {
            self.note(chunk, index as u64, line);
            if line.starts_with(b"bad") {
                rejects.push(rejected(index as u32, "invalid_json"));
            } else if !line.is_empty() {
                self.sequence += 1;
            }
        }
        rejects
    }

    fn note(&mut self, chunk: &Chunk, index: u64, line: &[u8]) {
        let producer = chunk.stream.producer().map_or_else(String::new, |id| id.to_string());
        let text = String::from_utf8_lossy(line).into_owned();
        self.decided.push(Decided { producer, line: chunk.first_line + index, text });
    }

    fn check_numbers(&mut self, chunk: &Chunk) {
        let known = self.next.iter_mut().find(|(stream, _)| Arc::ptr_eq(stream, &chunk.stream));
        let after = chunk.first_line + u64::from(chunk.lines);
        match known {
            Some((_, next)) => assert_eq!(std::mem::replace(next, after), chunk.first_line),
            None => {
                assert_eq!(chunk.first_line, 1);
                self.next.push((Arc::clone(&chunk.stream), after));
            }
        }
    }
}

trait Lines {
    fn split_terminator_newline(&self) -> impl Iterator<Item = &[u8]>;
}

impl Lines for [u8] {
    fn split_terminator_newline(&self) -> impl Iterator<Item = &[u8]> {
        self.strip_suffix(b"\n").expect("a body ends with a newline").split(|byte| *byte == b'\n')
    }
}

/// A client over a blocking socket.
pub struct Client {
    socket: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("connects");
        socket.set_read_timeout(Some(LONG)).expect("a timeout");
        socket.set_write_timeout(Some(LONG)).expect("a timeout");
        let answers = BufReader::new(socket.try_clone().expect("clones"));
        Self { socket, answers }
    }

    pub fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).expect("sends");
    }

    /// Sends, unless the daemon has closed: then false.
    pub fn try_send(&mut self, text: &str) -> bool {
        self.socket.write_all(text.as_bytes()).is_ok()
    }

    /// Sends until the socket takes no more for `pause`; gives the number of bytes.
    pub fn send_until_stuck(&mut self, line: &str, pause: Duration) -> usize {
        self.socket.set_write_timeout(Some(pause)).expect("a timeout");
        let block = line.repeat(64 * 1024 / line.len());
        let mut sent = 0;
        loop {
            let at = sent % block.len();
            match self.socket.write(&block.as_bytes()[at..]) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                    self.socket.set_write_timeout(Some(LONG)).expect("a timeout");
                    return sent;
                }
            }
        }
    }

    /// No more will be sent.
    pub fn finish(&self) {
        self.socket.shutdown(Shutdown::Write).expect("half closes");
    }

    /// The next answer line; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub fn answer(&mut self) -> Value {
        let line = self.line().expect("an answer, not the end");
        serde_json::from_str(&line).expect("an answer is JSON")
    }

    pub fn rest(&mut self) -> Vec<Value> {
        let lines = std::iter::from_fn(|| self.line());
        lines.map(|line| serde_json::from_str(&line).expect("an answer is JSON")).collect()
    }

    /// Answers until one covers `lines`.
    pub fn until_durable(&mut self, lines: u64) -> Value {
        loop {
            let answer = self.answer();
            if answer["durable"].as_u64().expect("progress") >= lines {
                return answer;
            }
        }
    }

    /// True when nothing has been answered for a while.
    pub fn is_silent(&mut self) -> bool {
        assert!(self.answers.buffer().is_empty(), "read answers first");
        self.socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let silent = match self.answers.fill_buf() {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        self.socket.set_read_timeout(Some(LONG)).expect("a timeout");
        silent
    }

    /// Waits for the end of a connection that gets no answers.
    pub fn until_closed(&mut self) {
        let mut rest = Vec::new();
        match self.answers.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "no answers: {rest:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

fn rejected(line: u32, reason: &'static str) -> RejectedLine {
    RejectedLine { line, reason, field: None, detail: String::new() }
}
