//! Bodies cut into lines, one for each event, whatever format they came in. Pure; must not know: requests, the queue.
//!
//! A text that is no JSON as a whole has no events to tell apart: it counts as one that is refused. White space between events is dropped, so
//! that a line's number is the event's index; within an event a newline becomes a tab: white space between
//! tokens, and no JSON in a string, just as the newline was.

use std::fmt;

use memchr::memchr;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::HttpLimits;
use super::answer::Failure;
use crate::encoding::{EncodingLimits, msgpack_array, msgpack_to_line};
use crate::framer::{Body, Framed, PREFIX_BYTES, Refusal};
use crate::queue::{CHUNK_OVERHEAD, charge};

/// How much text goes into one chunk, give or take a line.
const CHUNK_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Lines {
    limits: HttpLimits,
    framed: Vec<Framed>,
    /// The chunk that is being filled.
    open: Vec<u8>,
    open_lines: u32,
    /// Bytes that were expected and have not come.
    expected: usize,
    /// What all of it costs the queue, and may cost.
    charge: usize,
    most: usize,
    /// Which event of the body the first line is.
    first_index: u64,
}

impl Lines {
    /// No lines yet; about `expected` bytes will come.
    pub fn new(limits: &HttpLimits, expected: usize) -> Self {
        Self {
            limits: *limits,
            framed: Vec::new(),
            open: Vec::new(),
            open_lines: 0,
            expected,
            charge: 0,
            // Twice the limit: MessagePack is shorter than JSON, and what a batch says once becomes part of each of its events.
            most: limits.body_bytes.saturating_mul(2).saturating_add(4 * CHUNK_OVERHEAD),
            first_index: 0,
        }
    }

    /// All lines in order, and which event of the body the first one is.
    pub fn finish(mut self) -> Result<(Vec<Framed>, u64), Failure> {
        self.close();
        if self.charge > self.most {
            let detail =
                format!("as lines of JSON the body has more than {} bytes; send fewer events at a time", self.most);
            return Err(Failure::too_large(detail));
        }
        Ok((self.framed, self.first_index))
    }

    /// One event, of JSON text without the white space around it.
    pub fn push(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > self.limits.line_bytes {
            let beginning = parts.iter().copied().flatten().take(PREFIX_BYTES).copied().collect();
            return self.refuse(Refusal::TooLong { length: length as u64 }, beginning);
        }
        let open = self.space(length + 1);
        let from = open.len();
        parts.iter().for_each(|part| open.extend_from_slice(part));
        let mut at = from;
        while let Some(newline) = memchr(b'\n', &open[at..]) {
            open[at + newline] = b'\t';
            at += newline + 1;
        }
        open.push(b'\n');
        self.added();
    }

    /// One event that is refused.
    fn refuse(&mut self, refusal: Refusal, beginning: Vec<u8>) {
        self.close();
        self.take(Framed::refused(refusal, beginning));
    }

    /// A body that is one JSON text, good or bad.
    pub fn push_text(&mut self, body: &[u8]) {
        self.push(&[trimmed(body)]);
    }

    /// A body that is one JSON object or an array of them.
    pub fn push_json(&mut self, body: &[u8]) {
        if trimmed(body).first() != Some(&b'[') {
            return self.push_text(body);
        }
        if let Err((index, error)) = each_element(body, |element| self.push(&[element.get().as_bytes()])) {
            self.malformed(index, &error, body);
        }
    }

    /// A body with an event on each line; blank lines are none.
    pub fn push_lines(&mut self, body: &[u8]) {
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(|byte| is_space(*byte))) {
            self.push(&[line]);
        }
    }

    /// A body that is a MessagePack map, several of them, or an array of them.
    pub fn push_msgpack(&mut self, body: &[u8]) {
        let (mut left, mut at) = match msgpack_array(body) {
            Some((elements, begin)) => (u64::from(elements), begin),
            None => (u64::MAX, 0),
        };
        while left > 0 && (at < body.len() || left != u64::MAX) && self.charge <= self.most {
            let HttpLimits { line_bytes, depth, .. } = self.limits;
            let rest = &body[at..];
            let open = self.space(0);
            match msgpack_to_line(rest, EncodingLimits { line_bytes, depth }, open) {
                Ok(consumed) => {
                    open.push(b'\n');
                    at += consumed;
                    self.added();
                }
                Err(error) => {
                    let end = error.consumed.unwrap_or(rest.len());
                    self.refuse(error.refusal, rest[..end.min(PREFIX_BYTES)].to_vec());
                    if error.consumed.is_none() {
                        return;
                    }
                    at += end;
                }
            }
            if left != u64::MAX {
                left -= 1;
            }
        }
        if at < body.len() && self.charge <= self.most {
            let detail = format!("{} bytes follow the array", body.len() - at);
            self.refuse(Refusal::Encoding { detail }, body[at..body.len().min(at + PREFIX_BYTES)].to_vec());
        }
    }

    /// Instead of everything so far: one event that is refused, since the text is no JSON from event `index` on.
    pub fn malformed(&mut self, index: u64, error: &serde_json::Error, body: &[u8]) {
        let line_start = match error.line() {
            0 | 1 => 0,
            line => memchr::memchr_iter(b'\n', body).nth(line - 2).map_or(0, |newline| newline + 1),
        };
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        let detail = format!("byte {}: {what}; none of the body's events is taken", line_start + error.column());
        self.unexpected(&detail, body);
        self.first_index = index;
    }

    /// Instead of everything so far: one event that is refused, since the text is none of what it should be.
    pub fn unexpected(&mut self, detail: &str, body: &[u8]) {
        *self = Self::new(&self.limits, 0);
        let detail = detail.to_owned();
        self.refuse(Refusal::Malformed { detail }, body[..body.len().min(PREFIX_BYTES)].to_vec());
    }

    /// The chunk to write the next line to.
    fn space(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.open_lines > 0 && self.open.len() + bytes > CHUNK_BYTES {
            self.close();
        }
        if self.open.capacity() == 0 {
            self.open.reserve_exact((self.expected + 1).min(CHUNK_BYTES).max(bytes));
        }
        &mut self.open
    }

    fn added(&mut self) {
        self.open_lines += 1;
        if self.charge + self.open.len() > self.most {
            // Too large in any case: no need to keep any of it.
            self.charge += self.open.len();
            self.open.clear();
            self.open_lines = 0;
        }
    }

    fn close(&mut self) {
        if self.open_lines > 0 {
            let mut text = std::mem::take(&mut self.open);
            if text.len() < text.capacity() / 2 {
                text.shrink_to_fit();
            }
            self.expected = self.expected.saturating_sub(text.len());
            let lines = std::mem::take(&mut self.open_lines);
            self.take(Framed { body: Body::Lines(text), lines });
        }
    }

    fn take(&mut self, framed: Framed) {
        self.charge += charge(&framed.body);
        if self.charge <= self.most {
            self.framed.push(framed);
        }
    }
}

/// Gives every element of a JSON array; fails with the index of the one that could not be read.
pub(super) fn each_element(array: &[u8], each: impl FnMut(&RawValue)) -> Result<(), (u64, serde_json::Error)> {
    let mut deserializer = serde_json::Deserializer::from_slice(array);
    let mut index = 0;
    let elements = Elements { index: &mut index, each };
    let read = deserializer.deserialize_seq(elements).and_then(|()| deserializer.end());
    read.map_err(|error| (index, error))
}

struct Elements<'i, F> {
    index: &'i mut u64,
    each: F,
}

impl<'de, F: FnMut(&RawValue)> Visitor<'de> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&RawValue>()? {
            (self.each)(element);
            *self.index += 1;
        }
        Ok(())
    }
}

/// White space of JSON.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn trimmed(body: &[u8]) -> &[u8] {
    let begin = body.iter().position(|byte| !is_space(*byte)).unwrap_or(body.len());
    let end = body.iter().rposition(|byte| !is_space(*byte)).map_or(begin, |last| last + 1);
    &body[begin..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::Value;

    const LIMITS: HttpLimits = HttpLimits { body_bytes: 1 << 20, line_bytes: 1 << 20, depth: 64 };

    fn text(push: impl FnOnce(&mut Lines)) -> String {
        let mut lines = Lines::new(&LIMITS, 0);
        push(&mut lines);
        let (framed, first_index) = lines.finish().expect("it fits");
        assert_eq!(first_index, 0);
        let mut text = String::new();
        for framed in framed {
            let Body::Lines(bytes) = framed.body else { panic!("nothing is refused") };
            assert_eq!(memchr::memchr_iter(b'\n', &bytes).count(), framed.lines as usize);
            text.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
        text
    }

    fn events() -> impl Strategy<Value = Vec<Value>> {
        let leaf = prop_oneof![any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)];
        let value = leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                vec((any::<String>(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        vec(value, 1..20)
    }

    proptest! {
        #[test]
        fn every_format_gives_the_same_events(events in events()) {
            let array = serde_json::to_vec_pretty(&events).expect("it encodes");
            let lines: Vec<String> = events.iter().map(|event| format!(" {event} \r\n\n")).collect();
            let maps = rmp_serde::to_vec(&events).expect("it encodes");
            let concatenated: Vec<u8> =
                events.iter().flat_map(|event| rmp_serde::to_vec(event).expect("it encodes")).collect();
            let mut texts = vec![
                text(|to| to.push_json(&array)),
                text(|to| to.push_lines(lines.concat().as_bytes())),
                text(|to| to.push_msgpack(&maps)),
            ];
            // An array in front would be taken for an array of events.
            if !events[0].is_array() {
                texts.push(text(|to| to.push_msgpack(&concatenated)));
            }
            for text in texts {
                let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
                prop_assert_eq!(&read, &events);
            }
        }
    }

    #[test]
    fn hostile_nesting_is_one_refused_event() {
        let mut lines = Lines::new(&LIMITS, 0);
        lines.push_json(&vec![b'['; LIMITS.body_bytes]);
        let (framed, first_index) = lines.finish().expect("it fits");
        assert_eq!((framed.len(), first_index), (1, 0));
        assert!(
            matches!(&framed[0].body, Body::Refused { refusal: Refusal::Malformed { .. }, prefix } if prefix.len() == PREFIX_BYTES)
        );
    }
}
