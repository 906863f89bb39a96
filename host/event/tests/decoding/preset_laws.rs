//! What presets do to lines, as laws.

use crate::differential::{check_counts, kept};
use crate::generate::{self, renames};
use crate::oracle::{self, Event};
use crate::presets::{decoder, subscriber};
use crate::seen::seen;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_event::decode::{Mode, Pushed};
use tally_event::plan::Subscriber;
use tally_event::presets::shipped;
use tally_event::schema::{Preset, TimestampFormat};

/// Paths of which none is within another, so that a line can have all of them wherever they come from.
const WANTED: &[&str] = &["/user", "/n", "/flag", "/at", "/x", "/y", "/q/x", "/q/0", "/a~1b"];
const RENAMES: &[(&str, &str)] = &[
    ("", "/p"),
    ("/user", "/a~1b"),
    ("/a~1b", "/user"),
    ("/n", "/price"),
    ("/at", "/timestamp"),
    ("/flag", "/p/0"),
    ("/x", "/p/x"),
    ("/x", "/items/1/x"),
    ("/y", "/p/x/y"),
    ("/q", "/items"),
    ("/q", ""),
    ("/q/0", "/n"),
];

fn renaming_preset() -> impl Strategy<Value = Preset> {
    let all = prop::collection::vec(select(RENAMES), 0..6).prop_map(|all| {
        let distinct: BTreeMap<_, _> = all.into_iter().collect();
        renames(&distinct.into_iter().collect::<Vec<_>>())
    });
    let event_id = select(&["/event_id", "/n", "/user", "/p/x"][..]);
    let required = prop::option::weighted(0.3, select(WANTED));
    let format = select(&[TimestampFormat::Rfc3339, TimestampFormat::Milliseconds][..]);
    (all, event_id, required, format).prop_map(|(rename, event_id, required, timestamp_format)| Preset {
        timestamp_path: if timestamp_format == TimestampFormat::Rfc3339 { "/timestamp" } else { "/n" }.into(),
        timestamp_format,
        event_id: vec![event_id.into()],
        rename,
        required: required.into_iter().map(Into::into).collect(),
        ..Preset::default()
    })
}

/// The line in the shape of the default preset, if it is JSON: what `preset` finds anywhere is where it is called for.
fn in_our_shape(preset: &Preset, line: &str) -> Option<String> {
    if oracle::depth(line) > 60 || serde_json::from_str::<&RawValue>(line).is_err() || !line.trim().starts_with('{') {
        return None;
    }
    let (text, raw) = (oracle::whole_surrogates(line.trim()), line.trim());
    let event = Event { text: &text, raw };
    let found = |place: &str| event.find(place).map(|found| event.as_written(found));
    let mut members = BTreeMap::new();
    let mut nested = BTreeMap::new();
    members.extend(found(&preset.type_path).map(|raw| ("type".to_string(), raw.to_string())));
    members.extend(found(&preset.timestamp_path).map(|raw| ("timestamp".to_string(), raw.to_string())));
    members.extend(found(&preset.event_id[0]).map(|raw| ("event_id".to_string(), raw.to_string())));
    for wanted in WANTED {
        let Some(raw) = found(&oracle::place(preset, wanted)) else { continue };
        match wanted.strip_prefix("/q/") {
            Some(key) => nested.insert(key.to_string(), raw.to_string()),
            None => members.insert(wanted[1..].replace("~1", "/"), raw.to_string()),
        };
    }
    members.insert("q".into(), object(&nested));
    Some(object(&members))
}

fn object(members: &BTreeMap<String, String>) -> String {
    let member = |(key, raw): (&String, &String)| format!("{}:{raw}", serde_json::to_string(key).unwrap());
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

/// The same subscribers without those fields that are the whole event.
fn without_whole_events(subscribers: Vec<Subscriber>) -> Vec<Subscriber> {
    let part = |mut subscriber: Subscriber| {
        let mut manifest = (*subscriber.manifest).clone();
        manifest.fields.iter_mut().filter(|field| field.path.is_empty()).for_each(|field| field.path = "/y".into());
        subscriber.manifest = Arc::new(manifest);
        subscriber
    };
    subscribers.into_iter().map(part).collect()
}

/// A decimal number: digits times a power of ten.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    digits: i64,
    power: i32,
}

impl Decimal {
    fn written(self, plainly: bool) -> String {
        let Self { digits, power } = self;
        if !plainly || power > 0 {
            return format!("{digits}e{power}");
        }
        let places = power.unsigned_abs() as usize;
        let padded = format!("{:0>width$}", digits.unsigned_abs(), width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        let sign = if digits < 0 { "-" } else { "" };
        let point = if places == 0 { "" } else { "." };
        format!("{sign}{whole}{point}{fraction}")
    }

    /// The greatest integer that is not above the number times 10^scale; none beyond `i128`.
    fn floor(self, scale: i32) -> Option<i128> {
        let factor = 10_i128.checked_pow((self.power + scale).unsigned_abs());
        match (self.power + scale, factor) {
            (0.., factor) => i128::from(self.digits).checked_mul(factor?),
            (_, Some(divisor)) => Some(i128::from(self.digits).div_euclid(divisor)),
            (_, None) => Some(if self.digits < 0 { -1 } else { 0 }),
        }
    }
}

/// An id's part in one of the ways in which it can be written.
fn written(part: &str, way: u8) -> String {
    let integer = part.parse::<i64>().is_ok_and(|value| value.to_string() == part);
    match way {
        0 if integer => part.to_string(),
        1 => format!("\"{}\"", part.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>()),
        _ => serde_json::to_string(part).unwrap(),
    }
}

fn hashes(pushed: &Pushed) -> Vec<u128> {
    pushed.ids.iter().map(|id| id.hash).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Decoding by a preset is decoding the line that a rewriter in front of us would have made of it.
    #[test]
    fn a_preset_is_a_rewriting(
        subscribers in generate::subscribers_of(WANTED).prop_map(without_whole_events),
        preset in renaming_preset(),
        bytes in generate::lines(),
        admit: bool,
    ) {
        let lines: Vec<&str> = bytes.split(|&b| b == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pairs: Vec<_> = lines.iter().filter_map(|line| Some((*line, in_our_shape(&preset, line)?))).collect();
        let theirs: String = pairs.iter().map(|(line, _)| format!("{line}\n")).collect();
        let ours: String = pairs.iter().map(|(_, line)| format!("{line}\n")).collect();
        let plain = Preset {
            timestamp_format: preset.timestamp_format,
            required: preset.required.clone(),
            ..Preset::default()
        };
        let mode = if admit { Mode::Admit } else { Mode::Replay };
        let decoded = |preset: &Preset, lines: &str| {
            let mut decoder = decoder(subscribers.clone(), preset.clone());
            let pushed = decoder.push(0, lines.as_bytes(), mode);
            seen(&[(0, pushed)], decoder.finish())
        };
        prop_assert_eq!(decoded(&preset, &theirs), decoded(&plain, &ours));
    }

    /// Numbers since the epoch are exact to the microsecond, and cut off below it.
    #[test]
    fn numbers_since_the_epoch_are_exact(
        (digits, power) in prop_oneof![
            (any::<i64>(), -20_i32..6),
            (-70_000_000_000_i64..300_000_000_000, 0_i32..2),
            (-70_000_000_000_000_000_i64..300_000_000_000_000_000, -8_i32..1),
        ],
        format in select(&[TimestampFormat::Seconds, TimestampFormat::Milliseconds, TimestampFormat::Microseconds][..]),
        plainly: bool,
        text: bool,
    ) {
        let decimal = Decimal { digits, power };
        let scale = match format {
            TimestampFormat::Seconds => 6,
            TimestampFormat::Milliseconds => 3,
            _ => 0,
        };
        let quote = if text { "\"" } else { "" };
        let line = format!("{{\"type\":\"t\",\"timestamp\":{quote}{}{quote}}}\n", decimal.written(plainly));
        let preset = Preset { timestamp_format: format, ..Preset::default() };
        let mut decoder = decoder(vec![subscriber(&[])], preset);
        let pushed = decoder.push(0, line.as_bytes(), Mode::Admit);
        let range = i128::from(tally_event::time::MIN_MICROS)..=i128::from(tally_event::time::MAX_MICROS);
        let expected = decimal.floor(scale).filter(|micros| range.contains(micros));
        prop_assert_eq!(decoder.finish().max_time().map(i128::from), expected, "{}", line);
        let rejected: Vec<_> = pushed.rejects.iter().map(|reject| reject.reason.as_str()).collect();
        prop_assert_eq!(rejected, vec!["invalid_timestamp"; expected.is_none().into()]);
    }

    /// Two events have one id if and only if all of its parts are equal, however they are written.
    #[test]
    fn ids_are_equal_when_their_parts_are(
        events in prop::collection::vec((prop::collection::vec("(|a|b|ab|ba|1|12|-3|é|\\\\|\"|😀)(|a|b|2)", 3), 0_u8..3, any::<bool>()), 1..12),
        parts in 1_usize..4,
        again in any::<Index>(),
    ) {
        let mut events = events;
        events.push(events[again.index(events.len())].clone());
        let event_id: Vec<String> = (0..parts).map(|part| format!("/id/{part}")).collect();
        let preset = Preset { event_id, ..Preset::default() };
        let line = |(values, way, spaced): &(Vec<String>, u8, bool)| {
            let written: Vec<String> = values[..parts].iter().map(|part| written(part, *way)).collect();
            let separator = if *spaced { " , " } else { "," };
            format!("{{\"type\":\"t\",\"id\":[{}]}}\n", written.join(separator))
        };
        let lines: String = events.iter().map(line).collect();
        let mut decoder = decoder(vec![subscriber(&[])], preset);
        let pushed = decoder.push(0, lines.as_bytes(), Mode::Admit);
        check_counts(lines.as_bytes(), &pushed);
        prop_assert_eq!(&pushed.rejects, &vec![]);
        let complete = |(_, (values, ..)): &(usize, &(Vec<String>, u8, bool))| values[..parts].iter().all(|part| !part.is_empty());
        let with_id: Vec<_> = events.iter().enumerate().filter(complete).collect();
        prop_assert_eq!(pushed.ids.len(), with_id.len());
        for (id, (line, (values, ..))) in pushed.ids.iter().zip(&with_id) {
            prop_assert_eq!(id.line as usize, *line);
            for (other, (_, (others, ..))) in pushed.ids.iter().zip(&with_id) {
                prop_assert_eq!(id.hash == other.hash, values[..parts] == others[..parts]);
            }
        }
    }

    /// What is kept of a push decodes to the same batch and the same ids.
    #[test]
    fn what_is_kept_is_read_alike_by_every_shipped_preset(
        subscribers in generate::subscribers(),
        preset in select(shipped()),
        bytes in generate::lines(),
    ) {
        let mut decoder = decoder(subscribers, preset);
        let admitted = decoder.push(0, &bytes, Mode::Admit);
        let (logged, hashes_then) = (kept(&bytes, &admitted), hashes(&admitted));
        let then = seen(&[(0, admitted)], decoder.finish());
        let replayed = decoder.push(0, &logged, Mode::Replay);
        prop_assert_eq!((&replayed.rejects, hashes(&replayed)), (&vec![], hashes_then));
        prop_assert_eq!(seen(&[(0, replayed)], decoder.finish()).shares, then.shares);
    }
}
