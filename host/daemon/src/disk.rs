//! The log on disk, one entry at a time: frames read, and what followers want of them decoded. Must not know what was read before, in
//! memory, nor by whom.

use std::sync::Arc;

use anyhow::Context as _;
use tally_aggregate::{Entries, Entry};
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits, Plan, PlanError, Subscriber};
use tally_event::schema::Preset;
use tally_storage::Storage;
use tally_wal::{Reader, View};

use crate::tail::Item;

/// Lines in the log were within the limits of their day; replay must take them whatever the limits are now.
const REPLAY_LIMITS: Limits = Limits { line_bytes: 1 << 30, depth: 128, type_bytes: 1 << 30, event_id_bytes: 1 << 30 };

/// A way through the log on disk.
pub struct Disk<S: Storage> {
    reader: Reader<S>,
    offset: usize,
    sequence: u64,
}

impl<S: Storage> Disk<S> {
    /// Nothing is read yet.
    pub fn new(reader: Reader<S>) -> Self {
        Self { reader, offset: 0, sequence: 0 }
    }

    /// Reads a frame; its first entry is next. False at the end of the log.
    pub fn load(&mut self, number: u64) -> anyhow::Result<bool> {
        if self.reader.position() != number {
            self.reader.seek(number).with_context(|| format!("looking for frame {number} of the log"))?;
        }
        if !self.reader.advance().with_context(|| format!("reading frame {number} of the log"))? {
            return Ok(false);
        }
        let frame = self.frame()?;
        anyhow::ensure!(frame.number == number, "the log gave frame {} for {number}", frame.number);
        (self.offset, self.sequence) = (0, frame.first_sequence);
        Ok(true)
    }

    /// Gives up the memory that it reads into, and what it read last.
    pub fn rest(&mut self) {
        self.reader.rest();
    }

    fn frame(&self) -> anyhow::Result<View<'_>> {
        self.reader.current().context("no frame of the log is read")
    }

    /// The frame that was read and where in its body the next entry is.
    pub fn place(&self) -> Option<(u64, usize)> {
        Some((self.reader.current()?.number, self.offset))
    }

    /// Whether the frame has no further entry.
    pub fn is_at_end(&self) -> bool {
        self.reader.current().is_none_or(|frame| self.offset >= frame.body.len())
    }

    /// Goes on behind the first `count` items of the frame, which were seen already.
    pub fn pass_items(&mut self, count: usize) -> anyhow::Result<()> {
        self.pass(|items, _| items == count)
    }

    /// Goes on where an entry of the frame begins.
    pub fn pass_to(&mut self, offset: usize) -> anyhow::Result<()> {
        self.pass(|_, at| at == offset)
    }

    fn pass(&mut self, is_there: impl Fn(usize, usize) -> bool) -> anyhow::Result<()> {
        let frame = self.frame()?;
        let mut entries = Entries::new(frame.body);
        let (mut items, mut sequence) = (0, frame.first_sequence);
        while !is_there(items, entries.offset()) {
            match entries.next().context("a frame ended early")?? {
                Entry::Events { count, .. } => {
                    sequence += u64::from(count);
                    items += 1;
                }
                Entry::Barrier(_) => items += 1,
                _ => {}
            }
        }
        (self.offset, self.sequence) = (entries.offset(), sequence);
        Ok(())
    }

    /// The frame's next item; none at its end. Without a decoder events are passed over.
    pub fn next(&mut self, mut decoder: Option<&mut Decoder>) -> anyhow::Result<Option<Item>> {
        while !self.is_at_end() {
            if let Some(item) = self.entry(decoder.as_deref_mut())? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    fn entry(&mut self, decoder: Option<&mut Decoder>) -> anyhow::Result<Option<Item>> {
        let View { number, body, .. } = self.reader.current().context("no frame of the log is read")?;
        let mut entries = Entries::at(body, self.offset);
        let entry = entries.next().context("a frame ended early")?;
        let entry = entry.with_context(|| format!("frame {number} of the log"))?;
        self.offset = entries.offset();
        let (arrival, preset, count, lines) = match entry {
            Entry::Events { arrival, preset, count, lines } => (arrival, preset, count, lines),
            Entry::Barrier(barrier) => return Ok(Some(Item::Barrier(Arc::new(*barrier)))),
            _ => return Ok(None),
        };
        let first = self.sequence;
        self.sequence += u64::from(count);
        let Some(decoder) = decoder else { return Ok(None) };
        let pushed = decoder.push(preset.into(), lines, Mode::Replay);
        let mut batch = decoder.finish();
        anyhow::ensure!(
            pushed.accepted == count,
            "frame {number}: {} of {count} events from sequence {first} on no longer decode ({}); \
             the log was written by another decoder version",
            count - pushed.accepted.min(count),
            pushed.rejects.first().map_or_else(String::new, |r| format!("{}: {}", r.reason.as_str(), r.detail)),
        );
        batch.stamp(first, arrival);
        Ok(Some(Item::Events { batch: Arc::new(batch), rows: 0..count, arrival }))
    }
}

/// A decoder of lines that were accepted once.
pub fn decoder(subscribers: Vec<Subscriber>, presets: Vec<Preset>) -> Result<Decoder, PlanError> {
    Ok(Decoder::new(Arc::new(Plan::new(subscribers, presets, REPLAY_LIMITS)?)))
}
