//! The words of the acknowledgement protocol: reading the handshake, writing answers. Pure.
//!
//! The first line of a connection may be a handshake: an object with
//! - `"tally"`: `"ack"` for a client that wants answers, `"data"` for one that does not;
//! - `"producer"`, with `"ack"`: the name under which it resumes;
//! - `"encoding"`: `"json"` (lines, the default) or `"msgpack"` (frames: the length as four bytes, big-endian, then a MessagePack map);
//! - `"token"`, where the door wants one.
//!
//! Without a handshake a connection is lines of JSON without answers. A client that wants answers gets, one per line,
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
    /// How the client wants to go on.
    Handshake(Handshake),
    /// It is meant as a handshake, but is none; says why.
    Bad(String),
}

/// A handshake. The default is what a connection without one has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// Answers are wanted.
    pub answers: bool,
    /// It names itself, to resume.
    pub producer: Option<String>,
    /// How its events are written.
    pub encoding: Encoding,
    /// What it has to show at the door.
    pub token: Option<Secret>,
}

/// How events are written on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// A line of JSON each.
    #[default]
    Json,
    /// A length, four bytes big-endian, and a MessagePack map each.
    MessagePack,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads the first line of a connection, without its newline.
pub fn hello(line: &[u8]) -> Hello {
    let line = line.trim_ascii();
    if line.first() != Some(&b'{') {
        return Hello::Data;
    }
    match serde_json::from_slice::<FirstObject>(line) {
        Ok(object) if object.tally.is_none() => Hello::Data,
        Ok(object) => object.judge().map_or_else(Hello::Bad, Hello::Handshake),
        Err(error) if line[1..].trim_ascii_start().starts_with(b"\"tally\"") => {
            Hello::Bad(format!("the first line begins a handshake but is not valid JSON: {error}"))
        }
        Err(_) => Hello::Data,
    }
}

/// The keys that matter of the first line, which may as well be a large event.
#[derive(Default)]
struct FirstObject {
    tally: Option<Value>,
    producer: Option<Value>,
    encoding: Option<Value>,
    token: Option<Value>,
    other: Option<String>,
    repeated: bool,
}

impl FirstObject {
    fn judge(self) -> Result<Handshake, String> {
        if self.repeated {
            return Err("a key of the handshake is repeated".into());
        }
        if let Some(key) = self.other {
            return Err(format!(
                "unknown key {:?}; a handshake has \"tally\" and, as wanted, \"producer\", \"encoding\", \"token\"",
                shortened(&key)
            ));
        }
        let text = |value: &Option<Value>| value.as_ref().map(|value| value.as_str().unwrap_or_default().to_owned());
        let shown = |value: &Option<Value>| shortened(&value.as_ref().map(Value::to_string).unwrap_or_default());
        let answers = match text(&self.tally).as_deref() {
            Some("ack") => true,
            Some("data") => false,
            _ => {
                return Err(format!(
                    "\"tally\" must be \"ack\" (answers) or \"data\" (none), not {}",
                    shown(&self.tally)
                ));
            }
        };
        let encoding = match text(&self.encoding).as_deref() {
            None | Some("json") => Encoding::Json,
            Some("msgpack") => Encoding::MessagePack,
            Some(_) => {
                return Err(format!("\"encoding\" must be \"json\" or \"msgpack\", not {}", shown(&self.encoding)));
            }
        };
        let producer = text(&self.producer);
        if producer.as_ref().is_some_and(|id| !is_producer(id)) {
            return Err(format!(
                "\"producer\" must be a string of 1 to {MAX_PRODUCER_BYTES} printable ASCII characters"
            ));
        }
        if producer.is_some() && !answers {
            return Err("\"producer\" goes with \"tally\":\"ack\": without answers nobody can resume".into());
        }
        Ok(Handshake { answers, producer, encoding, token: text(&self.token).map(Secret) })
    }
}

impl<'de> Deserialize<'de> for FirstObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FirstObjectVisitor)
    }
}

struct FirstObjectVisitor;

impl<'de> Visitor<'de> for FirstObjectVisitor {
    type Value = FirstObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FirstObject, A::Error> {
        let mut object = FirstObject::default();
        while let Some(key) = map.next_key::<String>()? {
            let known = match key.as_str() {
                "tally" => &mut object.tally,
                "producer" => &mut object.producer,
                "encoding" => &mut object.encoding,
                "token" => &mut object.token,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    object.other.get_or_insert(key);
                    continue;
                }
            };
            object.repeated |= known.replace(map.next_value()?).is_some();
        }
        Ok(object)
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
