//! Load at a fixed rate, whatever the daemon does: event i is meant to be sent at start + i / rate, and its latency counts
//! from then, so that a daemon that stalls pays for everything that should have come meanwhile.
//!
//! One thread that never sleeps sends what is due and hears what is acknowledged: nothing has to wake up.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::client::{AnswerParser, PIECE};
use crate::count::Count;
use crate::lines::Lines;

/// The longest silence.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent.
pub struct Load<'a> {
    /// Sent from the first to the last, and again.
    pub lines: &'a Lines,
    /// Events per second.
    pub rate: u64,
    /// How many.
    pub events: u64,
    /// How many of them are sent before latencies count.
    pub warm_up: u64,
    /// What could not be sent by then is left out.
    pub stop_after: Option<Duration>,
}

/// What came of it.
pub struct Heard {
    /// From the time an event was meant to be sent until its acknowledgement was read, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// How long after the time it was meant for the last event of each write was sent, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// From the time the socket took an event until its acknowledgement was read, in nanoseconds, one for each write; by thirds of the
    /// time that sending was meant to take.
    pub admitted: [Histogram<u64>; 3],
    /// How many were sent.
    pub sent: u64,
    /// When the last of them was.
    pub ended: Instant,
    /// From the first event until the last acknowledgement.
    pub took: Duration,
}

impl Load<'_> {
    /// Adds what is sent to a count.
    pub fn count(&self, count: &mut Count) -> Result<()> {
        let block = self.lines.all().count;
        count.add(self.lines.all(), self.events / block)?;
        let rest = self.lines.first(self.events % block);
        count.add(rest, u64::from(rest.count > 0))
    }

    /// Sends it all and hears it acknowledged.
    pub fn run(&self, socket: &Path) -> Result<Heard> {
        let mut stream =
            UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.write_all(b"{\"tally\":\"ack\"}\n")?;
        stream.set_nonblocking(true)?;
        let mut sender = Sender { load: self, sent_bytes: 0, sent: 0 };
        let mut answers = AnswerParser::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut latencies = Histogram::new(3)?;
        let mut lateness = Histogram::new(3)?;
        let mut admitted = [Histogram::new(3)?, Histogram::new(3)?, Histogram::new(3)?];
        let mut writes: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut events = self.events;
        let started = Instant::now();
        let meant = |event: u64| {
            started + Duration::from_nanos((u128::from(event) * 1_000_000_000 / u128::from(self.rate)) as u64)
        };
        let third = |written: Instant| {
            let meant = self.events as f64 / self.rate as f64;
            ((written - started).as_secs_f64() / meant * 3.0).min(2.0) as usize
        };
        let mut heard = 0;
        let mut ended = started;
        let mut progress = started;
        while heard < events {
            let now = Instant::now();
            if self.stop_after.is_some_and(|time| now - started >= time) && events == self.events {
                events = sender.begun().min(events);
            }
            let due = self.due(now - started).min(events);
            if sender.sent < due && sender.send(&mut stream, due)? {
                if sender.sent > self.warm_up {
                    lateness
                        .record(Instant::now().saturating_duration_since(meant(sender.sent - 1)).as_nanos() as u64)?;
                }
                writes.push_back((sender.sent, now));
                ended = now;
                progress = now;
            }
            match stream.read(&mut buffer) {
                Ok(0) => bail!("the connection ended with {heard} of {events} events acknowledged"),
                Ok(read) => {
                    answers.take(&buffer[..read])?;
                    let now = Instant::now();
                    ensure!(answers.durable <= sender.sent, "more lines were acknowledged than sent");
                    for event in heard.max(self.warm_up)..answers.durable {
                        latencies.record(now.saturating_duration_since(meant(event)).as_nanos() as u64)?;
                    }
                    heard = answers.durable;
                    while let Some((_, written)) = writes.pop_front_if(|(sent, _)| *sent <= heard) {
                        admitted[third(written)].record(now.saturating_duration_since(written).as_nanos() as u64)?;
                    }
                    progress = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => return Err(error).context("no answer comes"),
            }
            if now.saturating_duration_since(progress) > PATIENCE {
                bail!(
                    "nothing happened for {} s, with {heard} of {} events acknowledged",
                    PATIENCE.as_secs(),
                    self.events
                );
            }
        }
        Ok(Heard { latencies, lateness, admitted, sent: events, ended, took: started.elapsed() })
    }

    /// How many events are meant to have been sent after this time.
    fn due(&self, elapsed: Duration) -> u64 {
        let whole = (elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64;
        (whole + 1).min(self.events)
    }
}

/// How far sending has come.
struct Sender<'a> {
    load: &'a Load<'a>,
    /// Bytes of the present pass through the lines that are written; a write may end inside a line.
    sent_bytes: usize,
    /// Events that are written to their end.
    sent: u64,
}

impl Sender<'_> {
    /// Events that are written to their end or at least in part.
    fn begun(&self) -> u64 {
        let lines = self.load.lines;
        let whole = lines.end_of(self.sent % lines.all().count);
        self.sent + u64::from(self.sent_bytes > whole)
    }

    /// Writes what is due, as far as the socket takes it; whether it took anything.
    fn send(&mut self, stream: &mut UnixStream, due: u64) -> Result<bool> {
        let lines = self.load.lines;
        let block = lines.all();
        let pass = self.sent / block.count;
        let target = lines.end_of((due - pass * block.count).min(block.count));
        let piece = &block.bytes[self.sent_bytes..target.min(self.sent_bytes + PIECE)];
        let written = match stream.write(piece) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("cannot send"),
        };
        self.sent_bytes += written;
        self.sent = pass * block.count + lines.until(self.sent_bytes);
        if self.sent_bytes == block.bytes.len() {
            self.sent_bytes = 0;
        }
        Ok(written > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_stall_is_charged_to_every_event_that_was_due_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().skip(1);
            for (index, line) in lines.map_while(Result::ok).enumerate() {
                assert_eq!(line, ["a", "bb", "ccc"][index % 3], "passes follow one another without a gap");
                if index == 100 {
                    std::thread::sleep(Duration::from_millis(300));
                }
                let durable = index + 1;
                stream.write_all(format!("{{\"durable\":{durable},\"sequence\":{durable}}}\n").as_bytes()).unwrap();
            }
        });
        let lines = Lines::new(b"a\nbb\nccc\n".to_vec());
        let load = Load { lines: &lines, rate: 1000, events: 500, warm_up: 20, stop_after: None };
        let heard = load.run(&socket).unwrap();
        server.join().unwrap();
        assert_eq!(heard.latencies.len(), 480);
        assert!(heard.took >= Duration::from_millis(498), "the rate is kept: {:?}", heard.took);
        // Some 300 events were due while nothing was answered, and waited for half of that time at the median.
        assert!(heard.latencies.value_at_quantile(0.5) > 50_000_000, "{}", heard.latencies.value_at_quantile(0.5));
    }
}
