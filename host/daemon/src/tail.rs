//! The tail: the most recent durable frames, decoded, shared by everybody who follows the log.
//!
//! The sequencer publishes and never waits; followers keep their own position and ask for the next frame. The tail is
//! only a cache of the log's end, bounded in bytes: who falls behind it reads the log on disk until it has caught up.
//! One lock per frame, on both sides.

use std::collections::VecDeque;
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

#[derive(Debug)]
struct Ring {
    frames: VecDeque<Arc<LiveFrame>>,
    bytes: usize,
    last: u64,
    closed: bool,
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
        let ring = Ring { frames: VecDeque::new(), bytes: 0, last, closed: false };
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
        ring.bytes += frame.bytes;
        ring.frames.push_back(Arc::new(frame));
        while ring.bytes > self.max_bytes && ring.frames.len() > 1 {
            if let Some(oldest) = ring.frames.pop_front() {
                ring.bytes -= oldest.bytes;
            }
        }
        drop(ring);
        self.changed.notify_all();
    }

    /// The frame after `position`, if it is there.
    pub fn after(&self, position: u64) -> Next {
        let ring = self.ring();
        if position < ring.last {
            let oldest = ring.frames.front().map_or(u64::MAX, |frame| frame.number);
            let Some(index) = (position + 1).checked_sub(oldest) else { return Next::Behind };
            let index = usize::try_from(index).expect("the ring fits in memory");
            return Next::Frame(ring.frames[index].clone());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> LiveFrame {
        LiveFrame { number, bytes: 10, items: vec![] }
    }

    #[test]
    fn followers_read_in_order_and_learn_that_they_are_behind() {
        let tail = Tail::new(4, 25);
        for number in 5..=8 {
            tail.publish(frame(number));
        }
        assert!(matches!(tail.after(5), Next::Behind));
        assert!(matches!(tail.after(6), Next::Frame(f) if f.number == 7));
        assert!(matches!(tail.after(7), Next::Frame(f) if f.number == 8));
        tail.close();
        assert!(matches!(tail.after(8), Next::Closed));
    }

    #[test]
    fn a_waiting_follower_is_woken() {
        let tail = Arc::new(Tail::new(0, 100));
        let follower = std::thread::spawn({
            let tail = tail.clone();
            move || {
                tail.wait(0);
                matches!(tail.after(0), Next::Frame(f) if f.number == 1)
            }
        });
        tail.publish(frame(1));
        assert!(follower.join().unwrap());
    }
}
