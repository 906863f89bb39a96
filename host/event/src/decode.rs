//! Lines to columns. Knows nothing of where lines come from or where batches go.
//!
//! How a line is read:
//! - JSON strictly by RFC 8259, ignored values too, in valid UTF-8, nested at most `limits.depth` deep (the event's
//!   object is depth 1). White space around the object is fine, a carriage return before the newline included.
//! - The last of several equal keys wins. `null` is absent.
//! - Text is unescaped; half of a surrogate pair becomes U+FFFD. A number is not text and text is no number.
//! - Integers are integral values within `i64`, however they are written (`1`, `-0`, `1.0`, `1e3`). Decimals are exact;
//!   digits beyond the scale must be zeros. Floats are the nearest finite `f64`.
//! - Times are RFC 3339 as [`crate::time`] says.

pub use crate::event_id::EventId;
pub use crate::reject::{Reject, RejectReason, UnknownReason};

use crate::assemble::Assembly;
use crate::batch::{Batch, Envelope};
use crate::json::{self, Fault, What, byte, skip_space};
use crate::plan::{Plan, PresetPlan, TypeSource};
use crate::time::Clockwork;
use crate::walk::{Class, Walk};
use std::ops::Range;
use std::sync::Arc;

/// Whether lines are new or come from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// New lines: one that every subscriber refuses is rejected.
    Admit,
    /// Lines that were accepted once: one that every subscriber refuses keeps its sequence number.
    Replay,
}

/// What became of the lines of one push: lines = blank + received, received = accepted + rejects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Lines, blank ones included.
    pub lines: u32,
    /// Lines that are not blank.
    pub received: u32,
    /// Lines that became events.
    pub accepted: u32,
    /// The others, in order.
    pub rejects: Vec<Reject>,
    /// Byte ranges of the pushed bytes that must not be logged: rejected and blank lines with their newlines;
    /// ascending, adjacent ones joined.
    pub removed: Vec<Range<usize>>,
    /// Ids of the accepted events that have one, in order.
    pub ids: Vec<EventId>,
}

/// Decodes lines into batches. One per parser thread; scratch memory is reused.
#[derive(Debug)]
pub struct Decoder {
    plan: Arc<Plan>,
    walk: Walk,
    assembly: Assembly,
    envelopes: EnvelopeReader,
    /// Bytes pushed since the last finish.
    pushed: usize,
}

impl Decoder {
    /// A decoder for a plan.
    pub fn new(plan: Arc<Plan>) -> Self {
        Self {
            walk: Walk::new(&plan.trie, plan.limits().depth),
            assembly: Assembly::new(plan.clone()),
            envelopes: EnvelopeReader::default(),
            pushed: 0,
            plan,
        }
    }

    /// Appends the lines of `bytes`, by a preset of the plan, to the batch under construction. Lines end with a newline
    /// (the last may do without), `"\r\n"` is fine, and lines of nothing but white space are skipped.
    ///
    /// # Panics
    /// When the plan has no such preset, or when 4 GiB were pushed since the last [`Decoder::finish`].
    pub fn push(&mut self, preset: usize, bytes: &[u8], mode: Mode) -> Pushed {
        self.pushed += bytes.len();
        assert!(self.pushed < u32::MAX as usize, "a batch is decoded from less than 4 GiB");
        let plan = self.plan.clone();
        let mut push = Push {
            plan: &plan,
            preset: &plan.preset_plans[preset],
            decoder: self,
            bytes,
            valid: utf8_until(bytes, 0),
            mode,
            pushed: Pushed::default(),
        };
        let mut at = 0;
        while at < bytes.len() {
            at = push.line(at);
        }
        push.pushed
    }

    /// The batch of everything pushed since the last finish.
    pub fn finish(&mut self) -> Batch {
        self.pushed = 0;
        self.assembly.finish()
    }

    /// Events accepted since the last finish.
    pub fn rows(&self) -> usize {
        self.assembly.accepted() as usize
    }
}

/// One push under way.
struct Push<'a> {
    plan: &'a Plan,
    preset: &'a PresetPlan,
    decoder: &'a mut Decoder,
    bytes: &'a [u8],
    /// From the line at hand up to here the bytes are UTF-8.
    valid: usize,
    mode: Mode,
    pushed: Pushed,
}

impl Push<'_> {
    /// Decodes the line that starts at `start`; where the next one starts.
    #[inline(always)]
    fn line(&mut self, start: usize) -> usize {
        let bytes = self.bytes;
        let first = skip_space(bytes, start);
        if byte(bytes, first) == b'\n' {
            return self.blank(start, first);
        }
        let Decoder { walk, assembly, envelopes, .. } = &mut *self.decoder;
        let walked = walk.line(&self.plan.trie, bytes, first);
        let Ok(end) = walked else {
            return self.faulty(start, walked);
        };
        if end > self.valid || end - start > self.plan.limits().line_bytes {
            return self.faulty(start, walked);
        }
        let envelope = match envelopes.read(self.plan, self.preset, walk, bytes) {
            Ok(envelope) => envelope,
            Err(reason) => return self.bad_envelope(start, end, reason),
        };
        let reject = self.mode == Mode::Admit;
        if !assembly.add(walk, bytes, envelope, reject) && reject {
            let detail = assembly.refusals(envelope);
            return self.reject(start, end, RejectReason::RefusedByAll, detail);
        }
        self.pushed.lines += 1;
        self.pushed.received += 1;
        self.pushed.accepted += 1;
        end + 1
    }

    #[cold]
    fn blank(&mut self, start: usize, end: usize) -> usize {
        self.pushed.lines += 1;
        self.remove(start, end)
    }

    /// Rejects a line that is too long, no UTF-8 or no JSON, in this order.
    #[cold]
    fn faulty(&mut self, start: usize, walked: Result<usize, Fault>) -> usize {
        let bytes = self.bytes;
        let end = match walked {
            Ok(end) => end,
            Err(fault) => line_end(bytes, fault.at as usize),
        };
        let invalid_utf8 = end > self.valid;
        let at_valid = self.valid;
        if invalid_utf8 {
            self.valid = utf8_until(bytes, end);
        }
        let limits = self.plan.limits();
        if end - start > limits.line_bytes {
            let detail = format!("{} bytes; at most {} are taken", end - start, limits.line_bytes);
            return self.reject(start, end, RejectReason::LineTooLong, detail);
        }
        if invalid_utf8 {
            let detail = format!("byte {} is not UTF-8", at_valid - start + 1);
            return self.reject(start, end, RejectReason::InvalidUtf8, detail);
        }
        let (reason, detail) = match walked {
            Err(Fault { at, what: What::TooDeep }) => {
                let at = at as usize - start + 1;
                (RejectReason::TooDeep, format!("byte {at}: nested more than {} deep", limits.depth))
            }
            Err(Fault { what: What::NotAnObject, .. }) => {
                (RejectReason::NotAnObject, What::NotAnObject.text().to_string())
            }
            Err(Fault { at, what }) => {
                (RejectReason::InvalidJson, format!("byte {}: {}", at as usize - start + 1, what.text()))
            }
            Ok(_) => {
                unreachable!("a line that was walked is faulty by its length or its bytes only")
            }
        };
        self.reject(start, end, reason, detail)
    }

    #[cold]
    fn bad_envelope(&mut self, start: usize, end: usize, reason: RejectReason) -> usize {
        let detail = match reason {
            RejectReason::MissingType => "the event has no type".to_string(),
            RejectReason::InvalidType => {
                format!("the type must be text of 1 to {} bytes", self.plan.limits().type_bytes)
            }
            _ => "the timestamp must be RFC 3339, e.g. \"2026-01-27T10:00:00.123Z\"".to_string(),
        };
        self.reject(start, end, reason, detail)
    }

    #[cold]
    fn reject(&mut self, start: usize, end: usize, reason: RejectReason, detail: String) -> usize {
        self.pushed.rejects.push(Reject { line: self.pushed.lines, reason, field: None, detail, span: start..end });
        self.pushed.lines += 1;
        self.pushed.received += 1;
        self.remove(start, end)
    }

    /// Notes that the line and its newline must not be logged; where the next line starts.
    fn remove(&mut self, start: usize, end: usize) -> usize {
        let next = (end + 1).min(self.bytes.len());
        match self.pushed.removed.last_mut() {
            Some(last) if last.end == start => last.end = next,
            _ => self.pushed.removed.push(start..next),
        }
        next
    }
}

/// Reads types and times. Remembers the last type, since neighbouring events often share it.
#[derive(Debug, Default)]
struct EnvelopeReader {
    /// The last type's name; empty at first, which no type is.
    name: Vec<u8>,
    event_type: u32,
    clockwork: Clockwork,
    text: Vec<u8>,
}

impl EnvelopeReader {
    #[inline(always)]
    fn read(&mut self, plan: &Plan, preset: &PresetPlan, walk: &Walk, bytes: &[u8]) -> Result<Envelope, RejectReason> {
        let event_type = match preset.kind {
            TypeSource::Constant(event_type) => event_type,
            TypeSource::Slot(slot) => self.event_type(plan, walk, slot, bytes)?,
        };
        Ok(Envelope { event_type, time: self.time(walk, preset.timestamp_slot, bytes)? })
    }

    #[inline(always)]
    fn event_type(&mut self, plan: &Plan, walk: &Walk, slot: usize, bytes: &[u8]) -> Result<u32, RejectReason> {
        let (class, value) = walk.slot(slot);
        let name = match class {
            Class::Plain => value.of(bytes),
            Class::Escaped => unescaped(&mut self.text, value.of(bytes)),
            Class::Absent => return Err(RejectReason::MissingType),
            _ => return Err(RejectReason::InvalidType),
        };
        if name.is_empty() || name.len() > plan.limits().type_bytes {
            return Err(RejectReason::InvalidType);
        }
        if name != self.name {
            self.event_type = plan.type_called(name);
            self.name.clear();
            self.name.extend_from_slice(name);
        }
        Ok(self.event_type)
    }

    #[inline(always)]
    fn time(&mut self, walk: &Walk, slot: usize, bytes: &[u8]) -> Result<Option<i64>, RejectReason> {
        let (class, value) = walk.slot(slot);
        let text = match class {
            Class::Plain => value.of(bytes),
            Class::Absent => return Ok(None),
            Class::Escaped => unescaped(&mut self.text, value.of(bytes)),
            _ => return Err(RejectReason::InvalidTimestamp),
        };
        self.clockwork.parse(text).map(Some).ok_or(RejectReason::InvalidTimestamp)
    }
}

fn unescaped<'a>(scratch: &'a mut Vec<u8>, inside: &[u8]) -> &'a [u8] {
    scratch.clear();
    json::unescape(inside, scratch);
    scratch
}

/// The end of the line that `at` lies in.
fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |newline| at + newline)
}

/// How far the bytes are UTF-8 from `start` on.
fn utf8_until(bytes: &[u8], start: usize) -> usize {
    match std::str::from_utf8(&bytes[start..]) {
        Ok(_) => bytes.len(),
        Err(error) => start + error.valid_up_to(),
    }
}
