//! The scenario of HTTP: batches of lines by POST over connections that stay open, each waiting for its answer.

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::count::Count;
use crate::lines::{Part, Shape, Stock};
use crate::machine::{Places, joined};
use crate::results::Outcome;
use crate::stage::{Ground, Stage};
use crate::throughput::WARM_UP;
use crate::{Options, check, machine};

const CONNECTIONS: usize = 8;
const BATCH: u64 = 1_000;
const EVENTS: u64 = 8_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub fn measure(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::all_cores()?;
    let stock = Stock::generate(&options.bench, Shape::Usual, options.events.unwrap_or(EVENTS))?;
    let warm_up = stock.lines.first(WARM_UP);
    let mut count = Count::default();
    count.add(warm_up, 1)?;
    count.add(stock.lines.all(), stock.times)?;
    stage.runs(options, |outcome| {
        let daemon = stage.daemon(&places.server, &["--http", "127.0.0.1:0"])?.start()?;
        let address = daemon.door("http")?;
        let mut first = Requests::connect(address)?;
        first.post(&stock, 0, stock.lines.until(warm_up.bytes.len()) as usize)?;
        daemon.applied(warm_up.count)?;
        let ground = Ground::of(&daemon)?;
        let started = Instant::now();
        let acknowledged = flood(address, &places, &stock)?;
        let applied = daemon.applied(count.events)?.max(acknowledged);
        let per_second = |until: Instant| stock.events() as f64 / (until - started).as_secs_f64();
        outcome.add("events_per_second", per_second(applied));
        outcome.add("acknowledged_per_second", per_second(acknowledged));
        outcome.add("generator_events_per_second", generator(&places, &stock)?);
        ground.costs(&daemon, stock.events(), outcome)?;
        check::daemon(&daemon, &count)?;
        daemon.stop()
    })
}

/// Sends everything over several connections; when the last answer was read.
fn flood(address: &str, places: &Places, stock: &Stock) -> Result<Instant> {
    let lines = stock.lines.all().count as usize;
    let send = |index: usize| {
        let border = |index: usize| lines * index / CONNECTIONS;
        let mut requests = Requests::connect(address)?;
        (0..stock.times).try_for_each(|_| requests.post(stock, border(index), border(index + 1)))?;
        Ok(Instant::now())
    };
    machine::on(&places.client, || {
        thread::scope(|scope| {
            let send = &send;
            let senders: Vec<_> = (0..CONNECTIONS).map(|index| scope.spawn(move || send(index))).collect();
            let ends = senders.into_iter().map(|sender| joined(sender.join()));
            let ends: Vec<Instant> = ends.collect::<Result<_>>()?;
            ends.into_iter().max().context("no connection")
        })
    })
}

/// Events per second that the clients can send: to threads that read bodies and answer without looking at them.
fn generator(places: &Places, stock: &Stock) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let serve = || -> Result<()> {
        let (stream, _) = listener.accept()?;
        let mut reader = BufReader::with_capacity(256 * 1024, stream);
        let mut body = Vec::new();
        while let Some(length) = head(&mut reader)?.length {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
            let answer = format!("{{\"accepted\":{}}}", body.iter().filter(|byte| **byte == b'\n').count());
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            reader.get_mut().write_all((head + &answer).as_bytes())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let servers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| machine::on(&places.server, serve))).collect();
        let started = Instant::now();
        let ended = flood(&address, places, stock)?;
        servers.into_iter().try_for_each(|server| joined(server.join()))?;
        Ok(stock.events() as f64 / (ended - started).as_secs_f64())
    })
}

/// A connection and what it posts.
struct Requests {
    stream: BufReader<TcpStream>,
    answer: Vec<u8>,
}

impl Requests {
    fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), answer: Vec::new() })
    }

    /// Posts lines `from` up to `to` in batches, each once the one before is answered.
    fn post(&mut self, stock: &Stock, from: usize, to: usize) -> Result<()> {
        for first in (from..to).step_by(BATCH as usize) {
            let batch = stock.lines.between(first, to.min(first + BATCH as usize));
            // What is full takes the whole batch later or not at all; nothing is counted twice.
            while !self.batch(batch)? {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// False when the daemon was too full to take it.
    fn batch(&mut self, batch: Part<'_>) -> Result<bool> {
        let head_of_request = format!(
            "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
            batch.bytes.len()
        );
        let stream = self.stream.get_mut();
        let written = stream.write_vectored(&[IoSlice::new(head_of_request.as_bytes()), IoSlice::new(batch.bytes)])?;
        let rest_of_head = &head_of_request.as_bytes()[written.min(head_of_request.len())..];
        stream.write_all(rest_of_head)?;
        stream.write_all(&batch.bytes[written.saturating_sub(head_of_request.len())..])?;
        let Head { status, length } = head(&mut self.stream)?;
        self.answer.resize(length.context("an answer without Content-Length")?, 0);
        self.stream.read_exact(&mut self.answer)?;
        let answer = String::from_utf8_lossy(&self.answer);
        match status {
            200 => {
                let all = answer.starts_with(&format!("{{\"accepted\":{}", batch.count));
                ensure!(all, "not all of {} events were accepted: {answer}", batch.count);
                Ok(true)
            }
            429 => Ok(false),
            _ => bail!("the daemon answered {status}: {answer}"),
        }
    }
}

/// What matters of the head of a request or an answer.
struct Head {
    /// Of an answer.
    status: u16,
    /// None at the end of the connection.
    length: Option<usize>,
}

fn head(reader: &mut impl BufRead) -> Result<Head> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut length = None;
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse()?);
        }
    }
    Ok(Head { status, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let mut answer = &b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 12\r\nx: y\r\n\r\nbody"[..];
        let found = head(&mut answer).unwrap();
        assert_eq!((found.status, found.length, answer), (429, Some(12), &b"body"[..]));
        assert_eq!(head(&mut &b""[..]).unwrap().length, None);
    }
}
