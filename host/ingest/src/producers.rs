//! Which producers are known, how many of their lines were admitted and are durable, and which connection may still speak for each.
//!
//! A producer is a client that names itself so that it can resume: after any crash it asks how many of its lines are decided and sends on
//! from there. That is exact only if (1) no line of an older connection slips in after the answer, so a newer connection of the same producer
//! *fences* the older one, and (2) the answer covers everything admitted before, so it is given once all of that is durable. The fence
//! check, the count and the enqueueing of a chunk are one step under this registry's lock; that is why it is a lock and not an owner.
//!
//! Bounded: at most `max` producers with admitted lines are remembered, the least recently used is forgotten first. Never forgotten are those
//! with an open connection or with lines not durable yet. Must not know: sockets, the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Why a chunk was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// A newer connection speaks for this producer.
    #[error("a newer connection of the same producer took over")]
    Superseded,
    /// Every remembered producer is in use.
    #[error("as many producers are in use as may be remembered; raise limits.producers or use fewer producer names")]
    TooManyProducers,
    /// The queue is closed.
    #[error("the queue is closed: the daemon is stopping")]
    Closed,
}

/// A newer connection of the same producer took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a newer connection of the same producer took over")]
pub struct Superseded;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    /// Older lines of the producer are not durable yet.
    Waiting,
    /// May admit lines; the producer resumes after this many.
    Granted(u64),
    Superseded,
}

#[derive(Debug)]
struct Owner {
    epoch: u64,
    state: watch::Sender<LeaseState>,
}

#[derive(Debug, Default)]
struct Entry {
    admitted: u64,
    durable: u64,
    owner: Option<Owner>,
    /// Its place in `Registry::order`; none until it has lines.
    used: Option<u64>,
}

impl Entry {
    fn pinned(&self) -> bool {
        self.owner.is_some() || self.durable < self.admitted
    }
}

#[derive(Debug, Default)]
struct Registry {
    entries: HashMap<Arc<str>, Entry>,
    /// Producers with lines, least recently used first.
    order: BTreeMap<u64, Arc<str>>,
    uses: u64,
    epochs: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Producers {
    registry: Mutex<Registry>,
    max: AtomicUsize,
}

impl Producers {
    /// An empty registry that remembers at most `max` producers (at least one).
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { registry: Mutex::default(), max: AtomicUsize::new(max.max(1)) })
    }

    /// From now on at most `max` producers are remembered (at least one); those beyond are forgotten as others come.
    pub fn set_max(&self, max: usize) {
        self.max.store(max.max(1), Relaxed);
    }

    fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Sets decided line counts found in the log, least recently used first; a later count of a producer replaces an earlier one. Only
    /// before connections are served.
    pub fn restore<I, S>(&self, decided: I)
    where
        I: IntoIterator<Item = (S, u64)>,
        S: AsRef<str>,
    {
        let mut registry = self.lock();
        for (id, lines) in decided {
            registry.set_decided(id.as_ref(), lines, self.max());
        }
    }

    /// The durable decided line count of every remembered producer that has one, least recently used first.
    pub fn snapshot(&self) -> Vec<(Arc<str>, u64)> {
        let registry = self.lock();
        let ids = registry.order.values();
        ids.map(|id| (Arc::clone(id), registry.entries[id].durable)).filter(|(_, lines)| *lines > 0).collect()
    }

    /// Records that a frame is durable after which `decided` lines of the producer are decided: the
    /// [`producer_lines`](crate::Chunk::producer_lines) of its last chunk in that frame.
    ///
    /// # Panics
    /// When the count goes backwards or beyond what was admitted: then lines would be counted twice or lost.
    pub fn durable(&self, id: &str, decided: u64) {
        let mut registry = self.lock();
        let Some(entry) = registry.entries.get_mut(id) else {
            return registry.set_decided(id, decided, self.max());
        };
        assert!(
            entry.durable <= decided && decided <= entry.admitted,
            "producer {id}: {decided} lines cannot be durable after {} of {} admitted",
            entry.durable,
            entry.admitted,
        );
        entry.durable = decided;
        entry.grant_if_settled();
        registry.touch(id);
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.lock().order.len()
    }

    /// True when none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a new connection speak for a producer; an older one is superseded at once.
    pub fn open(self: &Arc<Self>, id: &str) -> Lease {
        let mut registry = self.lock();
        registry.epochs += 1;
        let epoch = registry.epochs;
        let (state, watched) = watch::channel(LeaseState::Waiting);
        let id: Arc<str> =
            registry.entries.get_key_value(id).map_or_else(|| Arc::from(id), |(known, _)| Arc::clone(known));
        let entry = registry.entries.entry(Arc::clone(&id)).or_default();
        if let Some(older) = entry.owner.replace(Owner { epoch, state }) {
            older.state.send_replace(LeaseState::Superseded);
        }
        entry.grant_if_settled();
        if entry.used.is_some() {
            registry.touch(&id);
        }
        drop(registry);
        Lease { id, epoch, state: watched, producers: Arc::clone(self) }
    }

    /// Counts `lines` for the lease's producer and enqueues them, or does neither. `enqueue` gets the producer's admitted total including
    /// them and says whether the queue took them; it runs under the registry's lock and must not wait.
    pub fn admit(&self, lease: &Lease, lines: u32, enqueue: impl FnOnce(u64) -> bool) -> Result<(), AdmitError> {
        let mut registry = self.lock();
        let admitted = registry.owned(lease).ok_or(AdmitError::Superseded)?.admitted;
        registry.make_room_for(&lease.id, self.max())?;
        let total = admitted + u64::from(lines);
        if !enqueue(total) {
            return Err(AdmitError::Closed);
        }
        if let Some(entry) = registry.owned(lease) {
            entry.admitted = total;
        }
        registry.touch(&lease.id);
        Ok(())
    }

    fn release(&self, lease: &Lease) {
        let mut registry = self.lock();
        let Some(entry) = registry.owned(lease) else {
            return;
        };
        entry.owner = None;
        if entry.used.is_none() {
            registry.entries.remove(&lease.id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn grant_if_settled(&mut self) {
        if self.durable < self.admitted {
            return;
        }
        if let Some(owner) = &self.owner {
            owner.state.send_if_modified(|state| {
                let waiting = *state == LeaseState::Waiting;
                if waiting {
                    *state = LeaseState::Granted(self.durable);
                }
                waiting
            });
        }
    }
}

impl Registry {
    fn owned(&mut self, lease: &Lease) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&lease.id)?;
        let owns = entry.owner.as_ref().is_some_and(|owner| owner.epoch == lease.epoch);
        owns.then_some(entry)
    }

    fn set_decided(&mut self, id: &str, lines: u64, max: usize) {
        // Without connections nothing is pinned, so there is always room; with some, one entry too many is better than a lost count.
        let _ = self.make_room_for(id, max);
        let entry = self.entries.entry(Arc::from(id)).or_default();
        entry.admitted = lines;
        entry.durable = lines;
        self.touch(id);
    }

    /// Forgets the least recently used producer when `id` is a new one and all places are taken.
    fn make_room_for(&mut self, id: &str, max: usize) -> Result<(), AdmitError> {
        let known = self.entries.get(id).is_some_and(|entry| entry.used.is_some());
        if known || self.order.len() < max {
            return Ok(());
        }
        let forgettable = self.order.iter().find(|(_, id)| !self.entries[*id].pinned());
        let at = forgettable.map(|(at, _)| *at).ok_or(AdmitError::TooManyProducers)?;
        if let Some(id) = self.order.remove(&at) {
            self.entries.remove(&id);
            tracing::debug!(producer = %id, "forgot the least recently used producer");
        }
        Ok(())
    }

    /// Makes it the most recently used.
    fn touch(&mut self, id: &str) {
        self.uses += 1;
        let at = self.uses;
        let Some((id, _)) = self.entries.get_key_value(id) else {
            return;
        };
        let id = Arc::clone(id);
        if let Some(before) = self.entries.get_mut(&id).and_then(|entry| entry.used.replace(at)) {
            self.order.remove(&before);
        }
        self.order.insert(at, id);
    }
}

/// A connection's right to speak for a producer; given up when dropped.
#[derive(Debug)]
pub struct Lease {
    id: Arc<str>,
    epoch: u64,
    state: watch::Receiver<LeaseState>,
    producers: Arc<Producers>,
}

impl Lease {
    /// The producer.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Waits until everything this producer had admitted is durable, and gives how many lines that are.
    pub async fn granted(&self) -> Result<u64, Superseded> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| *state != LeaseState::Waiting).await;
        match state.as_deref() {
            Ok(LeaseState::Granted(lines)) => Ok(*lines),
            _ => Err(Superseded),
        }
    }

    /// Waits until a newer connection takes over.
    pub async fn superseded(&self) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| *state == LeaseState::Superseded).await;
    }

    /// [`Producers::admit`] of its registry.
    pub fn admit(&self, lines: u32, enqueue: impl FnOnce(u64) -> bool) -> Result<(), AdmitError> {
        self.producers.admit(self, lines, enqueue)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.producers.release(self);
    }
}
