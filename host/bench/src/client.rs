//! A client of the Unix socket that sends as fast as it is let, and hears when its lines are durable. What it sends is in
//! memory and goes out in large pieces.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lines::Part;
use crate::machine::joined;

/// What is written at once.
pub const PIECE: usize = 256 * 1024;
/// The longest silence while lines wait to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection on which answers are wanted.
pub struct Connection {
    stream: UnixStream,
    answers: Answers,
    sent: u64,
}

impl Connection {
    /// Connects and shakes hands.
    pub fn open(socket: &Path) -> Result<Self> {
        let mut stream =
            UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.write_all(b"{\"tally\":\"ack\"}\n")?;
        let answers = stream.try_clone()?;
        answers.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, answers: Answers::new(answers), sent: 0 })
    }

    /// Sends these lines once, as fast as it is let.
    pub fn send(&mut self, part: Part<'_>) -> Result<()> {
        self.sent += part.count;
        self.stream.write_all(part.bytes).context("cannot send")
    }

    /// Waits until this many lines of the connection are durable; when that was heard.
    pub fn heard(&mut self, lines: u64) -> Result<Instant> {
        self.answers.wait(lines, &mut |_, _| {})
    }

    /// Sends these lines so many times; when the last of them was acknowledged.
    pub fn flood(&mut self, part: Part<'_>, times: u64) -> Result<Instant> {
        self.flood_and_note(part, times, &mut |_, _| {})
    }

    /// The same, and `note` is given every answer: when it was read, and how many lines of the connection were durable then.
    pub fn flood_and_note(
        &mut self,
        part: Part<'_>,
        times: u64,
        note: &mut (dyn FnMut(Instant, u64) + Send),
    ) -> Result<Instant> {
        self.sent += part.count * times;
        let Self { stream, answers, sent } = self;
        let target = *sent;
        thread::scope(|scope| {
            let acknowledged = scope.spawn(move || answers.wait(target, note));
            let written =
                (0..times).try_for_each(|_| part.bytes.chunks(PIECE).try_for_each(|piece| stream.write_all(piece)));
            let acknowledged = joined(acknowledged.join());
            written.context("cannot send")?;
            acknowledged
        })
    }
}

/// The answers of a connection.
pub struct Answers {
    stream: UnixStream,
    parser: AnswerParser,
    buffer: Vec<u8>,
}

impl Answers {
    /// Those that come on this stream.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, parser: AnswerParser::default(), buffer: vec![0; 64 * 1024] }
    }

    /// Waits until this many lines of the connection are durable; when that was heard.
    fn wait(&mut self, lines: u64, note: &mut dyn FnMut(Instant, u64)) -> Result<Instant> {
        while self.parser.durable < lines {
            let read = self.stream.read(&mut self.buffer).context("no answer comes")?;
            ensure!(read > 0, "the connection ended with {} of {lines} lines acknowledged", self.parser.durable);
            self.parser.take(&self.buffer[..read])?;
            note(Instant::now(), self.parser.durable);
        }
        Ok(Instant::now())
    }
}

/// Reads answers, however they are cut.
#[derive(Default)]
pub struct AnswerParser {
    /// Lines that are durable.
    pub durable: u64,
    begun: Vec<u8>,
}

impl AnswerParser {
    /// The next bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.begun.extend_from_slice(bytes);
        let Some(end) = memchr::memrchr(b'\n', &self.begun) else { return Ok(()) };
        // Numbers only grow, so the last whole answer says all, unless it is none.
        let from = memchr::memrchr(b'\n', &self.begun[..end]).map_or(0, |at| at + 1);
        let answer = &self.begun[from..end];
        let digits = answer.strip_prefix(b"{\"durable\":").unwrap_or_default();
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match std::str::from_utf8(&digits[..length])?.parse() {
            Ok(durable) => self.durable = durable,
            Err(_) => bail!("the daemon answered {}", String::from_utf8_lossy(answer)),
        }
        self.begun.drain(..=end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_however_they_are_cut() {
        let text = b"{\"durable\":5,\"sequence\":5}\n{\"durable\":1234,\"sequence\":9,\"rejects\":[]}\n";
        for at in 0..text.len() {
            let mut parser = AnswerParser::default();
            parser.take(&text[..at]).unwrap();
            parser.take(&text[at..]).unwrap();
            assert_eq!(parser.durable, 1234);
        }
        let error = AnswerParser::default().take(b"{\"error\":\"x\",\"message\":\"y\"}\n").unwrap_err();
        assert!(error.to_string().contains("\"message\":\"y\""));
    }
}
