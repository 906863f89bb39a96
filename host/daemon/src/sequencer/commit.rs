//! Writing the frame that was filled: a new segment when it needs one, then the log, then acknowledgements and followers. Part of
//! the sequencer; must not know how a frame is filled.

use std::sync::{Arc, PoisonError};

use tally_aggregate::BodyBuilder;
use tally_ingest::{Chunk, Decision, RejectedLine};
use tally_sink::Rejected;
use tally_storage::Storage;
use tally_wal::{AppendError, Appended};

use super::{Published, Sequencer, Settled};
use crate::config::Durability;
use crate::feed::Position;
use crate::parse::DecodedChunk;
use crate::tail::{Item, LiveFrame};

/// Who waits when there is no room for a segment.
const LOG: &str = "the log";

impl<S: Storage> Sequencer<S> {
    /// Opens the next segment when the frame does not fit into this one any more. The opening is the state before the frame.
    fn make_room(&mut self) -> anyhow::Result<Settled> {
        if !self.log.needs_roll(self.body.bytes().len()) {
            return Ok(Settled::Done);
        }
        self.before.producers =
            self.producers.snapshot().into_iter().map(|(id, lines)| (id.to_string(), lines)).collect();
        let mut opening = BodyBuilder::default();
        opening.opening(&self.before);
        for (at, ids) in self.duplicates.window().groups() {
            opening.ids(at, ids);
        }
        if !self.duplicates.window().is_empty() {
            opening.ids(self.duplicates.window().newest(), std::iter::empty());
        }
        let rolled = self.log.roll(opening.bytes());
        let Some(rolled) = self.with_room(rolled)? else { return Ok(Settled::DiskFull) };
        // What this frame decided about its own place has moved behind the opening.
        if let Some(asked) = self.control.asked_anchor.as_mut().filter(|asked| asked.frame == rolled.frame) {
            asked.frame += 1;
        }
        self.tail.publish(LiveFrame { number: rolled.frame, bytes: 64, items: Vec::new() });
        Ok(Settled::Done)
    }

    /// Writes the frame; none where there is no room for it, which only one that is longer than a segment can meet.
    fn append(&mut self) -> anyhow::Result<Option<Appended>> {
        let (bytes, body_at) = self.body.whole();
        let appended = self.log.append_enclosed(self.frame.events, bytes, body_at);
        self.with_room(appended)
    }

    /// Makes sure that the log has room for a frame of so many bytes.
    pub(super) fn reserve_bytes(&mut self, bytes: usize) -> anyhow::Result<Settled> {
        let reserved = self.log.reserve(bytes);
        Ok(if self.with_room(reserved)?.is_some() { Settled::Done } else { Settled::DiskFull })
    }

    /// What the log gave; none where it has no room, which others are told.
    fn with_room<T>(&mut self, tried: Result<T, AppendError>) -> anyhow::Result<Option<T>> {
        match tried {
            Err(error @ AppendError::DiskFull { .. }) => {
                self.progress.room(LOG, Some(&error));
                self.lacks_room = true;
                Ok(None)
            }
            tried => {
                let done = tried.map_err(stopped)?;
                if std::mem::take(&mut self.lacks_room) {
                    self.progress.room(LOG, None);
                }
                Ok(Some(done))
            }
        }
    }

    pub(super) fn commit(&mut self) -> anyhow::Result<Settled> {
        if !self.frame.complete {
            self.complete_body();
        }
        if self.make_room()? == Settled::DiskFull {
            return Ok(Settled::DiskFull);
        }
        let Some(appended) = self.append()? else { return Ok(Settled::DiskFull) };
        // What is saved behind a barrier or without an event must never be ahead of what is durable, nor a record that leaves
        // somebody out.
        let must_last = self.frame.skipped || !self.frame.quarantined.is_empty();
        if must_last || self.frame.items.iter().any(|item| matches!(item, Item::Barrier(_))) {
            self.sync()?;
        } else if let (Durability::Interval(interval), None) = (self.durability, self.sync_at) {
            self.sync_at = self.log.unsynced().then(|| self.clock.elapsed() + interval);
        }
        self.control.frame = appended.frame;
        self.duplicates.remember();
        self.last_frame_at = self.clock.elapsed();
        self.closed_behind = false;
        let frame = std::mem::take(&mut self.frame);
        // Durable. First those who wait for exactly this, then the followers; but whoever has an answer and asks finds
        // in every count what it was answered.
        for (chunks, _) in &frame.jobs {
            self.keep_rejected(chunks);
        }
        let published = self.publish_facts();
        for (id, lines) in &frame.touched {
            self.producers.durable(id, *lines);
        }
        for (chunks, last_sequence) in &frame.jobs {
            self.acknowledge(chunks, *last_sequence);
        }
        for (name, after_cut, reason) in frame.quarantined {
            self.progress.update(|facts| facts.quarantined.insert(name, (after_cut, reason)));
        }
        let bytes = frame.held + frame.items.len() * size_of::<Item>() + 256;
        self.tail.publish(LiveFrame { number: appended.frame, bytes, items: frame.items });
        // Behind the frame: whoever waits for a skip looks it up in the log.
        if self.before.skips != self.control.skips {
            self.progress.update(|facts| facts.skips.clone_from(&self.control.skips));
        }
        for (cut, done) in frame.replies {
            // Whoever asked may have given up waiting.
            let _ = done.send(cut);
        }
        for (cut, done) in frame.activated {
            let position = Position { frame: appended.frame, cut };
            let _ = done.send((position, published.cut_sequence));
        }
        if let Some(before) = frame.let_go {
            self.let_go(before)?;
        }
        Ok(Settled::Done)
    }

    /// What the frame says of all its work together.
    fn complete_body(&mut self) {
        let frame = &mut self.frame;
        if !frame.touched.is_empty() {
            self.body.producers(frame.touched.iter().map(|(id, lines)| (&**id, *lines)));
        }
        if self.control.counts != self.before.counts {
            self.body.counts(&self.control.counts);
        }
        if let Some((at, fresh)) = self.duplicates.to_log(self.clock.elapsed()) {
            self.body.ids(at, fresh.iter().copied());
        }
        frame.complete = true;
    }

    fn keep_rejected(&self, chunks: &[DecodedChunk]) {
        for chunk in chunks {
            let DecodedChunk { chunk: Chunk { stream, first_line, .. }, rejects, .. } = chunk;
            for reject in rejects {
                let bytes = &chunk.bytes()[reject.span.clone()];
                self.rejected.append(&Rejected {
                    time_micros: self.control.arrival,
                    source: stream.source(),
                    line: first_line + u64::from(reject.line),
                    reason: reject.reason.as_str(),
                    detail: &reject.detail,
                    bytes,
                    length: bytes.len() as u64,
                });
            }
        }
    }

    fn acknowledge(&self, chunks: &[DecodedChunk], last_sequence: u64) {
        for chunk in chunks {
            let DecodedChunk { chunk: Chunk { stream, lines, .. }, duplicates, rejects, .. } = chunk;
            let rejected = rejects.iter().map(|reject| RejectedLine {
                line: reject.line,
                reason: reject.reason.as_str(),
                field: reject.field.clone(),
                detail: reject.detail.clone(),
            });
            let rejected: Vec<RejectedLine> = rejected.collect();
            stream.decided(&Decision { lines: *lines, duplicates: *duplicates, last_sequence, rejects: &rejected });
        }
    }

    pub(super) fn publish_facts(&self) -> Arc<Published> {
        let (segments, log_bytes) = self.log.size();
        let published = Arc::new(Published {
            last_sequence: self.control.last_sequence,
            frame: self.control.frame,
            cut: self.control.cut,
            cut_millis: self.cut_millis,
            cut_sequence: self.control.cut_sequence,
            batch_id: self.control.batch_id,
            counts: self.control.counts.clone(),
            arrival: self.control.arrival,
            log_bytes,
            segments,
            open_events: self.policy.open_events(),
            flushes: self.flushes.clone(),
            rejected_lines: self.rejected.counts(),
        });
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published.clone();
        published
    }

    /// Makes everything durable that was written; of use only where not every frame is synced.
    pub(super) fn sync(&mut self) -> anyhow::Result<()> {
        self.sync_at = None;
        self.log.sync().map_err(stopped)
    }

    /// An empty frame behind the last one, so that rot in that one would be noticed.
    pub(super) fn close_behind(&mut self) -> anyhow::Result<Settled> {
        self.sync()?;
        self.body.begin(|bytes| self.log.begin(bytes));
        self.note_before();
        if self.make_room()? == Settled::DiskFull {
            return Ok(Settled::DiskFull);
        }
        let Some(appended) = self.append()? else { return Ok(Settled::DiskFull) };
        self.control.frame = appended.frame;
        self.closed_behind = true;
        self.publish_facts();
        self.tail.publish(LiveFrame { number: appended.frame, bytes: 64, items: Vec::new() });
        Ok(Settled::Done)
    }
}

fn stopped(error: AppendError) -> anyhow::Error {
    anyhow::Error::from(error).context("writing the log; nothing more is acknowledged")
}
