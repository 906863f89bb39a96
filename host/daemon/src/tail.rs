//! The tail: the most recent durable frames, decoded, shared by everybody who follows the log.
//!
//! The sequencer publishes and never waits; followers keep their own position and ask for the next frame. The tail is
//! only a cache of the log's end, bounded in bytes: who falls behind it reads the log on disk until it has caught up. A frame
//! that everybody who has a [`Seat`] is done with goes at once.
//! Barriers are remembered for longer than events: who wants nothing else may wait at one for as long as a flush takes.
//! One lock per frame, on both sides.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tally_aggregate::Barrier;
use tally_event::batch::Batch;

/// One step of the log, in order.
#[derive(Clone, Debug)]
pub enum Item {
    /// Accepted events: some rows of a decoded batch.
    Events {
        /// The decoded batch.
        batch: Arc<Batch>,
        /// Which of its accepted events, counted from its first.
        rows: Range<u32>,
        /// Arrival time, microseconds since the Unix epoch.
        arrival: i64,
    },
    /// A cut, flush or activation.
    Barrier(Arc<Barrier>),
}

/// A durable frame.
#[derive(Debug)]
pub struct LiveFrame {
    /// Its number.
    pub number: u64,
    /// About how much memory it holds.
    pub bytes: usize,
    /// What happened, in order.
    pub items: Vec<Item>,
}

/// What a follower finds behind its position.
#[derive(Debug)]
pub enum Next {
    /// The next frame.
    Frame(Arc<LiveFrame>),
    /// There is no next frame yet.
    NotYet,
    /// The next frame is no longer here: read the log.
    Behind,
    /// There will be no more frames.
    Closed,
}

/// Barriers that are remembered, about, or those of one frame: each is a kilobyte or two.
const REMEMBERED_BARRIERS: usize = 1024;

#[derive(Debug)]
struct Ring {
    frames: VecDeque<Arc<LiveFrame>>,
    bytes: usize,
    /// The barriers of all frames after `barriers_after`, as frames without events; those without barriers are left out.
    barriers: VecDeque<Arc<LiveFrame>>,
    barriers_after: u64,
    /// How many they are.
    remembered: usize,
    last: u64,
    closed: bool,
    /// The last frame that each seat is done with.
    seats: BTreeMap<u64, u64>,
    next_seat: u64,
}

impl Ring {
    /// Takes out the oldest frames: those that nobody wants any more, and as many as are too many. The caller drops them without the
    /// lock.
    fn make_room(&mut self, max_bytes: usize) -> Vec<Arc<LiveFrame>> {
        let done = self.seats.values().min().copied().unwrap_or(u64::MAX);
        let mut gone = Vec::new();
        while let Some(oldest) = self.frames.front()
            && (oldest.number <= done || (self.bytes > max_bytes && self.frames.len() > 1))
        {
            self.bytes -= oldest.bytes;
            gone.extend(self.frames.pop_front());
        }
        gone
    }

    /// The frame after `position`, if it is there.
    fn after(&self, position: u64) -> Next {
        if position < self.last {
            let oldest = self.frames.front().map_or(u64::MAX, |frame| frame.number);
            let Some(index) = (position + 1).checked_sub(oldest) else { return Next::Behind };
            let index = usize::try_from(index).expect("the ring fits in memory");
            return Next::Frame(self.frames[index].clone());
        }
        if self.closed { Next::Closed } else { Next::NotYet }
    }

    fn remember_barriers(&mut self, frame: &LiveFrame) {
        let items = frame.items.iter().filter(|item| matches!(item, Item::Barrier(_)));
        let items: Vec<Item> = items.cloned().collect();
        if !items.is_empty() {
            self.remembered += items.len();
            self.barriers.push_back(Arc::new(LiveFrame { items, ..*frame }));
        }
        while self.remembered > REMEMBERED_BARRIERS
            && self.barriers.len() > 1
            && let Some(oldest) = self.barriers.pop_front()
        {
            self.remembered -= oldest.items.len();
            self.barriers_after = oldest.number;
        }
    }
}

/// The ring of recent frames.
#[derive(Debug)]
pub struct Tail {
    ring: Mutex<Ring>,
    changed: Condvar,
    max_bytes: usize,
}

impl Tail {
    /// An empty tail of a log whose last durable frame is `last`.
    pub fn new(last: u64, max_bytes: usize) -> Self {
        let ring = Ring {
            frames: VecDeque::new(),
            bytes: 0,
            barriers: VecDeque::new(),
            barriers_after: last,
            remembered: 0,
            last,
            closed: false,
            seats: BTreeMap::new(),
            next_seat: 0,
        };
        Self { ring: Mutex::new(ring), changed: Condvar::new(), max_bytes }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the next frame; the oldest ones make room.
    pub fn publish(&self, frame: LiveFrame) {
        let mut ring = self.ring();
        assert_eq!(frame.number, ring.last + 1, "frames are published in order");
        ring.last = frame.number;
        ring.remember_barriers(&frame);
        ring.bytes += frame.bytes;
        ring.frames.push_back(Arc::new(frame));
        let gone = ring.make_room(self.max_bytes);
        drop(ring);
        drop(gone);
        self.changed.notify_all();
    }

    /// A seat for somebody who wants the frames after `position`.
    pub fn seat(self: &Arc<Self>, position: u64) -> Seat {
        let mut ring = self.ring();
        let number = ring.next_seat;
        ring.next_seat += 1;
        ring.seats.insert(number, position);
        drop(ring);
        Seat { tail: self.clone(), number }
    }

    /// The next frame after `position` that holds a barrier, without its events. If there is none yet, `position` moves to the last frame.
    pub fn barrier_after(&self, position: &mut u64) -> Next {
        let ring = self.ring();
        if *position < ring.barriers_after {
            return Next::Behind;
        }
        let next = ring.barriers.partition_point(|frame| frame.number <= *position);
        if let Some(frame) = ring.barriers.get(next) {
            return Next::Frame(frame.clone());
        }
        *position = ring.last.max(*position);
        if ring.closed { Next::Closed } else { Next::NotYet }
    }

    /// Waits until there is a frame after `position`, or there will be none.
    pub fn wait(&self, position: u64) {
        let waiting = |ring: &mut Ring| position >= ring.last && !ring.closed;
        drop(self.changed.wait_while(self.ring(), waiting).unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the tail: followers get what is there, then [`Next::Closed`].
    pub fn close(&self) {
        self.ring().closed = true;
        self.changed.notify_all();
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.ring().closed
    }

    /// Number of the last durable frame.
    pub fn last(&self) -> u64 {
        self.ring().last
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.ring().bytes
    }
}

/// Keeps the frames that its holder still wants, as far as there is room.
#[derive(Debug)]
pub struct Seat {
    tail: Arc<Tail>,
    number: u64,
}

impl Seat {
    /// The frame after `position`, if it is there. The holder is done with those up to `position`.
    pub fn after(&self, position: u64) -> Next {
        let mut ring = self.tail.ring();
        ring.seats.insert(self.number, position);
        let gone = ring.make_room(self.tail.max_bytes);
        let next = ring.after(position);
        drop(ring);
        drop(gone);
        next
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut ring = self.tail.ring();
        ring.seats.remove(&self.number);
        let gone = ring.make_room(self.tail.max_bytes);
        drop(ring);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> LiveFrame {
        LiveFrame { number, bytes: 10, items: vec![] }
    }

    #[test]
    fn followers_read_in_order_and_learn_that_they_are_behind() {
        let tail = Arc::new(Tail::new(4, 25));
        let (seat, late) = (tail.seat(4), tail.seat(4));
        for number in 5..=8 {
            tail.publish(frame(number));
        }
        assert!(matches!(late.after(5), Next::Behind));
        assert!(matches!(seat.after(6), Next::Frame(f) if f.number == 7));
        assert!(matches!(seat.after(7), Next::Frame(f) if f.number == 8));
        tail.close();
        assert!(matches!(seat.after(8), Next::Closed));
    }

    #[test]
    fn a_frame_goes_when_everybody_is_done_with_it() {
        let tail = Arc::new(Tail::new(0, 1000));
        let (fast, slow) = (tail.seat(0), tail.seat(0));
        for number in 1..=5 {
            tail.publish(frame(number));
        }
        assert!(matches!(fast.after(5), Next::NotYet));
        assert_eq!(tail.bytes(), 50, "the other one wants them all");
        assert!(matches!(slow.after(2), Next::Frame(f) if f.number == 3));
        assert_eq!(tail.bytes(), 30);
        let begins_again = fast;
        assert!(matches!(begins_again.after(1), Next::Behind), "it reads the log");
        assert!(matches!(begins_again.after(3), Next::Frame(f) if f.number == 4));
        drop(slow);
        assert_eq!(tail.bytes(), 20, "who is gone wants nothing");
        drop(begins_again);
        tail.publish(frame(6));
        assert_eq!(tail.bytes(), 0);
        assert!(matches!(tail.seat(5).after(5), Next::Behind));
        assert!(matches!(tail.seat(6).after(6), Next::NotYet));
    }

    #[test]
    fn barriers_outlive_the_frames_they_stand_in() {
        let barrier = |cut| {
            let plan = None;
            let (reason, anchor) = (String::new(), false);
            Item::Barrier(Arc::new(Barrier { cut, reason, at: 0, last_sequence: 0, flush: None, plan, anchor }))
        };
        let tail = Arc::new(Tail::new(4, 10));
        let mut position = 4;
        assert!(matches!(tail.barrier_after(&mut position), Next::NotYet));
        assert!(matches!(tail.barrier_after(&mut 3), Next::Behind));
        for number in 5..=4000 {
            let items = if number % 2 == 0 { vec![barrier(number), barrier(number + 1)] } else { vec![] };
            tail.publish(LiveFrame { number, bytes: 10, items });
            if number == 6 {
                assert!(matches!(tail.seat(4).after(4), Next::Behind));
                assert!(
                    matches!(tail.barrier_after(&mut position), Next::Frame(f) if f.number == 6 && f.items.len() == 2)
                );
            }
        }
        assert!(matches!(tail.barrier_after(&mut position), Next::Behind), "so many are not kept");
        let mut position = 4000 - REMEMBERED_BARRIERS as u64;
        let mut seen = 0;
        while let Next::Frame(frame) = tail.barrier_after(&mut position) {
            assert_eq!(frame.number, position + 2);
            position = frame.number;
            seen += 1;
        }
        assert_eq!((2 * seen, position), (REMEMBERED_BARRIERS, 4000));
        tail.publish(frame(4001));
        assert!(matches!(tail.barrier_after(&mut position), Next::NotYet));
        assert_eq!(position, 4001, "it waits for what comes behind the last frame");
        tail.close();
        assert!(matches!(tail.barrier_after(&mut position), Next::Closed));
    }

    #[test]
    fn a_waiting_follower_is_woken() {
        let tail = Arc::new(Tail::new(0, 100));
        let follower = std::thread::spawn({
            let (tail, seat) = (tail.clone(), tail.seat(0));
            move || {
                tail.wait(0);
                matches!(seat.after(0), Next::Frame(f) if f.number == 1)
            }
        });
        tail.publish(frame(1));
        assert!(follower.join().unwrap());
    }
}
