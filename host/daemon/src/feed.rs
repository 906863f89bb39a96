//! A follower's way through the log: from the tail while it keeps up, from disk when it fell behind or starts late.
//! Either way the same items come in the same order. Decides nothing and writes nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tally_aggregate::{Barrier, Entries, Entry};
use tally_event::batch::Batch;
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::schema::Preset;
use tally_storage::Storage;
use tally_wal::{Frame, Reader};

use crate::tail::{Item, LiveFrame, Next, Seat, Tail};

/// Lines in the log were within the limits of their day; replay must take them whatever the limits are now.
const REPLAY_LIMITS: Limits = Limits { line_bytes: 1 << 30, depth: 128, type_bytes: 1 << 30, event_id_bytes: 1 << 30 };

/// For how long a follower that had nothing to do lets frames gather: what the freshest answer may cost, at most.
const GATHER: Duration = Duration::from_millis(1);

/// A place between two items: behind barrier `cut`, which stands in frame `frame`. Zeros: before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Number of the frame that holds the cut.
    pub frame: u64,
    /// Number of the cut.
    pub cut: u64,
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// Nothing yet: [`Feed::wait`].
    Nothing,
    /// Accepted events.
    Events {
        /// The decoded batch.
        batch: Arc<Batch>,
        /// The follower's index among the plan's subscribers; none where it only wants barriers.
        subscriber: usize,
        /// Which accepted events of the batch.
        rows: Range<u32>,
        /// Arrival time, microseconds since the Unix epoch.
        arrival: i64,
    },
    /// A barrier.
    Barrier {
        /// The frame that holds it.
        frame: u64,
        /// The barrier.
        barrier: Arc<Barrier>,
    },
    /// The log ends here for good.
    End,
}

#[derive(Debug)]
enum Source {
    Between,
    Live { frame: Arc<LiveFrame>, index: usize },
    Disk { offset: usize, sequence: u64 },
}

enum Fetched {
    Frame,
    Nothing,
    End,
}

/// A follower of the log.
pub struct Feed<S: Storage> {
    tail: Option<Arc<Tail>>,
    /// Its place at the tail, if it wants events.
    seat: Option<Seat>,
    reader: Reader<S>,
    next_frame: u64,
    reader_at: Option<u64>,
    skip_to_cut: Option<u64>,
    source: Source,
    disk: Frame,
    subscriber: Option<Subscriber>,
    presets: Vec<Preset>,
    decoder: Option<Decoder>,
}

impl<S: Storage> Feed<S> {
    /// A follower that starts at `position`. Without `tail` it ends at the durable end of the log; without `subscriber`
    /// it sees barriers only.
    pub fn new(
        tail: Option<Arc<Tail>>,
        reader: Reader<S>,
        position: Position,
        subscriber: Option<Subscriber>,
        presets: Vec<Preset>,
    ) -> Self {
        let mut feed = Self {
            tail,
            seat: None,
            reader,
            next_frame: 1,
            reader_at: None,
            skip_to_cut: None,
            source: Source::Between,
            disk: Frame::default(),
            subscriber,
            presets,
            decoder: None,
        };
        feed.rewind(position);
        feed
    }

    /// Goes back (or on) to `position`.
    pub fn rewind(&mut self, position: Position) {
        self.next_frame = position.frame.max(1);
        self.skip_to_cut = (position.cut > 0).then_some(position.cut);
        self.source = Source::Between;
        self.reader_at = None;
    }

    /// From here on the follower wants other columns, or lines are read differently.
    pub fn become_subscriber(&mut self, subscriber: Option<Subscriber>, presets: Vec<Preset>) {
        self.subscriber = subscriber;
        self.presets = presets;
        self.decoder = None;
    }

    /// Waits until the next step is there, and a little longer, so that a trickle of small frames does not wake every follower for
    /// each of them. Without a tail there is nothing to wait for.
    pub fn wait(&self) {
        if let Some(tail) = &self.tail {
            tail.wait(self.next_frame - 1);
            std::thread::sleep(GATHER);
        }
    }

    /// The next step; never waits.
    pub fn step(&mut self) -> anyhow::Result<Step> {
        loop {
            let step = match &self.source {
                Source::Between => match self.fetch()? {
                    Fetched::Frame => continue,
                    Fetched::Nothing => return Ok(Step::Nothing),
                    Fetched::End => return Ok(Step::End),
                },
                Source::Live { .. } => self.next_live()?,
                Source::Disk { .. } => self.next_disk()?,
            };
            let Some(step) = step else { continue };
            let Some(cut) = self.skip_to_cut else { return Ok(step) };
            if let Step::Barrier { barrier, frame } = &step {
                if barrier.cut == cut {
                    self.skip_to_cut = None;
                } else if barrier.cut > cut {
                    bail!("frame {frame} of the log holds cut {}, but cut {cut} should be there", barrier.cut);
                }
            }
        }
    }

    fn fetch(&mut self) -> anyhow::Result<Fetched> {
        if let Some(tail) = &self.tail {
            let mut position = self.next_frame - 1;
            let next = match self.subscriber {
                Some(_) => self.seat.get_or_insert_with(|| tail.seat(position)).after(position),
                None => tail.barrier_after(&mut position),
            };
            self.next_frame = position + 1;
            match next {
                Next::Frame(frame) => {
                    self.next_frame = frame.number;
                    self.source = Source::Live { frame, index: 0 };
                    self.reader_at = None;
                    return Ok(Fetched::Frame);
                }
                Next::NotYet => {
                    // What was read from the log is not needed again soon, and it is as large as a frame.
                    self.disk = Frame::default();
                    self.reader.rest();
                    return Ok(Fetched::Nothing);
                }
                Next::Closed => return Ok(Fetched::End),
                Next::Behind => {}
            }
        }
        Ok(if self.fetch_from_disk()? { Fetched::Frame } else { Fetched::End })
    }

    fn fetch_from_disk(&mut self) -> anyhow::Result<bool> {
        let wanted = self.next_frame;
        if self.reader_at != Some(wanted) {
            self.reader.seek(wanted).with_context(|| format!("looking for frame {wanted} of the log"))?;
        }
        if !self.reader.next(&mut self.disk).with_context(|| format!("reading frame {wanted} of the log"))? {
            if self.tail.is_some() {
                bail!("frame {wanted} of the log is known as durable but cannot be read");
            }
            return Ok(false);
        }
        anyhow::ensure!(self.disk.number == wanted, "the log gave frame {} for {wanted}", self.disk.number);
        self.reader_at = Some(wanted + 1);
        self.source = Source::Disk { offset: 0, sequence: self.disk.first_sequence };
        Ok(true)
    }

    fn finish_frame(&mut self) {
        self.next_frame += 1;
        self.source = Source::Between;
    }

    fn next_live(&mut self) -> anyhow::Result<Option<Step>> {
        let Source::Live { frame, index } = &mut self.source else { unreachable!("asked while on a live frame") };
        let Some(item) = frame.items.get(*index) else {
            self.finish_frame();
            return Ok(None);
        };
        *index += 1;
        match item {
            Item::Barrier(barrier) => Ok(Some(Step::Barrier { frame: frame.number, barrier: barrier.clone() })),
            Item::Events { .. } if self.skip_to_cut.is_some() => Ok(None),
            Item::Events { batch, rows, arrival } => {
                let Some(wanted) = &self.subscriber else { return Ok(None) };
                let found = batch.plan().subscribers().iter().position(|s| {
                    s.name == wanted.name
                        && (Arc::ptr_eq(&s.manifest, &wanted.manifest) || s.manifest == wanted.manifest)
                });
                if let Some(subscriber) = found {
                    let (batch, rows, arrival) = (batch.clone(), rows.clone(), *arrival);
                    return Ok(Some(Step::Events { batch, subscriber, rows, arrival }));
                }
                // Decoded before this follower was known (it is catching up): take the frame from disk instead.
                let taken = *index - 1;
                self.switch_to_disk(taken)?;
                Ok(None)
            }
        }
    }

    /// Reads the current frame from disk and passes over the `taken` items that were seen already.
    fn switch_to_disk(&mut self, taken: usize) -> anyhow::Result<()> {
        anyhow::ensure!(self.fetch_from_disk()?, "frame {} of the log cannot be read back", self.next_frame);
        let Source::Disk { offset, sequence } = &mut self.source else { unreachable!("just fetched") };
        let mut entries = Entries::new(&self.disk.body);
        let mut seen = 0;
        while seen < taken {
            match entries.next().context("a frame ended early")?? {
                Entry::Events { count, .. } => {
                    *sequence += u64::from(count);
                    seen += 1;
                }
                Entry::Barrier(_) => seen += 1,
                _ => {}
            }
        }
        *offset = entries.offset();
        Ok(())
    }

    fn next_disk(&mut self) -> anyhow::Result<Option<Step>> {
        let Source::Disk { offset, .. } = self.source else { unreachable!("asked while on a frame from disk") };
        if offset >= self.disk.body.len() {
            self.finish_frame();
            return Ok(None);
        }
        let decode = self.subscriber.is_some() && self.skip_to_cut.is_none();
        self.step_disk(decode)
    }

    /// One entry; none where it does not concern the follower.
    fn step_disk(&mut self, decode: bool) -> anyhow::Result<Option<Step>> {
        let Source::Disk { offset, sequence } = &mut self.source else { unreachable!("asked while on disk") };
        let number = self.disk.number;
        let mut entries = Entries::at(&self.disk.body, *offset);
        let entry = entries.next().context("a frame ended early")?;
        let entry = entry.with_context(|| format!("frame {number} of the log"))?;
        *offset = entries.offset();
        match entry {
            Entry::Events { arrival, preset, count, lines } => {
                let first = *sequence;
                *sequence += u64::from(count);
                if !decode {
                    return Ok(None);
                }
                if self.decoder.is_none() {
                    let subscribers = self.subscriber.iter().cloned().collect();
                    let plan = Plan::new(subscribers, self.presets.clone(), REPLAY_LIMITS)?;
                    self.decoder = Some(Decoder::new(Arc::new(plan)));
                }
                let Some(decoder) = &mut self.decoder else { unreachable!("made above") };
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
                Ok(Some(Step::Events { batch: Arc::new(batch), subscriber: 0, rows: 0..count, arrival }))
            }
            Entry::Barrier(barrier) => Ok(Some(Step::Barrier { frame: number, barrier: Arc::new(*barrier) })),
            _ => Ok(None),
        }
    }
}
