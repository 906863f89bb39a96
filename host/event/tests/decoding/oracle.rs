//! What decoding must give, computed the slow way: JSON by serde_json, times by chrono, numbers by moving the point in
//! their text. Shares no code with the decoder.
//!
//! serde_json refuses half surrogate pairs where it has to give text; they are replaced by U+FFFD before it sees them.

use crate::view::{Cell, Row};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::collections::HashMap;
use tally_event::decode::RejectReason;
use tally_event::plan::{Limits, Subscriber};
use tally_event::schema::{Kind, Manifest, Preset, TimestampFormat};

/// What becomes of a batch of lines.
#[derive(Debug, Default, PartialEq)]
pub struct Expected {
    /// Line number and reason.
    pub rejects: Vec<(u32, Reason)>,
    pub accepted: u32,
    /// Line number and hash of the event's id.
    pub ids: Vec<(u32, u128)>,
    pub max_time: Option<i64>,
    /// By subscriber.
    pub shares: Vec<Share>,
}

/// A reject reason; a line that is wrong in two ways may be called either.
#[derive(Clone, Copy, Debug)]
pub enum Reason {
    Exactly(RejectReason),
    InvalidOrTooDeep,
}

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        let either = |reason| matches!(reason, RejectReason::InvalidJson | RejectReason::TooDeep);
        match (self, other) {
            (Self::Exactly(a), Self::Exactly(b)) => a == b,
            (Self::InvalidOrTooDeep, Self::Exactly(a)) | (Self::Exactly(a), Self::InvalidOrTooDeep) => either(*a),
            (Self::InvalidOrTooDeep, Self::InvalidOrTooDeep) => true,
        }
    }
}

/// What one subscriber gets.
#[derive(Debug, Default, PartialEq)]
pub struct Share {
    pub rows: Vec<Row>,
    /// Sequence and reason in words.
    pub refused: Vec<(u64, String)>,
    pub not_subscribed: u32,
}

/// The rules under which lines are decoded.
pub struct Rules<'a> {
    pub subscribers: &'a [Subscriber],
    pub preset: &'a Preset,
    pub limits: Limits,
    pub admit: bool,
    pub first_sequence: u64,
    pub arrival: i64,
}

impl Rules<'_> {
    /// What becomes of the lines.
    pub fn expect(&self, bytes: &[u8]) -> Expected {
        let shares = self.subscribers.iter().map(|_| Share::default()).collect();
        let mut expected = Expected { shares, ..Expected::default() };
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let lines = body.split(|&byte| byte == b'\n').filter(|_| !bytes.is_empty());
        for (number, line) in lines.enumerate() {
            if line.iter().all(|byte| b" \t\r".contains(byte)) {
                continue;
            }
            match self.line(line, &mut expected) {
                Ok(id) => expected.ids.extend(id.map(|hash| (number as u32, hash))),
                Err(reason) => expected.rejects.push((number as u32, reason)),
            }
        }
        expected
    }

    fn line(&self, line: &[u8], expected: &mut Expected) -> Result<Option<u128>, Reason> {
        let no = |reason| Err(Reason::Exactly(reason));
        if line.len() > self.limits.line_bytes {
            return no(RejectReason::LineTooLong);
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return no(RejectReason::InvalidUtf8);
        };
        let text = text.trim_matches([' ', '\t', '\r']);
        let too_deep = depth(text) > self.limits.depth;
        match (serde_json::from_str::<IgnoredAny>(text).is_ok(), too_deep) {
            (true, true) => return no(RejectReason::TooDeep),
            (false, true) => return Err(Reason::InvalidOrTooDeep),
            (false, false) => return no(RejectReason::InvalidJson),
            (true, false) if !text.starts_with('{') => return no(RejectReason::NotAnObject),
            (true, false) => {}
        }
        let whole = whole_surrogates(text);
        let event = Event { text: &whole, raw: text };
        let name = self.event_type(&event).map_err(Reason::Exactly)?;
        let time = match event.find(&self.preset.timestamp_path) {
            None => None,
            Some(raw) => match event_time(raw, self.preset.timestamp_format) {
                Some(micros) => Some(micros),
                None => return no(RejectReason::InvalidTimestamp),
            },
        };
        let id = self.event_id(&event).map_err(Reason::Exactly)?;
        let missing = |wanted: &String| event.find(&place(self.preset, wanted)).is_none();
        if self.preset.required.iter().any(missing) {
            return no(RejectReason::MissingField);
        }
        self.accept(&event, &name, time.unwrap_or(self.arrival), expected)?;
        Ok(id)
    }

    fn event_id(&self, event: &Event<'_>) -> Result<Option<u128>, RejectReason> {
        let mut parts = Vec::new();
        for pointer in &self.preset.event_id {
            let part: String = match event.find(pointer) {
                None => String::new(),
                Some(raw) if raw.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) => raw.into(),
                Some(raw) => serde_json::from_str(raw).map_err(|_| RejectReason::InvalidEventId)?,
            };
            if part.len() > self.limits.event_id_bytes {
                return Err(RejectReason::InvalidEventId);
            }
            parts.push(part);
        }
        let prefixed = |part: &String| [&(part.len() as u32).to_le_bytes(), part.as_bytes()].concat();
        let bytes: Vec<u8> = parts.iter().flat_map(prefixed).collect();
        let any = !parts.is_empty() && parts.iter().all(|part| !part.is_empty());
        Ok(any.then(|| xxhash_rust::xxh3::xxh3_128(&bytes)))
    }

    fn event_type(&self, event: &Event<'_>) -> Result<String, RejectReason> {
        if let Some(constant) = &self.preset.constant_type {
            return Ok(constant.clone());
        }
        let raw = event.find(&self.preset.type_path).ok_or(RejectReason::MissingType)?;
        let name: String = serde_json::from_str(raw).map_err(|_| RejectReason::InvalidType)?;
        let fits = !name.is_empty() && name.len() <= self.limits.type_bytes;
        if fits { Ok(name) } else { Err(RejectReason::InvalidType) }
    }

    fn accept(&self, event: &Event<'_>, name: &str, time: i64, expected: &mut Expected) -> Result<(), Reason> {
        let sequence = self.first_sequence + u64::from(expected.accepted);
        let given: Vec<_> = self.subscribers.iter().map(|s| give(&s.manifest, self.preset, event, name)).collect();
        let any_reader = given.iter().any(Option::is_some);
        let any_taker = given.iter().flatten().any(|given| given.is_ok());
        if self.admit && any_reader && !any_taker {
            return Err(Reason::Exactly(RejectReason::RefusedByAll));
        }
        for (share, given) in expected.shares.iter_mut().zip(given) {
            match given {
                None => share.not_subscribed += 1,
                Some(Ok((event_type, cells))) => share.rows.push(Row { sequence, time, event_type, cells }),
                Some(Err(reason)) => share.refused.push((sequence, reason)),
            }
        }
        expected.accepted += 1;
        expected.max_time = expected.max_time.max(Some(time));
        Ok(())
    }
}

/// What a manifest makes of an event: nothing, its type and cells, or a refusal.
fn give(
    manifest: &Manifest,
    preset: &Preset,
    event: &Event<'_>,
    name: &str,
) -> Option<Result<(u32, Vec<Cell>), String>> {
    let position = |name: &str| manifest.event_types.iter().position(|t| t.name == name);
    let index = position(name).or_else(|| position("*"))?;
    let event_type = &manifest.event_types[index];
    let mut cells = vec![Cell::Absent; manifest.fields.len()];
    for (index, field) in manifest.fields.iter().enumerate() {
        let required = event_type.required.contains(&(index as u32));
        if !required && !event_type.optional.contains(&(index as u32)) {
            continue;
        }
        match event.find(&place(preset, &field.path)) {
            None if required => return Some(Err(format!("missing:{}", field.path))),
            None => {}
            Some(raw) => match cell(event, raw, field.kind) {
                Ok(cell) => cells[index] = cell,
                Err(word) => return Some(Err(format!("{word}:{}", field.path))),
            },
        }
    }
    Some(Ok((index as u32, cells)))
}

fn cell(event: &Event<'_>, raw: &str, kind: Kind) -> Result<Cell, &'static str> {
    let wrong = "wrong_kind";
    let number = || {
        if raw.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) { Ok(raw) } else { Err(wrong) }
    };
    match kind {
        Kind::Text => serde_json::from_str(raw).map(Cell::Text).map_err(|_| wrong),
        Kind::Json => Ok(Cell::Text(event.as_written(raw).into())),
        Kind::Boolean => serde_json::from_str(raw).map(Cell::Boolean).map_err(|_| wrong),
        Kind::Timestamp => timestamp(raw).map(Cell::Integer).ok_or(wrong),
        Kind::Float => {
            let value: f64 = number()?.parse().map_err(|_| wrong)?;
            if value.is_finite() { Ok(Cell::Float(value.to_bits())) } else { Err(wrong) }
        }
        Kind::Integer => scaled(number()?, 0).map(Cell::Integer).map_err(|_| wrong),
        Kind::Decimal(scale) => scaled(number()?, i64::from(scale)).map(Cell::Integer),
    }
}

/// The number with its point moved by exponent and scale, in text.
fn scaled(raw: &str, scale: i64) -> Result<i64, &'static str> {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.bytes().all(|digit| digit == b'0') {
        return Ok(0);
    }
    // No line here has digits enough to make up for exponents like these.
    let exponent: i64 = match exponent.parse() {
        Ok(exponent @ -9999..=9999) => exponent,
        _ if exponent.starts_with('-') => return Err("surplus_digits"),
        _ => return Err("wrong_kind"),
    };
    let point = whole.len() as i64 + exponent + scale;
    let padded = format!("{}{digits}{}", "0".repeat((-point).max(0) as usize), "0".repeat(point.max(0) as usize));
    let (whole, surplus) = padded.split_at(point.max(0) as usize);
    if surplus.bytes().any(|digit| digit != b'0') {
        return Err("surplus_digits");
    }
    format!("{sign}0{whole}").parse().map_err(|_| "wrong_kind")
}

/// Where in the line the value is that aggregators call `wanted`.
pub fn place(preset: &Preset, wanted: &str) -> String {
    let tokens = |pointer: &str| -> Vec<String> { pointer.split('/').skip(1).map(String::from).collect() };
    let wanted = tokens(wanted);
    for around in (0..=wanted.len()).rev().filter(|_| !wanted.is_empty()) {
        if let Some((_, to)) = preset.rename.iter().find(|(from, _)| tokens(from) == wanted[..around]) {
            return [&tokens(to)[..], &wanted[around..]].concat().iter().map(|token| format!("/{token}")).collect();
        }
    }
    wanted.iter().map(|token| format!("/{token}")).collect()
}

fn event_time(raw: &str, format: TimestampFormat) -> Option<i64> {
    let scale = match format {
        TimestampFormat::Rfc3339 => return timestamp(raw),
        TimestampFormat::Seconds => 6,
        TimestampFormat::Milliseconds => 3,
        TimestampFormat::Microseconds => 0,
    };
    let number = if raw.starts_with('"') { serde_json::from_str(raw).ok()? } else { raw.to_string() };
    let json = serde_json::from_str::<&RawValue>(&number).is_ok_and(|parsed| parsed.get() == number);
    let micros = if json && number.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        floor(&number, scale)?
    } else {
        return None;
    };
    (tally_event::time::MIN_MICROS..=tally_event::time::MAX_MICROS).contains(&micros).then_some(micros)
}

/// The number with its point moved by exponent and scale, in text, and what is behind the point cut off.
fn floor(raw: &str, scale: i64) -> Option<i64> {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.bytes().all(|digit| digit == b'0') {
        return Some(0);
    }
    let exponent: i64 = match exponent.parse() {
        Ok(exponent @ -9999..=9999) => exponent,
        _ if exponent.starts_with('-') => return Some(if negative { -1 } else { 0 }),
        _ => return None,
    };
    let point = whole.len() as i64 + exponent + scale;
    let padded = format!("{}{digits}{}", "0".repeat((-point).max(0) as usize), "0".repeat(point.max(0) as usize));
    let (whole, rest) = padded.split_at(point.max(0) as usize);
    let whole: i128 = format!("0{whole}").parse().ok()?;
    let rest = rest.bytes().any(|digit| digit != b'0');
    i64::try_from(if negative { -whole - i128::from(rest) } else { whole }).ok()
}

fn timestamp(raw: &str) -> Option<i64> {
    use chrono::Datelike;
    let text: String = serde_json::from_str(raw).ok()?;
    let written: u32 = text.get(..4)?.parse().ok()?;
    let time = chrono::DateTime::parse_from_rfc3339(&text).ok()?;
    let valid = written > 0 && (1..=9999).contains(&time.to_utc().year());
    // chrono has a leap second as the 59th with a second more of nanoseconds; here it is the minute's last microsecond.
    let nanos = time.timestamp_subsec_nanos().min(999_999_999);
    valid.then(|| time.timestamp() * 1_000_000 + i64::from(nanos / 1000))
}

/// An event's JSON.
pub struct Event<'a> {
    /// With whole surrogate pairs only.
    pub text: &'a str,
    /// As it came; of the same length.
    pub raw: &'a str,
}

impl<'a> Event<'a> {
    /// The JSON at a pointer; null is nothing.
    pub fn find(&self, pointer: &str) -> Option<&'a str> {
        let mut found = self.text;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            found = match found.as_bytes().first()? {
                b'{' => serde_json::from_str::<HashMap<String, &RawValue>>(found).ok()?.get(&token)?.get(),
                b'[' => {
                    let index: usize = token.parse().ok().filter(|index: &usize| index.to_string() == token)?;
                    serde_json::from_str::<Vec<&RawValue>>(found).ok()?.get(index)?.get()
                }
                _ => return None,
            };
        }
        (found != "null").then_some(found)
    }

    /// The bytes that came where `found` is.
    pub fn as_written(&self, found: &str) -> &'a str {
        let start = found.as_ptr() as usize - self.text.as_ptr() as usize;
        &self.raw[start..start + found.len()]
    }
}

/// The same JSON with `\ufffd` for every half surrogate pair. Backslashes stand in strings only.
pub fn whole_surrogates(text: &str) -> String {
    let unit = |at: usize| {
        let digits = text.get(at..).filter(|rest| rest.starts_with("\\u"))?.get(2..6)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut whole = text.to_string();
    let mut at = 0;
    while let Some(backslash) = text[at..].find('\\') {
        at += backslash;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                whole.replace_range(at..at + 6, "\\ufffd");
                6
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
    }
    whole
}

/// How deep brackets nest, strings left out.
pub fn depth(text: &str) -> u32 {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_u32, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
