//! What an event has whatever aggregators want of it: its type, its time, its identity, and what its preset requires.
//! Knows neither columns nor batches.

use crate::batch::Envelope;
use crate::json;
use crate::plan::Plan;
use crate::preset_plan::{PresetPlan, TypeSource};
use crate::reject::RejectReason;
use crate::schema::{Preset, TimestampFormat};
use crate::time::{self, Clockwork};
use crate::walk::{Class, Walk};
use xxhash_rust::xxh3::xxh3_128;

/// What is wrong with an envelope. The number is the index among the preset's pointers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    MissingType,
    Type,
    Timestamp,
    EventId(usize),
    Required(usize),
}

/// Reads envelopes. Remembers the last type, since neighbouring events often share it.
#[derive(Debug, Default)]
pub(crate) struct EnvelopeReader {
    /// The last type's name; empty at first, which no type is.
    name: Vec<u8>,
    event_type: u32,
    clockwork: Clockwork,
    text: Vec<u8>,
    /// The parts of an event id.
    parts: Vec<u8>,
}

impl EnvelopeReader {
    /// The envelope of the line that was just walked, and the hash of its event id if it has one.
    #[inline(always)]
    pub(crate) fn read(
        &mut self,
        plan: &Plan,
        preset: &PresetPlan,
        walk: &Walk,
        bytes: &[u8],
    ) -> Result<(Envelope, Option<u128>), Wrong> {
        let event_type = match preset.kind {
            TypeSource::Constant(event_type) => event_type,
            TypeSource::Slot(slot) => self.event_type(plan, walk, slot, bytes)?,
        };
        let time = match preset.timestamp_format {
            TimestampFormat::Rfc3339 => self.time(walk, preset.timestamp_slot, bytes)?,
            format => self.epoch(format, walk, preset.timestamp_slot, bytes)?,
        };
        let id = match *preset.id_slots {
            [] => None,
            [slot] if walk.slot(slot).0 == Class::Absent => None,
            ref slots => self.id(plan, slots, walk, bytes)?,
        };
        let missing = preset.required_slots.iter().position(|&slot| walk.slot(slot).0 == Class::Absent);
        match missing {
            None => Ok((Envelope { event_type, time }, id)),
            Some(index) => Err(Wrong::Required(index)),
        }
    }

    #[inline(always)]
    fn event_type(&mut self, plan: &Plan, walk: &Walk, slot: usize, bytes: &[u8]) -> Result<u32, Wrong> {
        let (class, value) = walk.slot(slot);
        let name = match class {
            Class::Plain => value.of(bytes),
            Class::Escaped => unescaped(&mut self.text, value.of(bytes)),
            Class::Absent => return Err(Wrong::MissingType),
            _ => return Err(Wrong::Type),
        };
        if name.is_empty() || name.len() > plan.limits().type_bytes {
            return Err(Wrong::Type);
        }
        if name != self.name {
            self.event_type = plan.type_called(name);
            self.name.clear();
            self.name.extend_from_slice(name);
        }
        Ok(self.event_type)
    }

    #[inline(always)]
    fn time(&mut self, walk: &Walk, slot: usize, bytes: &[u8]) -> Result<Option<i64>, Wrong> {
        let (class, value) = walk.slot(slot);
        let text = match class {
            Class::Plain => value.of(bytes),
            Class::Absent => return Ok(None),
            Class::Escaped => unescaped(&mut self.text, value.of(bytes)),
            _ => return Err(Wrong::Timestamp),
        };
        self.clockwork.parse(text).map(Some).ok_or(Wrong::Timestamp)
    }

    #[inline(never)]
    fn epoch(&mut self, format: TimestampFormat, walk: &Walk, slot: usize, bytes: &[u8]) -> Result<Option<i64>, Wrong> {
        let (class, value) = walk.slot(slot);
        let number = match class {
            Class::Number | Class::Plain => value.of(bytes),
            Class::Absent => return Ok(None),
            Class::Escaped => unescaped(&mut self.text, value.of(bytes)),
            _ => return Err(Wrong::Timestamp),
        };
        let is_number = class == Class::Number || json::number(number, 0) == Ok(number.len());
        let micros = if is_number { time::since_epoch(number, format) } else { None };
        micros.map(Some).ok_or(Wrong::Timestamp)
    }

    /// The hash over all parts, each behind its length; none when any of them is absent or empty.
    #[inline(never)]
    fn id(&mut self, plan: &Plan, slots: &[usize], walk: &Walk, bytes: &[u8]) -> Result<Option<u128>, Wrong> {
        let mut complete = true;
        self.parts.clear();
        for (index, &slot) in slots.iter().enumerate() {
            let (class, value) = walk.slot(slot);
            let part = match class {
                Class::Plain => value.of(bytes),
                Class::Escaped => unescaped(&mut self.text, value.of(bytes)),
                Class::Number if is_integer(value.of(bytes)) => value.of(bytes),
                Class::Absent => &[],
                _ => return Err(Wrong::EventId(index)),
            };
            if part.len() > plan.limits().event_id_bytes {
                return Err(Wrong::EventId(index));
            }
            complete &= !part.is_empty();
            self.parts.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.parts.extend_from_slice(part);
        }
        Ok(complete.then(|| xxh3_128(&self.parts)))
    }
}

impl Wrong {
    /// The reason, where in the line it is, and what was found and expected there; for people.
    #[cold]
    pub(crate) fn explain(
        self,
        plan: &Plan,
        preset: &Preset,
        compiled: &PresetPlan,
        walk: &Walk,
        bytes: &[u8],
    ) -> (RejectReason, String, String) {
        let limits = plan.limits();
        let found = |slot: usize| excerpt(walk, slot, bytes);
        match self {
            Self::MissingType => {
                let place = preset.type_path.clone();
                (RejectReason::MissingType, place, "the event has no type".to_string())
            }
            Self::Type => {
                let found = if let TypeSource::Slot(slot) = compiled.kind { found(slot) } else { String::new() };
                let detail = format!("the type must be text of 1 to {} bytes, not {found}", limits.type_bytes);
                (RejectReason::InvalidType, preset.type_path.clone(), detail)
            }
            Self::Timestamp => {
                let expected = expected_time(compiled.timestamp_format);
                let found = found(compiled.timestamp_slot);
                let is_number = walk.slot(compiled.timestamp_slot).0 == Class::Number;
                let hint = if is_number && compiled.timestamp_format == TimestampFormat::Rfc3339 {
                    "; a preset with a timestamp_format takes numbers"
                } else {
                    ""
                };
                let detail = format!("the timestamp must be {expected}, not {found}{hint}");
                (RejectReason::InvalidTimestamp, preset.timestamp_path.clone(), detail)
            }
            Self::EventId(index) => {
                let found = found(compiled.id_slots[index]);
                let detail = format!(
                    "the event id must be text or an integer of at most {} bytes, not {found}",
                    limits.event_id_bytes
                );
                (RejectReason::InvalidEventId, preset.event_id[index].clone(), detail)
            }
            Self::Required(index) => {
                let place = preset.place(&preset.required[index]);
                let detail = format!("preset {} requires a value other than null there", preset.name);
                (RejectReason::MissingField, place, detail)
            }
        }
    }
}

fn expected_time(format: TimestampFormat) -> &'static str {
    match format {
        TimestampFormat::Rfc3339 => "RFC 3339, e.g. \"2026-01-27T10:00:00.123Z\"",
        TimestampFormat::Seconds => "seconds since 1970 within the years 0001 to 9999, e.g. 1769508000.123",
        TimestampFormat::Milliseconds => "milliseconds since 1970 within the years 0001 to 9999, e.g. 1769508000123",
        TimestampFormat::Microseconds => "microseconds since 1970 within the years 0001 to 9999, e.g. 1769508000123000",
    }
}

/// The value in a slot as it was written, or as much of it as is worth showing.
fn excerpt(walk: &Walk, slot: usize, bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let raw = String::from_utf8_lossy(walk.slot(slot).1.raw(bytes));
    match raw.char_indices().nth(SHOWN) {
        None => raw.into_owned(),
        Some((end, _)) => format!("{}... ({} bytes)", &raw[..end], raw.len()),
    }
}

/// Whether a JSON number is written without fraction and exponent.
fn is_integer(number: &[u8]) -> bool {
    number.strip_prefix(b"-").unwrap_or(number).iter().all(u8::is_ascii_digit)
}

fn unescaped<'a>(scratch: &'a mut Vec<u8>, inside: &[u8]) -> &'a [u8] {
    scratch.clear();
    json::unescape(inside, scratch);
    scratch
}
