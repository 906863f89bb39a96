//! A follower's way through the log: from the tail while it keeps up, from disk when it fell behind or starts late, and there together
//! with others if it can. Either way the same items come in the same order. Decides nothing and writes nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tally_aggregate::Barrier;
use tally_event::batch::Batch;
use tally_event::decode::Decoder;
use tally_event::plan::{Plan, Subscriber};
use tally_event::schema::Preset;
use tally_storage::Storage;
use tally_wal::Reader;

use crate::disk::{self, Disk};
use crate::replay::{Membership, Place, Replay, Taken};
use crate::tail::{Item, LiveFrame, Next, Seat, Tail};

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
    Shared { offset: usize },
    Disk,
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
    /// Its place among those who catch up, if it shares with them.
    membership: Option<Membership<S>>,
    disk: Disk<S>,
    next_frame: u64,
    skip_to_cut: Option<u64>,
    source: Source,
    subscriber: Option<Subscriber>,
    presets: Vec<Preset>,
    decoder: Option<Decoder>,
    /// The newest frame that it fetched was no longer at the tail.
    replays: bool,
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
            membership: None,
            disk: Disk::new(reader),
            next_frame: 1,
            skip_to_cut: None,
            source: Source::Between,
            subscriber,
            presets,
            decoder: None,
            replays: false,
        };
        feed.rewind(position);
        feed
    }

    /// What it reads from disk it shares with others that are on the same stretch of the log.
    #[must_use]
    pub fn together(self, replay: &Arc<Replay<S>>) -> Self {
        Self { membership: Some(Membership::new(replay.clone())), ..self }
    }

    /// Goes back (or on) to `position`.
    pub fn rewind(&mut self, position: Position) {
        self.next_frame = position.frame.max(1);
        self.skip_to_cut = (position.cut > 0).then_some(position.cut);
        self.source = Source::Between;
        self.leave();
    }

    /// From here on the follower wants other columns, or lines are read differently.
    pub fn become_subscriber(&mut self, subscriber: Option<Subscriber>, presets: Vec<Preset>) {
        self.subscriber = subscriber;
        self.presets = presets;
        self.decoder = None;
        if let (Some(membership), Some(subscriber)) = (&self.membership, &self.subscriber) {
            membership.become_subscriber(subscriber);
        }
    }

    /// Waits until the next step is there, and a little longer, so that a trickle of small frames does not wake every follower for
    /// each of them. Without a tail there is nothing to wait for.
    pub fn wait(&self) {
        if let Some(membership) = self.membership.as_ref().filter(|_| self.is_held()) {
            membership.wait();
        } else if let Some(tail) = &self.tail {
            tail.wait(self.next_frame - 1);
            std::thread::sleep(GATHER);
        }
    }

    /// Whether the next step waits for others that share the way, not for the log.
    pub fn is_held(&self) -> bool {
        self.membership.as_ref().is_some_and(Membership::is_held)
    }

    /// Whether what it gave last came from the log on disk, or from others who read it there.
    pub fn replays(&self) -> bool {
        self.replays
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
                Source::Shared { offset } => self.next_shared(*offset)?,
                Source::Disk => self.next_disk()?,
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
            if !matches!(next, Next::Behind) {
                self.leave();
            }
            match next {
                Next::Frame(frame) => {
                    self.disk.rest();
                    self.next_frame = frame.number;
                    self.source = Source::Live { frame, index: 0 };
                    self.replays = false;
                    return Ok(Fetched::Frame);
                }
                Next::NotYet => {
                    // What was read from the log is not needed again soon, and it is as large as a frame.
                    self.disk.rest();
                    return Ok(Fetched::Nothing);
                }
                Next::Closed => return Ok(Fetched::End),
                Next::Behind => {}
            }
        }
        self.replays = true;
        if let (Some(membership), Some(subscriber), None) = (&mut self.membership, &self.subscriber, self.skip_to_cut)
            && membership.join(self.next_frame, subscriber)
        {
            self.source = Source::Shared { offset: 0 };
            return Ok(Fetched::Frame);
        }
        Ok(if self.fetch_from_disk()? { Fetched::Frame } else { Fetched::End })
    }

    fn fetch_from_disk(&mut self) -> anyhow::Result<bool> {
        if !self.disk.load(self.next_frame)? {
            if self.tail.is_some() {
                bail!("frame {} of the log is known as durable but cannot be read", self.next_frame);
            }
            return Ok(false);
        }
        self.source = Source::Disk;
        Ok(true)
    }

    fn leave(&mut self) {
        if let Some(membership) = &mut self.membership {
            membership.leave();
        }
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
                if let Some(subscriber) = index_of(wanted, batch.plan()) {
                    let (batch, rows, arrival) = (batch.clone(), rows.clone(), *arrival);
                    return Ok(Some(Step::Events { batch, subscriber, rows, arrival }));
                }
                // Decoded before this follower was known (it is catching up): take the frame from disk instead.
                let taken = *index - 1;
                self.switch_to_disk()?;
                self.disk.pass_items(taken)?;
                Ok(None)
            }
        }
    }

    fn next_shared(&mut self, offset: usize) -> anyhow::Result<Option<Step>> {
        let Some(membership) = &mut self.membership else { unreachable!("shared by members") };
        let piece = match membership.take(Place { frame: self.next_frame, offset }, &self.presets)? {
            Taken::Piece(piece) => piece,
            Taken::Held => return Ok(Some(Step::Nothing)),
            Taken::Nothing => return self.rest_from_disk(offset),
        };
        let frame = self.next_frame;
        let step = match &piece.item {
            None => None,
            Some(Item::Barrier(barrier)) => Some(Step::Barrier { frame, barrier: barrier.clone() }),
            Some(Item::Events { batch, rows, arrival }) => {
                let wanted = self.subscriber.as_ref().filter(|_| batch.plan().presets() == self.presets);
                let Some(subscriber) = wanted.and_then(|wanted| index_of(wanted, batch.plan())) else {
                    return self.rest_from_disk(offset);
                };
                Some(Step::Events { batch: batch.clone(), subscriber, rows: rows.clone(), arrival: *arrival })
            }
        };
        self.source = Source::Shared { offset: piece.next.offset };
        if piece.next.frame > frame {
            self.finish_frame();
        }
        Ok(step)
    }

    /// What others decoded there is not for this follower, or is gone: takes the rest of the frame from disk.
    fn rest_from_disk(&mut self, offset: usize) -> anyhow::Result<Option<Step>> {
        self.switch_to_disk()?;
        self.disk.pass_to(offset)?;
        Ok(None)
    }

    /// Reads the current frame from disk.
    fn switch_to_disk(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.fetch_from_disk()?, "frame {} of the log cannot be read back", self.next_frame);
        Ok(())
    }

    fn next_disk(&mut self) -> anyhow::Result<Option<Step>> {
        let mut decoder = None;
        if let (Some(subscriber), None) = (&self.subscriber, self.skip_to_cut) {
            if self.decoder.is_none() {
                self.decoder = Some(disk::decoder(vec![subscriber.clone()], self.presets.clone())?);
            }
            decoder = self.decoder.as_mut();
        }
        match self.disk.next(decoder)? {
            Some(Item::Events { batch, rows, arrival }) => {
                Ok(Some(Step::Events { batch, subscriber: 0, rows, arrival }))
            }
            Some(Item::Barrier(barrier)) => Ok(Some(Step::Barrier { frame: self.next_frame, barrier })),
            None => {
                self.finish_frame();
                Ok(None)
            }
        }
    }
}

/// Whom a plan decodes for this subscriber.
fn index_of(wanted: &Subscriber, plan: &Plan) -> Option<usize> {
    let is_wanted = |s: &Subscriber| {
        s.name == wanted.name && (Arc::ptr_eq(&s.manifest, &wanted.manifest) || s.manifest == wanted.manifest)
    };
    plan.subscribers().iter().position(is_wanted)
}
