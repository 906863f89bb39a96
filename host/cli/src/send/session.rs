//! One connection to the daemon: the handshake, a thread that reads the answers, and what they say so far. Knows
//! nothing of files or of trying again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::encoding::Encoding;
use crate::address::Endpoint;
use crate::connect::{Access, Stream};

/// Longest answer taken, bytes: a thousand rejects are far below.
const MAX_ANSWER: u64 = 16 << 20;
/// How long a connection that is being ended may still say something.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Rejected lines that are remembered to be shown.
const SHOWN: usize = 10;

/// A line from the daemon; keys it may have that are not listed do not matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    resume: Option<u64>,
    durable: Option<u64>,
    sequence: u64,
    rejected: u64,
    duplicates: u64,
    rejects: Vec<(u64, String)>,
    rejects_left_out: u64,
    closing: Option<String>,
    error: Option<String>,
    message: Option<String>,
}

/// What the answers of one connection said so far.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Lines of this connection that are durable.
    pub durable: u64,
    /// The last sequence number given out.
    pub sequence: u64,
    /// Rejected among the durable lines.
    pub rejected: u64,
    /// Of those, events that the daemon had already.
    pub duplicates: u64,
    /// Rejected lines by reason, as far as they were named.
    pub reasons: BTreeMap<String, u64>,
    /// The first rejected lines (of this connection, the first is 1) and their reasons.
    pub examples: Vec<(u64, String)>,
    /// Why no more answers come.
    pub end: Option<End>,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Without a word: killed, or the network.
    Lost(String),
    /// The daemon is stopping.
    Closing(String),
    /// The daemon said why.
    Error {
        /// Stable.
        code: String,
        /// For people.
        message: String,
    },
}

impl End {
    /// Trying again cannot help.
    pub fn is_final(&self) -> bool {
        matches!(self, End::Error { code, .. } if code == "bad_handshake" || code == "superseded")
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            End::Lost(how) => write!(f, "the connection was lost ({how})"),
            End::Closing(why) => write!(f, "the daemon closed the connection ({why})"),
            End::Error { code, message } => {
                write!(f, "the daemon ended the connection: {message} ({code})")
            }
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom to connect to, and as what.
#[derive(Clone, Debug)]
pub struct Whom {
    /// Where the door is.
    pub endpoint: Endpoint,
    /// What opens it.
    pub access: Access,
    /// The token that `access` names.
    pub token: Option<String>,
    /// The stream's name.
    pub producer: Option<String>,
    /// How events are written.
    pub encoding: Encoding,
}

impl Whom {
    /// The first line of a connection; `word` is `ack` or `data`.
    pub fn handshake(&self, word: &str) -> String {
        let mut hello = serde_json::json!({"tally": word});
        if let Some(producer) = &self.producer {
            hello["producer"] = producer.as_str().into();
        }
        if let Some(token) = &self.token {
            hello["token"] = token.as_str().into();
        }
        if self.encoding == Encoding::Msgpack {
            hello["encoding"] = "msgpack".into();
        }
        format!("{hello}\n")
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    /// Lines of the producer that were durable before; 0 without one.
    pub resume: u64,
}

impl Session {
    /// Connects and shakes hands. With a producer this waits for the daemon to say where to resume.
    pub fn open(whom: &Whom, patience: Duration) -> anyhow::Result<Session> {
        let mut stream = Stream::connect(&whom.endpoint, &whom.access)?;
        let shaking = || format!("{} did not take the handshake", whom.endpoint);
        stream.write_all(whom.handshake("ack").as_bytes()).with_context(shaking)?;
        let mut answers = BufReader::new(stream.try_clone()?);
        let mut resume = 0;
        if whom.producer.is_some() {
            stream.set_read_timeout(Some(patience.max(Duration::from_secs(1))))?;
            resume = read_resume(&mut answers).with_context(shaking)?;
            stream.set_read_timeout(None)?;
        }
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let listener =
            std::thread::Builder::new().name("answers".to_string()).spawn(move || listen(answers, &theirs))?;
        Ok(Session { stream, shared, listener: Some(listener), resume })
    }

    /// Writes lines; the daemon's backpressure is felt here.
    pub fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(lines)
    }

    /// What the answers said so far.
    pub fn progress(&self) -> Progress {
        self.shared.lock().clone()
    }

    /// Lines durable so far, and whether no more answers come. Cheaper than [`Session::progress`].
    pub fn durable(&self) -> (u64, bool) {
        let progress = self.shared.lock();
        (progress.durable, progress.end.is_some())
    }

    /// Waits until more than `known` lines are durable, the connection ends, or a tenth of a second has passed.
    pub fn wait(&self, known: u64) {
        let progress = self.shared.lock();
        if progress.durable > known || progress.end.is_some() {
            return;
        }
        let _ = self.shared.changed.wait_timeout(progress, Duration::from_millis(100));
    }

    /// Ends the connection and says what was heard until then. Lines that were written are given a few seconds to be
    /// acknowledged; when the daemon has closed its side already, what it said before is still read.
    pub fn last_words(self) -> Progress {
        let _ = self.stream.shutdown(Shutdown::Write);
        let progress = self.shared.lock();
        let going_on = |progress: &mut Progress| progress.end.is_none();
        let waited = self.shared.changed.wait_timeout_while(progress, LAST_WORDS, going_on);
        let (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        progress.clone()
    }

    fn join(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        self.join();
    }
}

fn read_resume(answers: &mut impl BufRead) -> anyhow::Result<u64> {
    let Some(answer) = read_answer(answers)? else {
        bail!("it closed the connection");
    };
    match answer {
        Answer { resume: Some(resume), .. } => Ok(resume),
        Answer { error: Some(code), message, .. } => {
            Err(Refused(End::Error { code, message: message.unwrap_or_default() }).into())
        }
        Answer { closing: Some(why), .. } => bail!("it is closing ({why})"),
        _ => bail!("it answered something else than where to resume; is it an event socket of a tally daemon?"),
    }
}

/// The daemon would not talk to this producer.
#[derive(Debug)]
pub struct Refused(pub End);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// What the daemon had against a connection that nothing else was asked on.
pub fn objection(answers: &mut impl BufRead) -> Option<End> {
    while let Ok(Some(answer)) = read_answer(answers) {
        if let Some(end) = take(answer, &mut Progress::default()) {
            return Some(end);
        }
    }
    None
}

/// One line from the daemon; `None` at the end of the connection.
fn read_answer(answers: &mut impl BufRead) -> anyhow::Result<Option<Answer>> {
    let mut line = Vec::new();
    answers.take(MAX_ANSWER).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    let answer = serde_json::from_slice(&line).with_context(|| {
        format!("the daemon's answer is not understood: {}", String::from_utf8_lossy(&line).trim_end())
    })?;
    Ok(Some(answer))
}

/// Takes every answer until the connection ends.
fn listen(mut answers: impl BufRead, shared: &Shared) {
    loop {
        let end = match read_answer(&mut answers) {
            Ok(Some(answer)) => take(answer, &mut shared.lock()),
            Ok(None) => Some(End::Lost("end of file".to_string())),
            Err(error) => Some(End::Lost(format!("{error:#}"))),
        };
        let ended = end.is_some();
        if ended {
            shared.lock().end = end;
        }
        shared.changed.notify_all();
        if ended {
            return;
        }
    }
}

/// Adds an answer to what is known; says whether it was the last one.
fn take(answer: Answer, progress: &mut Progress) -> Option<End> {
    if let Some(durable) = answer.durable {
        progress.durable = progress.durable.max(durable);
        progress.sequence = progress.sequence.max(answer.sequence);
        progress.rejected = progress.rejected.max(answer.rejected);
        progress.duplicates = progress.duplicates.max(answer.duplicates);
    }
    for (line, reason) in answer.rejects {
        *progress.reasons.entry(reason.clone()).or_default() += 1;
        if progress.examples.len() < SHOWN {
            progress.examples.push((line, reason));
        }
    }
    if answer.rejects_left_out > 0 {
        *progress.reasons.entry("not_named".to_string()).or_default() += answer.rejects_left_out;
    }
    if let Some(code) = answer.error {
        let message = answer.message.unwrap_or_default();
        return Some(End::Error { code, message });
    }
    answer.closing.map(End::Closing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_says_what_was_asked_and_escapes_the_name() {
        let mut whom = Whom {
            endpoint: Endpoint::Unix("t".into()),
            access: Access::default(),
            token: None,
            producer: None,
            encoding: Encoding::Json,
        };
        assert_eq!(whom.handshake("ack"), "{\"tally\":\"ack\"}\n");
        whom.producer = Some("a\"b".to_string());
        assert_eq!(whom.handshake("ack"), "{\"producer\":\"a\\\"b\",\"tally\":\"ack\"}\n");
        whom = Whom { token: Some("t".to_string()), producer: None, encoding: Encoding::Msgpack, ..whom };
        assert_eq!(whom.handshake("data"), "{\"encoding\":\"msgpack\",\"tally\":\"data\",\"token\":\"t\"}\n");
    }

    fn heard(text: &str) -> Progress {
        let shared = Shared::default();
        listen(text.as_bytes(), &shared);
        shared.lock().clone()
    }

    #[test]
    fn answers_add_up() {
        let progress = heard(concat!(
            "{\"durable\":3,\"sequence\":2,\"rejected\":1,\"rejects\":[[2,\"invalid_json\"]]}\n",
            "{\"durable\":9,\"sequence\":5,\"rejected\":4,\"rejects\":[[5,\"invalid_json\"]],\"rejects_left_out\":2,\"new\":1}\n",
            "{\"closing\":\"shutdown\"}\n",
        ));
        assert_eq!((progress.durable, progress.sequence, progress.rejected), (9, 5, 4));
        assert_eq!(format!("{:?}", progress.reasons), r#"{"invalid_json": 2, "not_named": 2}"#);
        assert_eq!(progress.examples.first(), Some(&(2, "invalid_json".to_string())));
        assert_eq!(progress.end, Some(End::Closing("shutdown".to_string())));
    }

    #[test]
    fn a_half_answer_is_a_lost_connection() {
        let progress = heard("{\"durable\":3,\"sequence\":2,\"rejected\":0,\"rejects\":[]}\n{\"durable\":4");
        assert_eq!(progress.durable, 3);
        assert_eq!(progress.end, Some(End::Lost("end of file".to_string())));
        assert!(matches!(heard("nonsense\n").end, Some(End::Lost(how)) if how.contains("not understood")));
    }

    #[test]
    fn only_what_trying_again_cannot_mend_is_final() {
        let error = |code: &str| heard(&format!("{{\"error\":\"{code}\",\"message\":\"m\"}}\n")).end.unwrap();
        assert!(error("superseded").is_final());
        assert!(error("bad_handshake").is_final());
        assert!(!error("idle").is_final());
        assert!(!End::Closing("shutdown".to_string()).is_final());
    }
}
