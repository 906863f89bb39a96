//! Lines to columns. Knows nothing of where lines come from or where batches go.
//!
//! How a line is read:
//! - JSON strictly by RFC 8259, ignored values too, in valid UTF-8, nested at most `limits.depth` deep (the event's
//!   object is depth 1). White space around the object is fine, a carriage return before the newline included.
//! - The last of several equal keys wins. `null` is absent.
//! - Text is unescaped; half of a surrogate pair becomes U+FFFD. A number is not text and text is no number.
//! - Integers are integral values within `i64`, however they are written (`1`, `-0`, `1.0`, `1e3`). Decimals are exact;
//!   digits beyond the scale must be zeros. Floats are the nearest finite `f64`.
//! - Times are RFC 3339 as [`crate::time`] says. Where the preset says so, the event's own is a number since the epoch,
//!   plain or in quotes; digits beyond microseconds are cut off.
//! - The parts of an event id are text, or integers without fraction and exponent, which count as their digits. An event
//!   that lacks a part, or has an empty one, has no id.
//! - An envelope is checked in this order: type, time, event id, what the preset requires; then aggregators are asked.
//!
//! A line takes the fastest of three ways that it can take, and all give the same:
//! - *in a run*, together with lines of its shape and type before it (`run`): text columns, no event id;
//! - *by its shape*, taken apart without being parsed (`shapes`), but added alone;
//! - *walked* byte by byte (`walk`), and its shape is learnt. Only this way finds out what is wrong with a line.

pub use crate::event_id::EventId;
pub use crate::reject::{Reject, RejectReason, UnknownReason};

use crate::assemble::Assembly;
use crate::batch::{Batch, Envelope};
use crate::envelope::{EnvelopeReader, Wrong};
use crate::json::{Fault, What, byte, skip_space};
use crate::marks::Marks;
use crate::plan::Plan;
use crate::preset_plan::PresetPlan;
use crate::run::Run;
use crate::shapes::Met;
use crate::walk::Walk;
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
    /// One per preset: lines of one shape teach nothing about those of another.
    walks: Vec<Walk>,
    assembly: Assembly,
    envelopes: EnvelopeReader,
    marks: Marks,
    run: Run,
    /// Bytes pushed since the last finish.
    pushed: usize,
}

impl Decoder {
    /// A decoder for a plan.
    pub fn new(plan: Arc<Plan>) -> Self {
        let walk = |preset: &PresetPlan| Walk::new(&preset.trie, plan.limits().depth);
        Self {
            walks: plan.preset_plans.iter().map(walk).collect(),
            assembly: Assembly::new(plan.clone()),
            envelopes: EnvelopeReader::default(),
            marks: Marks::default(),
            run: Run::default(),
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
            preset,
            compiled: &plan.preset_plans[preset],
            walk: &mut self.walks[preset],
            assembly: &mut self.assembly,
            envelopes: &mut self.envelopes,
            valid: self.marks.scan(bytes),
            marks: &self.marks,
            run: &mut self.run,
            bytes,
            mode,
            pushed: Pushed::default(),
        };
        let mut at = 0;
        while at < bytes.len() {
            at = push.line(at);
        }
        push.end_run();
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
    /// Its index.
    preset: usize,
    compiled: &'a PresetPlan,
    walk: &'a mut Walk,
    assembly: &'a mut Assembly,
    envelopes: &'a mut EnvelopeReader,
    marks: &'a Marks,
    /// Lines that are not in the batch yet, nor counted; added before anything else is.
    run: &'a mut Run,
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
        match self.walk.shapes().follow(self.bytes, self.marks, start) {
            Some(met) if self.is_sound(start, met.newline) && self.run.take(self.walk.shapes(), &met, self.bytes) => {
                met.newline + 1
            }
            met => self.line_alone(start, met),
        }
    }

    /// The same, when the line does not go with those before.
    #[inline(never)]
    fn line_alone(&mut self, start: usize, met: Option<Met>) -> usize {
        self.end_run();
        let bytes = self.bytes;
        let end = match met {
            Some(met) if !self.is_sound(start, met.newline) => return self.faulty(start, Ok(met.newline)),
            Some(met) if self.run.begin(self.walk.shapes(), &met, bytes, self.plan, self.compiled) => {
                return met.newline + 1;
            }
            Some(met) => {
                self.walk.put_met(&met, bytes);
                met.newline
            }
            None => match self.new_line(start) {
                Ok(end) => end,
                Err(next) => return next,
            },
        };
        let (envelope, id) = match self.envelopes.read(self.plan, self.compiled, self.walk, bytes) {
            Ok(read) => read,
            Err(wrong) => return self.bad_envelope(start, end, wrong),
        };
        let reject = self.mode == Mode::Admit;
        if !self.assembly.add(self.walk, bytes, &self.compiled.columns, envelope, reject) && reject {
            return self.refused(start, end, envelope);
        }
        if let Some(hash) = id {
            let span = start..(end + 1).min(bytes.len());
            self.pushed.ids.push(EventId { hash, line: self.pushed.lines, span });
        }
        self.accept(1);
        end + 1
    }

    /// Adds the lines that were taken together.
    #[inline(always)]
    fn end_run(&mut self) {
        let rows = self.run.rows();
        if rows > 0 {
            self.run.add_to(self.assembly, self.walk.shapes(), self.bytes);
            self.accept(rows as u32);
        }
    }

    fn accept(&mut self, lines: u32) {
        self.pushed.lines += lines;
        self.pushed.received += lines;
        self.pushed.accepted += lines;
    }

    /// Walks a line of a shape not met before; its end, or where the next line starts if this one is no event.
    #[inline(never)]
    fn new_line(&mut self, start: usize) -> Result<usize, usize> {
        let first = skip_space(self.bytes, start);
        if byte(self.bytes, first) == b'\n' {
            return Err(self.blank(start, first));
        }
        match self.walk.line(&self.compiled.trie, self.bytes, first) {
            Ok(end) if self.is_sound(start, end) => {
                self.walk.learn(self.bytes, start, end);
                Ok(end)
            }
            walked => Err(self.faulty(start, walked)),
        }
    }

    /// Whether a line is UTF-8 and not too long.
    #[inline(always)]
    fn is_sound(&self, start: usize, end: usize) -> bool {
        end <= self.valid && end - start <= self.plan.limits().line_bytes
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
            return self.reject(start, end, RejectReason::LineTooLong, None, detail);
        }
        if invalid_utf8 {
            let detail = format!("byte {} is not UTF-8", at_valid - start + 1);
            return self.reject(start, end, RejectReason::InvalidUtf8, None, detail);
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
        self.reject(start, end, reason, None, detail)
    }

    #[cold]
    fn bad_envelope(&mut self, start: usize, end: usize, wrong: Wrong) -> usize {
        let preset = &self.plan.presets()[self.preset];
        let (reason, field, detail) = wrong.explain(self.plan, preset, self.compiled, self.walk, self.bytes);
        self.reject(start, end, reason, Some(field), detail)
    }

    #[cold]
    fn refused(&mut self, start: usize, end: usize, envelope: Envelope) -> usize {
        let (wanted, detail) = self.assembly.refusals(envelope);
        let field = self.plan.presets()[self.preset].place(&wanted);
        self.reject(start, end, RejectReason::RefusedByAll, Some(field), detail)
    }

    #[cold]
    fn reject(
        &mut self,
        start: usize,
        end: usize,
        reason: RejectReason,
        field: Option<String>,
        detail: String,
    ) -> usize {
        self.pushed.rejects.push(Reject { line: self.pushed.lines, reason, field, detail, span: start..end });
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
