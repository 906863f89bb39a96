//! Catching up together: what followers behind the tail need of the log is read and decoded once, for all of them, by whoever gets
//! there first, and is kept for those behind. Decides nothing: who does not find what it needs reads the log itself, and gets the same.
//! Must not know what followers do with it.
//!
//! Followers who share are *members*: each is somewhere on one stretch of the log, whose decoded pieces are kept in order and bounded in
//! bytes. Where the stretch ends, the next piece is decoded by whoever comes there. If there is no room for it because somebody still needs
//! the oldest piece, that one is waited for, but not for long; then it is left behind, and reads the log itself until it is back on the
//! stretch.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tally_event::decode::Decoder;
use tally_event::plan::Subscriber;
use tally_event::schema::Preset;
use tally_storage::Storage;
use tally_wal::Reader;

use crate::disk::{self, Disk};
use crate::feed::Position;
use crate::tail::Item;

/// For how long a member waits for one who is behind until it charges that to it.
const SLICE: Duration = Duration::from_millis(10);

/// So many slices of waiting are granted to who is behind, and one more for each piece it takes: who saves a large delta is waited for. Who
/// needs longer for half a megabyte of lines is slow by itself, and what it would save by sharing is little to it.
const CREDIT: u32 = 50;

/// What a piece takes besides its batch, about.
const PIECE: usize = 256;

/// Where an entry begins, or a frame ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the frame.
    pub frame: u64,
    /// Byte of its body.
    pub offset: usize,
}

/// Some of the log, decoded.
#[derive(Debug)]
pub struct Piece {
    /// Where it begins.
    from: Place,
    /// Where the piece behind it begins.
    pub next: Place,
    /// What is in it; none where nothing is that a follower wants.
    pub item: Option<Item>,
    bytes: usize,
}

/// What a follower gets.
pub enum Taken {
    /// What begins at its place.
    Piece(Arc<Piece>),
    /// Nothing yet: somebody behind is waited for. The next time it gets something in any case.
    Held,
    /// Nothing: it has to read the log itself.
    Nothing,
}

struct Member {
    id: u64,
    at: Place,
    subscriber: Subscriber,
    /// Slices that others waited for it.
    waited: u32,
}

/// The stretch of the log on which members are.
#[derive(Default)]
struct Stretch {
    /// In log order, without gaps.
    pieces: VecDeque<Arc<Piece>>,
    bytes: usize,
    /// Where the last piece ends.
    end: Place,
    members: Vec<Member>,
    /// Where those begin who are known to come.
    expected: Vec<Place>,
    /// Changes with who the members are and what they want.
    changes: u64,
    last_id: u64,
    waiting: usize,
}

impl Stretch {
    fn find(&self, at: Place) -> Option<Arc<Piece>> {
        let index = self.pieces.partition_point(|piece| piece.from < at);
        self.pieces.get(index).filter(|piece| piece.from == at).cloned()
    }

    /// Whether a member other than `id` is still to take the piece.
    fn is_wanted(&self, piece: &Piece, id: u64) -> bool {
        self.members.iter().any(|member| member.id != id && member.at <= piece.from)
    }

    /// Lets go of pieces until there is room for another. False when the oldest is still wanted, or somebody is expected here; with `force`
    /// it goes all the same, and who wanted it is no member any more.
    fn make_room(&mut self, max_bytes: usize, id: u64, force: bool) -> bool {
        if self.expected.contains(&self.end) {
            if !force {
                return false;
            }
            self.expected.clear();
        }
        while self.bytes >= max_bytes
            && let Some(oldest) = self.pieces.front()
        {
            if self.is_wanted(oldest, id) {
                if !force {
                    return false;
                }
                let left_behind = oldest.next;
                self.members.retain(|member| member.id == id || member.at >= left_behind);
                self.changes += 1;
            }
            self.bytes -= oldest.bytes;
            self.pieces.pop_front();
        }
        true
    }

    fn add(&mut self, piece: Arc<Piece>) {
        assert_eq!(piece.from, self.end, "a stretch has no gaps");
        self.end = piece.next;
        self.bytes += piece.bytes;
        self.pieces.push_back(piece);
    }

    fn remove(&mut self, id: u64) {
        let before = self.members.len();
        self.members.retain(|member| member.id != id);
        if self.members.len() < before {
            self.changes += 1;
        }
        if self.members.is_empty() {
            self.pieces = VecDeque::new();
            self.bytes = 0;
        }
    }

    /// What lines are decoded for. Of two versions of one aggregator the one that came first; the other reads for itself.
    fn subscribers(&self) -> Vec<Subscriber> {
        let mut subscribers: Vec<Subscriber> = Vec::new();
        for Member { subscriber, .. } in &self.members {
            if subscribers.iter().all(|other| other.name != subscriber.name) {
                subscribers.push(subscriber.clone());
            }
        }
        subscribers
    }
}

/// The end of the stretch, where somebody reads and decodes.
struct Front<S: Storage> {
    reader: Reader<S>,
    disk: Option<Disk<S>>,
    decoder: Option<Decoder>,
    /// What the decoder is for: the stretch's changes as of then, and how lines are read.
    decodes: (u64, Vec<Preset>),
}

impl<S: Storage> Front<S> {
    /// Decodes what begins at `at`; none where nobody can do that for all.
    fn piece(
        &mut self,
        at: Place,
        changes: u64,
        subscribers: impl FnOnce() -> Vec<Subscriber>,
        presets: &[Preset],
    ) -> anyhow::Result<Option<Piece>> {
        // Kept only by who comes to the end: a decoder that failed halfway holds lines of its last batch.
        let kept = self.decoder.take().filter(|_| self.decodes.0 == changes && self.decodes.1 == presets);
        let Some(mut decoder) = kept.or_else(|| disk::decoder(subscribers(), presets.to_vec()).ok()) else {
            return Ok(None);
        };
        let disk = self.disk.get_or_insert_with(|| Disk::new(self.reader.clone()));
        if disk.place() != Some((at.frame, at.offset)) {
            let found = disk.load(at.frame)?;
            anyhow::ensure!(found, "frame {} of the log is known as durable but cannot be read", at.frame);
            disk.pass_to(at.offset)?;
        }
        let item = disk.next(Some(&mut decoder))?;
        self.decoder = Some(decoder);
        if self.decodes.0 != changes || self.decodes.1 != presets {
            self.decodes = (changes, presets.to_vec());
        }
        let next = match disk.place() {
            Some((frame, offset)) if !disk.is_at_end() => Place { frame, offset },
            _ => Place { frame: at.frame + 1, offset: 0 },
        };
        let batch = if let Some(Item::Events { batch, .. }) = &item { batch.memory_bytes() } else { 0 };
        Ok(Some(Piece { from: at, next, item, bytes: PIECE + batch }))
    }
}

/// See the module.
pub struct Replay<S: Storage> {
    /// Held while a piece is read and decoded; taken before `stretch`.
    front: Mutex<Front<S>>,
    /// Held for moments.
    stretch: Mutex<Stretch>,
    moved: Condvar,
    max_bytes: usize,
}

impl<S: Storage> Replay<S> {
    /// Nobody catches up yet. At most `max_bytes` are kept, and one piece.
    pub fn new(reader: Reader<S>, max_bytes: usize) -> Self {
        let front = Front { reader, disk: None, decoder: None, decodes: Default::default() };
        Self { front: Mutex::new(front), stretch: Mutex::default(), moved: Condvar::new(), max_bytes }
    }

    /// Somebody will soon begin at `position`: who is there earlier waits a little, so that they begin together.
    pub fn expect(&self, position: Position) {
        let frame = if position.cut > 0 { position.frame + 1 } else { position.frame.max(1) };
        self.stretch().expected.push(Place { frame, offset: 0 });
    }

    fn front(&self) -> MutexGuard<'_, Front<S>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stretch(&self) -> MutexGuard<'_, Stretch> {
        self.stretch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A follower's place among those who catch up.
pub struct Membership<S: Storage> {
    replay: Arc<Replay<S>>,
    id: u64,
    /// Whether it was a member when it last looked.
    joined: bool,
    held: bool,
}

impl<S: Storage> Membership<S> {
    /// Not a member yet.
    pub fn new(replay: Arc<Replay<S>>) -> Self {
        let mut stretch = replay.stretch();
        stretch.last_id += 1;
        let id = stretch.last_id;
        drop(stretch);
        Self { replay, id, joined: false, held: false }
    }

    /// Takes part from the beginning of a frame on, if the stretch reaches there or nobody is on it.
    pub fn join(&mut self, frame: u64, subscriber: &Subscriber) -> bool {
        let at = Place { frame, offset: 0 };
        let mut stretch = self.replay.stretch();
        if stretch.members.is_empty() {
            stretch.end = at;
        }
        if stretch.end != at && stretch.find(at).is_none() {
            return false;
        }
        if stretch.members.iter().all(|member| member.id != self.id) {
            stretch.members.push(Member { id: self.id, at, subscriber: subscriber.clone(), waited: 0 });
            stretch.changes += 1;
        }
        if let Some(index) = stretch.expected.iter().position(|expected| *expected == at) {
            stretch.expected.swap_remove(index);
            self.replay.moved.notify_all();
        }
        self.joined = true;
        true
    }

    /// From here on it wants other columns.
    pub fn become_subscriber(&self, subscriber: &Subscriber) {
        let mut stretch = self.replay.stretch();
        let Some(member) = stretch.members.iter_mut().find(|member| member.id == self.id) else { return };
        if member.subscriber.name != subscriber.name || member.subscriber.manifest != subscriber.manifest {
            member.subscriber = subscriber.clone();
            stretch.changes += 1;
        }
    }

    /// What begins at `at`, where lines are read by these presets.
    pub fn take(&mut self, at: Place, presets: &[Preset]) -> anyhow::Result<Taken> {
        let force = std::mem::take(&mut self.held);
        let mut stretch = self.replay.stretch();
        let Some(member) = stretch.members.iter_mut().find(|member| member.id == self.id) else {
            return Ok(Taken::Nothing);
        };
        member.at = at;
        member.waited = member.waited.saturating_sub(1);
        if stretch.waiting > 0 {
            self.replay.moved.notify_all();
        }
        if let Some(piece) = stretch.find(at) {
            return Ok(Taken::Piece(piece));
        }
        if stretch.end == at && !stretch.make_room(self.replay.max_bytes, self.id, force) {
            self.held = true;
            return Ok(Taken::Held);
        }
        drop(stretch);
        let mut front = self.replay.front();
        // Another one may have done it while this one waited for its turn.
        let stretch = self.replay.stretch();
        if let Some(piece) = stretch.find(at) {
            return Ok(Taken::Piece(piece));
        }
        if stretch.end != at || stretch.members.iter().all(|member| member.id != self.id) {
            return Ok(Taken::Nothing);
        }
        let changes = stretch.changes;
        drop(stretch);
        let subscribers = || self.replay.stretch().subscribers();
        let Some(piece) = front.piece(at, changes, subscribers, presets)? else { return Ok(Taken::Nothing) };
        let piece = Arc::new(piece);
        let mut stretch = self.replay.stretch();
        // Whoever took very long may have been left behind, and the others may be elsewhere.
        if stretch.end == at {
            stretch.add(piece.clone());
        }
        Ok(Taken::Piece(piece))
    }

    /// Whether it was told to wait for others.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Waits until those behind have come closer, or for as long as they are granted.
    pub fn wait(&self) {
        let half = |stretch: &Stretch| {
            stretch.pieces.get(stretch.pieces.len() / 2).map_or_else(Place::default, |piece| piece.from)
        };
        let is_behind = |member: &Member, half: Place| member.id != self.id && member.at <= half;
        let mut stretch = self.replay.stretch();
        stretch.waiting += 1;
        for _ in 0..CREDIT {
            let behind = |stretch: &mut Stretch| {
                let half = half(stretch);
                stretch.members.iter().any(|member| is_behind(member, half)) || stretch.expected.contains(&stretch.end)
            };
            let waited = self.replay.moved.wait_timeout_while(stretch, SLICE, behind);
            let (now, slice) = waited.unwrap_or_else(PoisonError::into_inner);
            stretch = now;
            let half = half(&stretch);
            let mut late = stretch.members.iter_mut().filter(|member| is_behind(member, half));
            let has_credit = |member: &mut Member| {
                member.waited += 1;
                member.waited <= CREDIT
            };
            if !slice.timed_out() || !late.all(has_credit) {
                break;
            }
        }
        stretch.waiting -= 1;
    }

    /// Takes no part for now.
    pub fn leave(&mut self) {
        self.held = false;
        if !std::mem::take(&mut self.joined) {
            return;
        }
        let mut stretch = self.replay.stretch();
        stretch.remove(self.id);
        if stretch.waiting > 0 {
            self.replay.moved.notify_all();
        }
        let was_last = stretch.members.is_empty();
        drop(stretch);
        if was_last {
            let mut front = self.replay.front();
            if self.replay.stretch().members.is_empty() {
                (front.disk, front.decoder) = (None, None);
            }
        }
    }
}

impl<S: Storage> Drop for Membership<S> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
