//! What stands in the body of a log frame: events as received, and every decision about them.
//!
//! A body is a sequence of entries, each `kind u8, length u32, payload` (little-endian):
//!
//! | kind | payload |
//! |---|---|
//! | 1 events | arrival i64 (µs), preset u16, count u32, then `count` lines, each ending in a newline |
//! | 2 producers | count u32, then per producer: length u8, id, lines decided in all u64 |
//! | 3 counts | JSON [`Counts`], cumulative as of this frame |
//! | 4 barrier | JSON [`Barrier`] |
//! | 5 note | JSON [`Note`] |
//! | 6 opening | JSON [`Control`] as of the frame before; only in the first frame of a segment |
//! | 7 ids | time i64 (µs, of the ids' own clock: it counts the time of all lives), then the 16 bytes of each event id: of this frame's events, or, behind an opening, remembered by then |
//!
//! Decisions are rare, so they are JSON: they can be read by eye and grow by optional members. Within a frame entries
//! take effect in order. A barrier splits: events before it belong before the cut, events after it behind the cut.

use serde::{Deserialize, Serialize};

use crate::control::{Anchor, Control, Plan};
use crate::ledger::Counts;

const EVENTS: u8 = 1;
const PRODUCERS: u8 = 2;
const COUNTS: u8 = 3;
const BARRIER: u8 = 4;
const NOTE: u8 = 5;
const OPENING: u8 = 6;
const IDS: u8 = 7;

/// Bytes of an event id.
const ID: usize = 16;

/// One entry of a frame's body.
#[derive(Debug)]
pub enum Entry<'a> {
    /// Accepted events as they were received.
    Events {
        /// Arrival time, microseconds since the Unix epoch; what events without a timestamp get.
        arrival: i64,
        /// Index into the plan's presets.
        preset: u16,
        /// Number of lines.
        count: u32,
        /// The lines.
        lines: &'a [u8],
    },
    /// Lines decided in all, of each producer touched by this frame.
    Producers(Vec<(&'a str, u64)>),
    /// Cumulative counts as of this frame.
    Counts(Counts),
    /// A cut, a flush or an activation.
    Barrier(Box<Barrier>),
    /// A decision that is no barrier.
    Note(Note),
    /// The control state as of the frame before.
    Opening(Box<Control>),
    /// Ids of events that arrived together.
    Ids {
        /// When they arrived, in microseconds of the ids' own clock; see [`IdWindow`](crate::IdWindow).
        at: i64,
        /// The ids, 16 bytes each; see [`ids`].
        ids: &'a [u8],
    },
}

/// The ids of an [`Entry::Ids`].
pub fn ids(bytes: &[u8]) -> impl Iterator<Item = u128> {
    bytes.as_chunks::<ID>().0.iter().map(|id| u128::from_le_bytes(*id))
}

/// A point in the log at which every aggregator saves its open delta and starts an empty one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Barrier {
    /// Number of the cut, dense from 1.
    pub cut: u64,
    /// Why: `events`, `interval`, `question`, `activation`, `shutdown`, ...
    pub reason: String,
    /// Arrival time, microseconds since the Unix epoch.
    pub at: i64,
    /// Sequence of the last event before the barrier.
    pub last_sequence: u64,
    /// Present when the cut has an analytics record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush: Option<Flush>,
    /// Present when the aggregators change here: the whole new plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// True when every aggregator also saves its whole total, so that older segments can go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anchor: bool,
}

/// What a flush's analytics record covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flush {
    /// Number of the record, dense from 1.
    pub batch_id: u64,
    /// Arrival time of the previous flush (or of the log's start), microseconds since the Unix epoch.
    pub from: i64,
    /// Arrival time of this flush.
    pub to: i64,
    /// First sequence covered.
    pub first_sequence: u64,
    /// Last sequence covered.
    pub last_sequence: u64,
    /// Counts of the window.
    pub window: Counts,
    /// Counts since the log began.
    pub total: Counts,
    /// Aggregators whose part belongs into the record.
    pub expected: Vec<String>,
    /// Attached aggregators that are in quarantine, and why.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub quarantined: std::collections::BTreeMap<String, String>,
    /// Rows of each table that go into the record.
    pub table_rows: u32,
}

/// A decision that is no barrier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A daemon took over the log.
    Started {
        /// Version of the daemon.
        version: String,
        /// Version of the decoder: the meaning of lines.
        decoder: u32,
        /// Fingerprint of the Wasm engine.
        engine: String,
    },
    /// An aggregator failed twice at the same place and no longer takes part.
    Quarantined {
        /// The aggregator.
        name: String,
        /// The last cut that it saved.
        after_cut: u64,
        /// Why.
        reason: String,
    },
    /// An aggregator failed at this event alone: it goes on without it.
    Skipped(Skip),
    /// Every aggregator has saved its total as of a cut: segments before it may go.
    Anchored(Anchor),
}

/// An event that an aggregator is spared, since its call failed for it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The aggregator.
    pub name: String,
    /// The cut at which it was attached: attached anew, with another plugin perhaps, it gets the event again.
    pub attached_at: u64,
    /// The event.
    pub sequence: u64,
    /// The last cut before the event.
    pub after_cut: u64,
    /// When it was decided, microseconds since the Unix epoch.
    pub at: i64,
    /// Digest of the plugin that failed.
    pub digest: String,
    /// How the call failed.
    pub reason: String,
    /// The plugin's frames at that moment, innermost first, one per line; empty if there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backtrace: String,
}

/// A body that does not read as entries.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("byte {offset} of the frame's body: {what}")]
pub struct EntryError {
    /// Offset within the body.
    pub offset: usize,
    /// What is wrong there.
    pub what: String,
}

/// Builds a frame's body in one reused buffer, behind what somebody else has there.
#[derive(Debug, Default)]
pub struct BodyBuilder {
    whole: Vec<u8>,
    /// Where the body begins.
    at: usize,
}

impl BodyBuilder {
    /// Starts a new body, keeping the memory, behind what `before` leaves in it.
    pub fn begin(&mut self, before: impl FnOnce(&mut Vec<u8>)) {
        before(&mut self.whole);
        self.at = self.whole.len();
    }

    /// The body so far.
    pub fn bytes(&self) -> &[u8] {
        &self.whole[self.at..]
    }

    /// Everything, and where the body begins in it.
    pub fn whole(&mut self) -> (&mut Vec<u8>, usize) {
        (&mut self.whole, self.at)
    }

    fn entry(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        self.whole.push(kind);
        let at = self.whole.len();
        self.whole.extend_from_slice(&[0; 4]);
        fill(&mut self.whole);
        let length = u32::try_from(self.whole.len() - at - 4).expect("an entry is smaller than a segment");
        self.whole[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Adds events; each of `spans` holds whole lines, and a last line without its newline gets one.
    pub fn events<'s>(&mut self, arrival: i64, preset: u16, count: u32, spans: impl Iterator<Item = &'s [u8]>) {
        self.entry(EVENTS, |body| {
            body.extend_from_slice(&arrival.to_le_bytes());
            body.extend_from_slice(&preset.to_le_bytes());
            body.extend_from_slice(&count.to_le_bytes());
            let start = body.len();
            for span in spans {
                body.extend_from_slice(span);
            }
            if body.len() > start && body.last() != Some(&b'\n') {
                body.push(b'\n');
            }
        });
    }

    /// Adds the lines decided of each touched producer.
    pub fn producers<'p>(&mut self, touched: impl ExactSizeIterator<Item = (&'p str, u64)>) {
        self.entry(PRODUCERS, |body| {
            let count = u32::try_from(touched.len()).expect("producers are bounded");
            body.extend_from_slice(&count.to_le_bytes());
            for (id, lines) in touched {
                body.push(u8::try_from(id.len()).expect("producer ids have at most 128 bytes"));
                body.extend_from_slice(id.as_bytes());
                body.extend_from_slice(&lines.to_le_bytes());
            }
        });
    }

    /// Adds the cumulative counts.
    pub fn counts(&mut self, counts: &Counts) {
        self.json(COUNTS, counts);
    }

    /// Adds a barrier.
    pub fn barrier(&mut self, barrier: &Barrier) {
        self.json(BARRIER, barrier);
    }

    /// Adds a note.
    pub fn note(&mut self, note: &Note) {
        self.json(NOTE, note);
    }

    /// Adds the control state that opens a segment.
    pub fn opening(&mut self, control: &Control) {
        self.json(OPENING, control);
    }

    /// Adds the ids of events that arrived together.
    pub fn ids(&mut self, at: i64, ids: impl Iterator<Item = u128>) {
        self.entry(IDS, |body| {
            body.extend_from_slice(&at.to_le_bytes());
            for id in ids {
                body.extend_from_slice(&id.to_le_bytes());
            }
        });
    }

    fn json(&mut self, kind: u8, value: &impl Serialize) {
        self.entry(kind, |body| serde_json::to_writer(body, value).expect("plain data serializes"));
    }
}

/// Reads the entries of a body, in order.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    body: &'a [u8],
    offset: usize,
}

impl<'a> Entries<'a> {
    /// The entries of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, offset: 0 }
    }

    /// The entries of `body` from `offset` on, which an earlier [`Entries::offset`] gave.
    pub fn at(body: &'a [u8], offset: usize) -> Self {
        Self { body, offset }
    }

    /// Where the next entry begins.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn read(&mut self) -> Result<Entry<'a>, String> {
        let head = self.body.get(self.offset..self.offset + 5).ok_or("an entry's head is cut off")?;
        let length = u32::from_le_bytes(head[1..].try_into().expect("four bytes")) as usize;
        let start = self.offset + 5;
        let payload = self
            .body
            .get(start..start.saturating_add(length))
            .ok_or_else(|| format!("an entry of {length} bytes reaches past the end"))?;
        let entry = Entry::parse(head[0], payload)?;
        self.offset = start + length;
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.body.len() {
            return None;
        }
        let offset = self.offset;
        Some(self.read().map_err(|what| {
            self.offset = self.body.len();
            EntryError { offset, what }
        }))
    }
}

/// Takes `n` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    bytes.split_off(..n).ok_or_else(|| "an entry is shorter than it says".to_owned())
}

fn json<'a, T: Deserialize<'a>>(what: &str, payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|e| format!("{what}: {e}"))
}

impl<'a> Entry<'a> {
    fn parse(kind: u8, mut payload: &'a [u8]) -> Result<Self, String> {
        match kind {
            EVENTS => {
                let head = take(&mut payload, 14)?;
                Ok(Entry::Events {
                    arrival: i64::from_le_bytes(head[..8].try_into().expect("eight bytes")),
                    preset: u16::from_le_bytes(head[8..10].try_into().expect("two bytes")),
                    count: u32::from_le_bytes(head[10..].try_into().expect("four bytes")),
                    lines: payload,
                })
            }
            PRODUCERS => Self::parse_producers(payload),
            COUNTS => Ok(Entry::Counts(json("counts", payload)?)),
            BARRIER => Ok(Entry::Barrier(json("barrier", payload)?)),
            NOTE => Ok(Entry::Note(json("note", payload)?)),
            OPENING => Ok(Entry::Opening(json("opening", payload)?)),
            IDS => {
                let at = i64::from_le_bytes(take(&mut payload, 8)?.try_into().expect("eight bytes"));
                if !payload.len().is_multiple_of(ID) {
                    return Err("the last event id is cut off".to_owned());
                }
                Ok(Entry::Ids { at, ids: payload })
            }
            other => Err(format!("entry kind {other} is unknown: the log was written by a newer version")),
        }
    }

    fn parse_producers(mut payload: &'a [u8]) -> Result<Self, String> {
        let count = u32::from_le_bytes(take(&mut payload, 4)?.try_into().expect("four bytes"));
        let mut producers = Vec::new();
        for _ in 0..count {
            let length = take(&mut payload, 1)?[0];
            let id = std::str::from_utf8(take(&mut payload, length.into())?).map_err(|e| e.to_string())?;
            let lines = u64::from_le_bytes(take(&mut payload, 8)?.try_into().expect("eight bytes"));
            producers.push((id, lines));
        }
        Ok(Entry::Producers(producers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn barrier() -> Barrier {
        Barrier {
            cut: 3,
            reason: "events".into(),
            at: 5,
            last_sequence: 9,
            flush: None,
            plan: Some(Plan::default()),
            anchor: false,
        }
    }

    #[test]
    fn what_is_built_is_read() {
        let mut builder = BodyBuilder::default();
        builder.events(77, 2, 2, [&b"{\"a\":1}\n"[..], b"{}"].into_iter());
        builder.producers([("api-1", 12)].into_iter());
        builder.counts(&Counts { received: 2, accepted: 2, ..Counts::default() });
        builder.barrier(&barrier());
        builder.note(&Note::Quarantined { name: "x".into(), after_cut: 1, reason: "trap".into() });
        let skip = Skip { name: "x".into(), sequence: 7, reason: "trap".into(), ..Skip::default() };
        builder.note(&Note::Skipped(skip.clone()));
        builder.ids(78, [3, u128::MAX].into_iter());
        let entries: Vec<_> = Entries::new(builder.bytes()).map(Result::unwrap).collect();
        assert!(matches!(entries[0], Entry::Events { arrival: 77, preset: 2, count: 2, lines: b"{\"a\":1}\n{}\n" }));
        assert!(matches!(&entries[1], Entry::Producers(p) if p == &[("api-1", 12)]));
        assert!(matches!(&entries[2], Entry::Counts(c) if c.accepted == 2));
        assert!(matches!(&entries[3], Entry::Barrier(b) if **b == barrier()));
        assert!(matches!(&entries[4], Entry::Note(Note::Quarantined { .. })));
        assert!(matches!(&entries[5], Entry::Note(Note::Skipped(read)) if *read == skip));
        let Entry::Ids { at: 78, ids: bytes } = &entries[6] else { panic!("ids") };
        assert!(ids(bytes).eq([3, u128::MAX]));
    }

    #[test]
    fn entries_are_read_on_from_where_another_stopped() {
        let mut builder = BodyBuilder::default();
        builder.counts(&Counts::default());
        builder.begin(|before| before.truncate(3));
        let control = Control { cut: 7, ..Control::default() };
        builder.opening(&control);
        builder.events(1, 0, 0, [].into_iter());
        builder.barrier(&barrier());
        let mut entries = Entries::new(builder.bytes());
        assert_eq!(entries.offset(), 0);
        assert!(matches!(entries.next(), Some(Ok(Entry::Opening(read))) if *read == control));
        let second = entries.offset();
        assert!(matches!(entries.next(), Some(Ok(Entry::Events { count: 0, lines: b"", .. }))));
        assert_eq!(entries.offset() - second, 5 + 14, "no line, no newline");
        let mut rest = Entries::at(builder.bytes(), entries.offset());
        assert!(matches!(rest.next(), Some(Ok(Entry::Barrier(read))) if *read == barrier()));
        assert!(rest.next().is_none());
        assert_eq!(rest.offset(), builder.bytes().len());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let read = Entries::new(&bytes).take(300).count();
            prop_assert!(read <= bytes.len());
        }

        #[test]
        fn a_cut_off_body_is_noticed(cut in 1usize..60) {
            let mut builder = BodyBuilder::default();
            builder.events(1, 0, 1, [&b"{\"type\":\"x\"}\n"[..]].into_iter());
            builder.producers([("p", 1)].into_iter());
            let whole = builder.bytes();
            prop_assume!(cut < whole.len());
            let first = 5 + 14 + 13;
            let ok = Entries::new(&whole[..cut]).all(|e| e.is_ok());
            prop_assert_eq!(ok, cut == first);
        }
    }
}
