//! Dead letters: what is kept of the events that aggregators are spared, with the reason and the event, for people to look at.
//! They follow from the log, where each skip is a note; kept apart, they outlive its retention. Bounded in number by
//! `limits.dead_letters` and in bytes by [`KEPT_BYTES`] each.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tally_aggregate::{Attached, Entries, Entry, Note, Skip};
use tally_state::{DeadLetter, Store};
use tally_storage::{RealStorage, Storage};
use tally_wal::{Frame, Reader};

use crate::context::Context;
use crate::feed::Position;
use crate::records::rfc3339;

/// The most that is kept of an event.
pub const KEPT_BYTES: usize = 16 << 10;

/// What is kept of a skipped event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// What it is asked for by: `NAME:SEQUENCE`.
    pub id: String,
    /// The aggregator.
    pub aggregator: String,
    /// The event.
    pub sequence: u64,
    /// When it was decided, RFC 3339.
    pub time: String,
    /// The plugin that failed: its file, without the ending.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// How it failed.
    pub reason: String,
    /// Its frames at that moment, innermost first, one per line; empty if there are none.
    pub backtrace: String,
    /// The beginning of the event; none when the log held it no longer.
    pub event: Option<String>,
    /// How long the whole event is, bytes.
    pub length: Option<u64>,
    /// Whether `event` is less than the whole.
    pub truncated: bool,
}

/// The letters that are kept, newest event first.
pub fn newest(store: &Store) -> anyhow::Result<Vec<Letter>> {
    let read = |kept: DeadLetter| {
        let what = || format!("the dead letter of event {} and aggregator {} does not read", kept.sequence, kept.name);
        serde_json::from_slice(&kept.letter).with_context(what)
    };
    store.dead_letters()?.into_iter().rev().map(read).collect()
}

/// The letters of a data directory whose daemon does not run, newest event first.
pub fn at_rest(data_dir: &Path) -> anyhow::Result<Vec<Letter>> {
    let data = RealStorage::read_only(data_dir).context("opening the data directory")?;
    newest(&Store::open_read_only(&data)?)
}

/// A list of them without what is long, at most so many, of one aggregator or of all.
pub fn list(letters: &[Letter], rows: usize, aggregator: Option<&str>) -> Value {
    let wanted = letters.iter().filter(|letter| aggregator.is_none_or(|name| name == letter.aggregator));
    let short = |letter: &Letter| {
        let mut value = json!(letter);
        for long in ["backtrace", "event", "length", "truncated"] {
            value.as_object_mut().map(|value| value.remove(long));
        }
        value
    };
    let list: Vec<Value> = wanted.take(rows).map(short).collect();
    json!({ "dead_letters": list, "kept": letters.len() })
}

/// Keeps those of an aggregator's `skips` that are logged behind `from` and not kept yet: it has just been spared them, or
/// the last life ended in between.
pub fn complete<S: Storage>(
    context: &Context<S>,
    name: &str,
    attached: &Attached,
    skips: &BTreeSet<u64>,
    from: Position,
) -> anyhow::Result<()> {
    if skips.is_empty() {
        return Ok(());
    }
    let of = |kept: &DeadLetter| -> anyhow::Result<bool> {
        let letter: Letter = serde_json::from_slice(&kept.letter)?;
        Ok(kept.name == name && letter.digest == attached.digest)
    };
    let mut missing = skips.clone();
    for kept in context.store.dead_letters()? {
        if missing.contains(&kept.sequence) && of(&kept)? {
            missing.remove(&kept.sequence);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut found = Found { name, missing: &missing, skips: Vec::new(), events: Vec::new() };
    found.read(&mut context.reader(), from.frame, context.tail.last())?;
    let logged = |sequence: &u64| found.skips.iter().any(|skip| skip.sequence == *sequence);
    if let Some(lost) = missing.iter().find(|sequence| !logged(sequence)) {
        anyhow::bail!(
            "event {lost} is skipped for aggregator {name}, but the log behind frame {} does not say so",
            from.frame
        );
    }
    let most = context.config().limits.dead_letters;
    for skip in &found.skips {
        let event = found.events.iter().find(|(sequence, _)| *sequence == skip.sequence).map(|(_, line)| &**line);
        let letter = letter(skip, attached, event);
        let letter = serde_json::to_vec(&letter).expect("plain data serializes");
        context.store.keep_dead_letter(&DeadLetter { sequence: skip.sequence, name: name.to_owned(), letter }, most)?;
    }
    Ok(())
}

/// What a stretch of the log says of the missing letters.
struct Found<'a> {
    name: &'a str,
    missing: &'a BTreeSet<u64>,
    skips: Vec<Skip>,
    events: Vec<(u64, Vec<u8>)>,
}

impl Found<'_> {
    fn read<S: Storage>(&mut self, reader: &mut Reader<S>, from: u64, to: u64) -> anyhow::Result<()> {
        let from = from.max(reader.first_frame());
        reader.seek(from).with_context(|| format!("looking for frame {from} of the log"))?;
        let mut frame = Frame::default();
        while reader.next(&mut frame).context("reading the log for dead letters")? {
            self.frame(&frame)?;
            if frame.number >= to {
                break;
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let mut sequence = frame.first_sequence;
        for entry in Entries::new(&frame.body) {
            match entry.with_context(|| format!("frame {} of the log", frame.number))? {
                Entry::Events { count, lines, .. } => {
                    let next = sequence + u64::from(count);
                    let mut seen = (sequence, lines);
                    for &wanted in self.missing.range(sequence..next) {
                        seen = after(seen, wanted);
                        let line = seen.1.split(|byte| *byte == b'\n').next().unwrap_or_default();
                        self.events.push((wanted, line.to_vec()));
                    }
                    sequence = next;
                }
                Entry::Note(Note::Skipped(skip)) if skip.name == self.name && self.missing.contains(&skip.sequence) => {
                    self.skips.push(skip);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Passes over lines up to that of event `wanted`.
fn after((mut sequence, mut lines): (u64, &[u8]), wanted: u64) -> (u64, &[u8]) {
    while sequence < wanted {
        let end = memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        lines = &lines[end..];
        sequence += 1;
    }
    (sequence, lines)
}

fn letter(skip: &Skip, attached: &Attached, event: Option<&[u8]>) -> Letter {
    let kept = event.map(|event| &event[..event.len().min(KEPT_BYTES)]);
    Letter {
        id: format!("{}:{}", skip.name, skip.sequence),
        aggregator: skip.name.clone(),
        sequence: skip.sequence,
        time: rfc3339(skip.at),
        plugin: attached.plugin.clone(),
        version: attached.version.clone(),
        digest: skip.digest.clone(),
        reason: skip.reason.clone(),
        backtrace: skip.backtrace.clone(),
        event: kept.map(|event| String::from_utf8_lossy(event).into_owned()),
        length: event.map(|event| event.len() as u64),
        truncated: event.is_some_and(|event| event.len() > KEPT_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use tally_aggregate::BodyBuilder;

    use super::*;

    #[test]
    fn skips_and_their_events_are_found_in_a_frame() {
        let mut body = BodyBuilder::default();
        body.events(1, 0, 3, [&b"one\ntwo\nthree\n"[..]].into_iter());
        let skip = |name: &str, sequence| Skip { name: name.into(), sequence, ..Skip::default() };
        body.note(&Note::Skipped(skip("a", 12)));
        body.note(&Note::Skipped(skip("b", 12)));
        body.events(1, 0, 2, [&b"four\n"[..], b"five"].into_iter());
        body.note(&Note::Skipped(skip("a", 10)));
        let frame = Frame { number: 3, first_sequence: 10, count: 5, opening: false, body: body.bytes().to_vec() };
        let missing = BTreeSet::from([10, 12, 14]);
        let mut found = Found { name: "a", missing: &missing, skips: Vec::new(), events: Vec::new() };
        found.frame(&frame).unwrap();
        assert_eq!(found.skips, [skip("a", 12), skip("a", 10)]);
        let lines: Vec<_> = found.events.iter().map(|(at, line)| (*at, std::str::from_utf8(line).unwrap())).collect();
        assert_eq!(lines, [(10, "one"), (12, "three"), (14, "five")]);
    }

    #[test]
    fn a_long_event_is_kept_in_part() {
        let attached = Attached {
            plugin: "p".into(),
            version: "1".into(),
            digest: "d".into(),
            settings: "{}".into(),
            state_version: "1".into(),
            attached_at: 1,
            applies_after: 1,
            line: tally_aggregate::Line::default(),
        };
        let skip = Skip { name: "a".into(), sequence: 7, ..Skip::default() };
        let long = vec![b'x'; KEPT_BYTES + 1];
        let kept = letter(&skip, &attached, Some(&long));
        assert_eq!((kept.event.unwrap().len(), kept.length, kept.truncated), (KEPT_BYTES, Some(16385), true));
        let gone = letter(&skip, &attached, None);
        assert_eq!((gone.id.as_str(), gone.event, gone.length, gone.truncated), ("a:7", None, None, false));
    }
}
