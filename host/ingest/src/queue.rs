//! The one queue between sources and parsers: chunks within a budget of bytes, and control tokens in their place among them.
//!
//! A source reserves bytes before it pushes; when the budget is used up it waits, and therefore does not read: that is the backpressure. A
//! chunk holds its bytes until it is dropped, so the budget covers everything from the read to the durable frame.
//! Must not know: what a control token means, what is in a chunk.
//!
//! The lock is a plain mutex: producers are async tasks that never hold it across an await, consumers are threads that block on a condition.
//! Waking a thread costs more than to parse a few lines. So there are two kinds of consumers: some wait until there is [`MUCH`] to do; one takes
//! little, when it has nothing else to do, and is not woken while it has.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::framer::Body;
use crate::stream::Stream;

/// Bytes of queued bodies for which it is worth to wake another thread; of a small queue, a quarter.
pub const MUCH: usize = 64 * 1024;

/// What a queued chunk costs beside the memory of its body, in bytes.
pub const CHUNK_OVERHEAD: usize = 256;

/// What a chunk with this body holds of the queue's budget, in bytes.
pub(crate) fn charge(body: &Body) -> usize {
    body.capacity() + CHUNK_OVERHEAD
}

/// Whole lines of one connection, in the order they were sent.
#[derive(Debug)]
pub struct Chunk {
    /// The bytes.
    pub body: Body,
    /// How many lines they are; blank ones count.
    pub lines: u32,
    /// The number of the first of them in its connection, from 1, the handshake not counted.
    pub first_line: u64,
    /// Index of the preset that says how the lines become events.
    pub preset: usize,
    /// The connection.
    pub stream: Arc<Stream>,
    /// The decided line count of the stream's producer once this chunk is durable: what the frame that holds it must record, and what
    /// [`Producers::durable`](crate::Producers::durable) is told afterwards. `None` without a producer.
    pub producer_lines: Option<u64>,
    permit: Permit,
}

impl Chunk {
    /// A chunk of a connection without a producer; sources use [`Stream::admit`].
    pub fn new(body: Body, lines: u32, preset: usize, stream: Arc<Stream>, permit: Permit) -> Self {
        Self { body, lines, first_line: 1, preset, stream, producer_lines: None, permit }
    }

    /// The part of the queue's budget that it holds until it is dropped, in bytes.
    pub fn charge(&self) -> usize {
        self.permit.bytes()
    }
}

/// A part of the queue's budget; given back when dropped.
#[derive(Debug)]
pub struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// Takes `bytes` of it, or what there is.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes());
        Self(self.0.split(bytes).expect("no more than there is"))
    }
}

/// The queue was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is closed: the daemon is stopping")]
pub struct Closed;

/// Why [`Queue::try_reserve`] gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The budget is used up.
    #[error("the queue is full")]
    Full,
    /// The queue was closed.
    #[error("the queue is closed: the daemon is stopping")]
    Closed,
}

/// What [`Queue::pop`] gives.
#[derive(Debug)]
pub enum Popped<C> {
    /// At least one chunk; all of one preset, consecutive.
    Chunks(Vec<Chunk>),
    /// A control token, at its place among the chunks.
    Control(C),
    /// Closed and drained.
    Closed,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Bytes held by chunks that are queued or popped and not yet dropped, and by reservations.
    pub bytes: usize,
    /// Chunks that wait to be popped.
    pub chunks: usize,
    /// Lines in them, blank ones included.
    pub lines: u64,
    /// The budget in bytes.
    pub max_bytes: usize,
}

enum Item<C> {
    Chunk(Chunk),
    Control(C),
}

struct State<C> {
    items: VecDeque<Item<C>>,
    chunks: usize,
    /// Of the bodies that wait to be popped.
    bytes: usize,
    lines: u64,
    closed: bool,
    popped: u64,
    rung: bool,
    /// Who waits on the two conditions.
    wait_for_any: usize,
    wait_for_much: usize,
}

/// See the module. `C` is the control token.
pub struct Queue<C> {
    state: Mutex<State<C>>,
    any: Condvar,
    much: Condvar,
    budget: Arc<Semaphore>,
    max_bytes: usize,
    much_bytes: usize,
}

impl<C: Send> Queue<C> {
    /// An empty queue for `max_bytes` of chunks.
    pub fn new(max_bytes: usize) -> Arc<Self> {
        let max_bytes = max_bytes.clamp(1, Semaphore::MAX_PERMITS);
        let state = State {
            items: VecDeque::new(),
            chunks: 0,
            bytes: 0,
            lines: 0,
            closed: false,
            popped: 0,
            rung: false,
            wait_for_any: 0,
            wait_for_much: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            any: Condvar::new(),
            much: Condvar::new(),
            budget: Arc::new(Semaphore::new(max_bytes)),
            max_bytes,
            much_bytes: MUCH.min(max_bytes / 4).max(1),
        })
    }

    /// Waits until `bytes` are free, in the order of asking. More than the whole budget is cut down to it: one chunk always fits an empty queue.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, Closed> {
        let wanted = u32::try_from(bytes.min(self.max_bytes)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget).acquire_many_owned(wanted).await;
        permit.map(Permit).map_err(|_| Closed)
    }

    /// Reserves like [`reserve`](Self::reserve), but fails instead of waiting.
    pub fn try_reserve(&self, bytes: usize) -> Result<Permit, ReserveError> {
        let wanted = u32::try_from(bytes.min(self.max_bytes)).unwrap_or(u32::MAX);
        Arc::clone(&self.budget).try_acquire_many_owned(wanted).map(Permit).map_err(|error| match error {
            TryAcquireError::Closed => ReserveError::Closed,
            TryAcquireError::NoPermits => ReserveError::Full,
        })
    }

    /// True when a reservation of `bytes` would wait now.
    pub fn would_wait(&self, bytes: usize) -> bool {
        self.budget.available_permits() < bytes.min(self.max_bytes)
    }

    /// Whether it is closed, and everything was popped.
    pub fn is_drained(&self) -> bool {
        let state = self.lock();
        state.closed && state.items.is_empty()
    }

    /// Appends a chunk. False, and the chunk is dropped, when the queue is closed.
    pub fn push(&self, chunk: Chunk) -> bool {
        self.append(Item::Chunk(chunk))
    }

    /// Appends a control token; never waits. False, and the token is dropped, when the queue is closed.
    pub fn push_control(&self, token: C) -> bool {
        self.append(Item::Control(token))
    }

    /// Waits for the next item. Chunks are taken together while their presets are equal and their bodies within `max_bytes`; the first one
    /// is taken whatever its size.
    pub fn pop(&self, max_bytes: usize) -> Popped<C> {
        let mut state = self.lock();
        while state.items.is_empty() && !state.closed {
            state = self.wait_for_any(state, Duration::MAX);
        }
        state.pop(max_bytes).unwrap_or(Popped::Closed)
    }

    /// For those who take much: waits until there is, or the queue is closed.
    pub fn wait_for_much(&self) {
        let mut state = self.lock();
        while state.bytes < self.much_bytes && !state.closed {
            state.wait_for_much += 1;
            state = self.much.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.wait_for_much -= 1;
        }
    }

    /// The next item if there is much to do, with the number of the pop: dense from 1 in queue order, so that several threads can pop
    /// and their work be put back in order. None while there is little.
    ///
    /// # Errors
    /// The queue is closed, and there will never be much.
    pub fn pop_of_much(&self, max_bytes: usize) -> Result<Option<(u64, Popped<C>)>, Closed> {
        let mut state = self.lock();
        match state.bytes >= self.much_bytes {
            true => Ok(state.pop(max_bytes).map(|popped| (state.popped, popped))),
            false if state.closed => Err(Closed),
            false => Ok(None),
        }
    }

    /// For the one who takes little: waits until the next item has this number and there is not much behind it, until somebody
    /// [rings](Self::ring), or for so long.
    pub fn wait_for_little(&self, number: u64, timeout: Duration) {
        let mut state = self.lock();
        if !self.has_little(&state, number) && !state.rung {
            state = self.wait_for_any(state, timeout);
        }
        state.rung = false;
    }

    /// The next item if it has this number and there is not much to do.
    pub fn pop_of_little(&self, number: u64, max_bytes: usize) -> Option<Popped<C>> {
        let mut state = self.lock();
        self.has_little(&state, number).then(|| state.pop(max_bytes))?
    }

    fn has_little(&self, state: &State<C>, number: u64) -> bool {
        !state.items.is_empty() && state.bytes < self.much_bytes && state.popped + 1 == number
    }

    /// Wakes the one who waits for little.
    pub fn ring(&self) {
        let mut state = self.lock();
        state.rung = true;
        let waits = state.wait_for_any > 0;
        drop(state);
        if waits {
            self.any.notify_one();
        }
    }

    fn wait_for_any<'a>(&self, mut state: MutexGuard<'a, State<C>>, timeout: Duration) -> MutexGuard<'a, State<C>> {
        state.wait_for_any += 1;
        let mut state = self.any.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        state.wait_for_any -= 1;
        state
    }

    /// Takes no more chunks or tokens; what is queued can still be popped. Reservations that wait fail.
    pub fn close(&self) {
        self.lock().closed = true;
        self.budget.close();
        self.any.notify_all();
        self.much.notify_all();
    }

    /// How full it is.
    pub fn depth(&self) -> Depth {
        let (chunks, lines) = {
            let state = self.lock();
            (state.chunks, state.lines)
        };
        Depth { bytes: self.max_bytes - self.budget.available_permits(), chunks, lines, max_bytes: self.max_bytes }
    }

    fn append(&self, item: Item<C>) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        if let Item::Chunk(chunk) = &item {
            state.chunks += 1;
            state.lines += u64::from(chunk.lines);
            state.bytes += chunk.body.len();
        }
        state.items.push_back(item);
        let wake = if state.bytes >= self.much_bytes && state.wait_for_much > 0 {
            Some(&self.much)
        } else {
            (state.wait_for_any > 0).then_some(&self.any)
        };
        drop(state);
        if let Some(waiting) = wake {
            waiting.notify_one();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> State<C> {
    /// The next item, if there is one.
    fn pop(&mut self, max_bytes: usize) -> Option<Popped<C>> {
        let popped = match self.items.pop_front()? {
            Item::Control(token) => Popped::Control(token),
            Item::Chunk(first) => Popped::Chunks(self.take_run(first, max_bytes)),
        };
        self.popped += 1;
        Some(popped)
    }

    fn take_run(&mut self, first: Chunk, max_bytes: usize) -> Vec<Chunk> {
        let (preset, mut bytes) = (first.preset, first.body.len());
        let mut run = vec![first];
        while let Some(Item::Chunk(next)) = self.items.front() {
            bytes += next.body.len();
            if next.preset != preset || bytes > max_bytes {
                break;
            }
            if let Some(Item::Chunk(next)) = self.items.pop_front() {
                run.push(next);
            }
        }
        self.chunks -= run.len();
        self.bytes -= run.iter().map(|chunk| chunk.body.len()).sum::<usize>();
        self.lines -= run.iter().map(|chunk| u64::from(chunk.lines)).sum::<u64>();
        run
    }
}

impl<C> fmt::Debug for Queue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}
