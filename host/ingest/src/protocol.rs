//! The words of the acknowledgement protocol: reading the handshake, writing answers. Pure.
//!
//! A client that wants answers begins with the line `{"tally":"ack"}` or `{"tally":"ack","producer":"ID"}`. Then it gets, one per line,
//! - `{"resume":N}` first, with a producer: N lines of it are decided and durable, what follows is line N+1;
//! - `{"durable":N,"sequence":S,"rejected":R,"rejects":[[line,"reason"],...]}` as things go: N lines of this connection (blank ones count, the
//!   handshake does not) are decided and durable, S is the last sequence number given out by then, R of the N were rejected; `rejects` names
//!   those since the answer before, lines counted from 1, at most [`MAX_REJECTS`], and `"rejects_left_out":K` says how many more there were;
//!   `"duplicates":D`, when there are any, says how many of the N were seen before;
//! - last, where the daemon ends the connection: `{"closing":"shutdown"}` or `{"error":"CODE","message":"..."}`.
//!
//! Must not know: sockets, queues.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The most rejects that one answer names.
pub const MAX_REJECTS: usize = 1000;
/// The longest producer name, in bytes.
pub const MAX_PRODUCER_BYTES: usize = 128;
/// The last line when the daemon stops.
pub const CLOSING_SHUTDOWN: &str = "{\"closing\":\"shutdown\"}\n";

/// What the first line of a connection says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// It is data; the client wants no answers.
    Data,
    /// The client wants answers.
    Ack {
        /// It names itself, to resume.
        producer: Option<String>,
    },
    /// It is meant as a handshake, but is none; says why.
    Bad(String),
}

/// Reads the first line of a connection, without its newline.
pub fn hello(line: &[u8]) -> Hello {
    let line = line.trim_ascii();
    if line.first() != Some(&b'{') {
        return Hello::Data;
    }
    match serde_json::from_slice::<Handshake>(line) {
        Ok(handshake) => handshake.judge(),
        Err(error) if line[1..].trim_ascii_start().starts_with(b"\"tally\"") => {
            Hello::Bad(format!("the first line begins a handshake but is not valid JSON: {error}"))
        }
        Err(_) => Hello::Data,
    }
}

/// The keys that matter of the first line, which may as well be a large event.
#[derive(Default)]
struct Handshake {
    tally: Option<Value>,
    producer: Option<Value>,
    other: Option<String>,
    repeated: bool,
}

impl Handshake {
    fn judge(self) -> Hello {
        let Some(tally) = self.tally else {
            return Hello::Data;
        };
        if tally != "ack" {
            return Hello::Bad(format!("\"tally\" must be \"ack\", not {}", shortened(&tally.to_string())));
        }
        if self.repeated {
            return Hello::Bad("a key of the handshake is repeated".into());
        }
        if let Some(key) = self.other {
            return Hello::Bad(format!(
                "unknown key {:?}; a handshake has \"tally\" and, to resume, \"producer\"",
                shortened(&key)
            ));
        }
        match self.producer {
            None => Hello::Ack { producer: None },
            Some(Value::String(id)) if is_producer(&id) => Hello::Ack { producer: Some(id) },
            Some(_) => Hello::Bad(format!(
                "\"producer\" must be a string of 1 to {MAX_PRODUCER_BYTES} printable ASCII characters"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Handshake {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HandshakeVisitor)
    }
}

struct HandshakeVisitor;

impl<'de> Visitor<'de> for HandshakeVisitor {
    type Value = Handshake;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Handshake, A::Error> {
        let mut handshake = Handshake::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "tally" => handshake.repeated |= handshake.tally.replace(map.next_value()?).is_some(),
                "producer" => handshake.repeated |= handshake.producer.replace(map.next_value()?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    handshake.other.get_or_insert(key);
                }
            }
        }
        Ok(handshake)
    }
}

/// True for a name a producer may have.
pub fn is_producer(id: &str) -> bool {
    (1..=MAX_PRODUCER_BYTES).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// One progress answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Lines of the connection decided and durable.
    pub durable: u64,
    /// The last sequence number given out by then.
    pub sequence: u64,
    /// How many of the lines were rejected.
    pub rejected: u64,
    /// How many of the lines were seen before; named only when there are any.
    pub duplicates: u64,
    /// Line (from 1) and reason of those rejected since the answer before.
    pub rejects: Vec<(u64, &'static str)>,
    /// How many more were rejected since.
    pub left_out: u64,
}

impl Progress {
    /// Appends it as a line.
    pub fn write(&self, to: &mut String) {
        let Self { durable, sequence, rejected, .. } = self;
        push(to, format_args!("{{\"durable\":{durable},\"sequence\":{sequence},\"rejected\":{rejected},\"rejects\":["));
        for (index, (line, reason)) in self.rejects.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            push(to, format_args!("{comma}[{line},{}]", json_text(reason)));
        }
        to.push(']');
        if self.left_out > 0 {
            push(to, format_args!(",\"rejects_left_out\":{}", self.left_out));
        }
        if self.duplicates > 0 {
            push(to, format_args!(",\"duplicates\":{}", self.duplicates));
        }
        to.push_str("}\n");
    }
}

/// Appends `{"resume":N}` as a line.
pub fn write_resume(lines: u64, to: &mut String) {
    push(to, format_args!("{{\"resume\":{lines}}}\n"));
}

/// The line that tells a client why the daemon ends the connection.
pub fn error_line(code: &str, message: &str) -> String {
    format!("{{\"error\":{},\"message\":{}}}\n", json_text(code), json_text(message))
}

fn json_text(text: &str) -> Value {
    Value::from(text)
}

fn push(to: &mut String, text: fmt::Arguments<'_>) {
    to.write_fmt(text).expect("a String takes everything");
}
