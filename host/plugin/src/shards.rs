//! Several instances that together hold one accumulator: rows are dealt to them, each applies its share on a thread of its
//! own, and they are merged when the accumulator is taken. Whoever applies waits for all of them, so it is one step that ends
//! like a call of one instance. Results do not depend on how many there are: any dealing of rows merges to the same.

use crate::component::Configured;
use crate::deal::Dealer;
use crate::error::CallError;
use crate::instance::{Accumulator, Instance, Refusal};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tally_event::batch::{Batch, Selected};
use tally_event::columns::{Rows, ValuesRef};

/// What a thread needs beside the guest's stack.
const HOST_STACK: usize = 1 << 20;

/// An instance that has grown by more than this gives it up when nothing is in it: linear memory never shrinks.
const GROWN: usize = 4 << 20;

/// See the module. After an error it takes no more calls.
pub struct Shards {
    configured: Configured,
    /// The one that the caller's thread runs; small batches are its alone, and the others are merged into it.
    first: Shard,
    others: Vec<Worker>,
    dealer: Dealer,
    /// Calls that all of them shared.
    shared_calls: u64,
}

/// An instance with its part of the accumulator.
struct Shard {
    instance: Instance,
    open: Accumulator,
    /// Nothing was applied since the accumulator was taken.
    is_empty: bool,
    /// The instance's memory when it was new, in bytes.
    new_bytes: usize,
    /// Rows of the batch that it was dealt, by number.
    share: Vec<u32>,
}

/// A thread, and the shard that it runs.
struct Worker {
    /// None while the thread has it.
    shard: Option<Box<Shard>>,
    work: SyncSender<Work>,
    done: Receiver<Done>,
}

struct Work {
    shard: Box<Shard>,
    batch: Arc<Batch>,
    subscriber: usize,
}

struct Done {
    shard: Box<Shard>,
    refusals: Result<Vec<Refusal>, CallError>,
}

impl Shards {
    /// An empty accumulator in so many instances; in one where the plugin names no shard key.
    pub fn start(configured: &Configured, shards: usize) -> Result<Self, CallError> {
        let shards = configured.shards(shards);
        let first = Shard::start(configured)?;
        let others = (1..shards).map(|nth| Worker::start(configured, nth)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { configured: configured.clone(), first, others, dealer: Dealer::new(shards), shared_calls: 0 })
    }

    /// How many instances there are.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// How many calls the instances shared; the others were the first one's alone.
    pub fn shared_calls(&self) -> u64 {
        self.shared_calls
    }

    /// Applies `rows` of what subscriber `subscriber` gets of the batch, in order but for rows of different shards, and gives
    /// the rows that were refused, counted from `rows.start`, in ascending order.
    ///
    /// # Panics
    ///
    /// If `selected` is not what the subscriber gets, or does not fit the manifest.
    pub fn apply(
        &mut self,
        batch: &Arc<Batch>,
        subscriber: usize,
        selected: &Selected<'_>,
        rows: Range<usize>,
    ) -> Result<Vec<Refusal>, CallError> {
        match self.configured.shard_key {
            Some(key)
                if !self.others.is_empty() && rows.len() >= self.configured.limits().dealt_rows * self.count() =>
            {
                self.shared_calls += 1;
                self.deal(selected, rows.clone(), key);
                self.apply_shares(batch, subscriber, selected, rows.start)
            }
            _ if rows.len() == selected.rows.len() => self.first.apply(&selected.rows),
            _ => self.first.apply(&selected.rows.slice(rows)),
        }
    }

    fn deal(&mut self, selected: &Selected<'_>, rows: Range<usize>, key: usize) {
        let ValuesRef::Text { codes, hashes, .. } = &selected.rows.columns[key].values else {
            panic!("rows are dealt by text");
        };
        let start = rows.start;
        let number = |row: usize| match &selected.numbers {
            Some(numbers) => numbers[start + row],
            None => (start + row) as u32,
        };
        let shares = self.dealer.deal(&codes[rows], hashes, number);
        let others = self.others.iter_mut().map(Worker::shard);
        for (shard, share) in std::iter::once(&mut self.first).chain(others).zip(shares) {
            std::mem::swap(&mut shard.share, share);
        }
    }

    fn apply_shares(
        &mut self,
        batch: &Arc<Batch>,
        subscriber: usize,
        selected: &Selected<'_>,
        start: usize,
    ) -> Result<Vec<Refusal>, CallError> {
        self.others.iter_mut().for_each(|worker| worker.begin(batch, subscriber));
        let mut answers = vec![self.first.apply_share(batch, subscriber)];
        // All of them, whatever the first one says: nobody may be at work when this returns.
        answers.extend(self.others.iter_mut().map(Worker::end));
        let shards = std::iter::once(&self.first).chain(self.others.iter_mut().map(|worker| &*worker.shard()));
        let mut all = Vec::new();
        for (shard, refusals) in shards.zip(answers) {
            all.extend(refusals?.into_iter().map(|Refusal { row, reason }| {
                let number = shard.share[row as usize];
                let place = match &selected.numbers {
                    Some(numbers) => numbers.partition_point(|before| *before < number),
                    None => number as usize,
                };
                Refusal { row: (place - start) as u32, reason }
            }));
        }
        all.sort_unstable_by_key(|refusal| refusal.row);
        Ok(all)
    }

    /// The accumulator as canonical bytes, the same for every number of shards; it is empty afterwards.
    pub fn take(&mut self) -> Result<Vec<u8>, CallError> {
        let Self { configured, first, others, .. } = self;
        for shard in others.iter_mut().map(Worker::shard).filter(|shard| !shard.is_empty) {
            let bytes = shard.take()?;
            let part = first.instance.load(&configured.manifest.state_version, &bytes)?;
            first.instance.merge(&first.open, &part)?;
            first.instance.discard(part)?;
        }
        first.take()
    }

    /// Gives up memory that nothing is in any more; for a moment when there is nothing else to do. The next rows take some anew. Where no
    /// new instance is to be had now, the old one goes on.
    pub fn rest(&mut self) {
        let Self { configured, first, others, .. } = self;
        let shards = std::iter::once(first).chain(others.iter_mut().map(Worker::shard));
        let large = |shard: &&mut Shard| shard.is_empty && shard.instance.memory_bytes() > shard.new_bytes + GROWN;
        for shard in shards.filter(large) {
            if let Ok(new) = Shard::start(configured) {
                *shard = Shard { share: std::mem::take(&mut shard.share), ..new };
            }
        }
    }

    /// Linear memory of all instances, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let others = self.others.iter().filter_map(|worker| worker.shard.as_ref());
        self.first.instance.memory_bytes() + others.map(|shard| shard.instance.memory_bytes()).sum::<usize>()
    }
}

impl Shard {
    fn start(configured: &Configured) -> Result<Self, CallError> {
        let mut instance = configured.instantiate()?;
        let open = instance.create()?;
        let new_bytes = instance.memory_bytes();
        Ok(Self { instance, open, is_empty: true, new_bytes, share: Vec::new() })
    }

    fn apply(&mut self, rows: &Rows<'_>) -> Result<Vec<Refusal>, CallError> {
        self.is_empty &= rows.is_empty();
        self.instance.apply(&self.open, rows)
    }

    fn apply_share(&mut self, batch: &Batch, subscriber: usize) -> Result<Vec<Refusal>, CallError> {
        self.apply(&batch.gathered(subscriber, &self.share))
    }

    fn take(&mut self) -> Result<Vec<u8>, CallError> {
        let bytes = self.instance.save(&self.open)?;
        let fresh = self.instance.create()?;
        self.instance.discard(std::mem::replace(&mut self.open, fresh))?;
        self.is_empty = true;
        Ok(bytes)
    }
}

impl Worker {
    fn start(configured: &Configured, nth: usize) -> Result<Self, CallError> {
        let shard = Some(Box::new(Shard::start(configured)?));
        let (work, to_do) = sync_channel(1);
        let (report, done) = sync_channel(1);
        std::thread::Builder::new()
            .name(format!("shard{nth}-{}", configured.component.description.name))
            .stack_size(configured.limits().stack_bytes + HOST_STACK)
            .spawn(move || run(&to_do, &report))
            .map_err(|error| CallError::Memory { call: "instantiate", reason: format!("no thread: {error}") })?;
        Ok(Self { shard, work, done })
    }

    /// The shard, at rest.
    fn shard(&mut self) -> &mut Shard {
        self.shard.as_mut().expect("no thread has it")
    }

    /// Has the thread apply what the shard was dealt.
    fn begin(&mut self, batch: &Arc<Batch>, subscriber: usize) {
        let shard = self.shard.take().expect("no thread has it");
        let sent = self.work.send(Work { shard, batch: batch.clone(), subscriber });
        assert!(sent.is_ok(), "a shard's thread panicked");
    }

    /// Waits for what [`Worker::begin`] began.
    fn end(&mut self) -> Result<Vec<Refusal>, CallError> {
        let Done { shard, refusals } = self.done.recv().expect("a shard's thread panicked");
        self.shard = Some(shard);
        refusals
    }
}

/// A thread's life: until nobody can send any more.
fn run(work: &Receiver<Work>, done: &SyncSender<Done>) {
    while let Ok(Work { mut shard, batch, subscriber }) = work.recv() {
        let refusals = shard.apply_share(&batch, subscriber);
        drop(batch);
        if done.send(Done { shard, refusals }).is_err() {
            return;
        }
    }
}
