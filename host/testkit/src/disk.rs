//! What a disk keeps of the changes made to it: the model behind [`crate::MemStorage`], in which nothing knows of locks or handles.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::operation::{Kind, Operation};

const SECTOR: u64 = 512;

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails as on a broken disk (EIO). A failed sync leaves an arbitrary part on the disk and the rest lost, though reads still show it.
    Broken,
    /// It fails as on a full disk (ENOSPC); for syncs as above.
    NoSpace,
    /// A write writes its first half and fails; anything else fails as [`Fault::Broken`].
    ShortWrite,
    /// It is begun, and this and everything after it fails: go on with [`crate::MemStorage::crash`].
    PowerLoss,
}

/// How often each kind of misfortune happened: a test that meets none proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Operations that failed as on a broken disk.
    pub broken: u64,
    /// Operations that failed for lack of space.
    pub no_space: u64,
    /// Writes that stopped half way.
    pub short_writes: u64,
    /// Syncs among the failures.
    pub failed_syncs: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Sectors of unsynced writes that kept their old bytes.
    pub lost_sectors: u64,
    /// Sectors of unsynced writes of which a part was kept.
    pub torn_sectors: u64,
    /// Creations, renames and removals that were lost.
    pub lost_names: u64,
}

impl Reached {
    /// Adds up the counts of several storages.
    pub fn add(&mut self, other: &Reached) {
        self.broken += other.broken;
        self.no_space += other.no_space;
        self.short_writes += other.short_writes;
        self.failed_syncs += other.failed_syncs;
        self.power_losses += other.power_losses;
        self.lost_sectors += other.lost_sectors;
        self.torn_sectors += other.torn_sectors;
        self.lost_names += other.lost_names;
    }
}

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) names: BTreeMap<String, usize>,
    pub(crate) durable_names: BTreeMap<String, usize>,
    pub(crate) pending_names: Vec<NameChange>,
    pub(crate) locks: BTreeMap<String, Holders>,
    pub(crate) capacity: Option<u64>,
    pub(crate) operations: u64,
    /// What was begun, if somebody wants to know.
    pub(crate) trace: Option<Vec<Operation>>,
    pub(crate) faults: BTreeMap<u64, Fault>,
    pub(crate) dead: bool,
    pub(crate) random: Random,
    pub(crate) reached: Reached,
}

/// Who holds a lock.
#[derive(Clone, Copy)]
pub(crate) enum Holders {
    Shared(u64),
    Exclusive,
}

impl Default for Holders {
    fn default() -> Holders {
        Holders::Shared(0)
    }
}

#[derive(Clone, Default)]
pub(crate) struct Inode {
    /// The last name it was given, for traces.
    pub(crate) name: Arc<str>,
    /// What reads show.
    pub(crate) seen: Vec<u8>,
    /// What a power loss leaves for certain.
    pub(crate) durable: Vec<u8>,
    pub(crate) pending: Vec<Change>,
    /// Number of the operation that last wrote to it.
    pub(crate) written: u64,
}

#[derive(Clone)]
pub(crate) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

pub(crate) enum NameChange {
    Set { name: String, inode: usize },
    Move { from: String, to: String, inode: usize },
    Unset { name: String },
}

/// What an operation has to do about its fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Works,
    Fails(Fault),
}

impl Disk {
    /// Counts an operation and says what becomes of it.
    pub(crate) fn begin(&mut self, kind: Kind, name: &str, offset: u64, bytes: u64) -> io::Result<Fate> {
        if self.dead {
            return Err(broken());
        }
        self.operations += 1;
        let number = self.operations;
        if let Some(trace) = &mut self.trace {
            trace.push(Operation { number, kind, name: name.to_owned(), offset, bytes });
        }
        let Some(fault) = self.faults.remove(&self.operations) else {
            return Ok(Fate::Works);
        };
        match fault {
            Fault::Broken | Fault::ShortWrite => self.reached.broken += 1,
            Fault::NoSpace => self.reached.no_space += 1,
            Fault::PowerLoss => self.dead = true,
        }
        Ok(Fate::Fails(fault))
    }

    /// For operations that change nothing when they fail.
    pub(crate) fn begin_plain(&mut self, kind: Kind, name: &str, offset: u64, bytes: u64) -> io::Result<()> {
        match self.begin(kind, name, offset, bytes)? {
            Fate::Works => Ok(()),
            Fate::Fails(fault) => Err(fault.error()),
        }
    }

    pub(crate) fn add_inode(&mut self, name: &str) -> usize {
        self.inodes.push(Inode { name: name.into(), ..Inode::default() });
        self.inodes.len() - 1
    }

    pub(crate) fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// A change of names: done and pending, or failed and, in a power loss, pending all the same.
    pub(crate) fn change_names(&mut self, fate: Fate, change: NameChange) -> io::Result<()> {
        match fate {
            Fate::Works => {
                change.apply(&mut self.names);
                if let NameChange::Move { to, inode, .. } = &change {
                    self.inodes[*inode].name = to.as_str().into();
                }
                self.pending_names.push(change);
                Ok(())
            }
            Fate::Fails(fault) => {
                if fault == Fault::PowerLoss {
                    self.pending_names.push(change);
                }
                Err(fault.error())
            }
        }
    }

    /// Makes the pending changes of names durable that touch one `concerned`, in their order, and leaves the others pending.
    pub(crate) fn settle_names(&mut self, concerned: impl Fn(&str) -> bool) {
        for change in std::mem::take(&mut self.pending_names) {
            if change.names().any(&concerned) {
                change.apply(&mut self.durable_names);
            } else {
                self.pending_names.push(change);
            }
        }
    }

    pub(crate) fn surviving_names(&self, random: &mut Random, reached: &mut Reached) -> BTreeMap<String, usize> {
        let mut names = self.durable_names.clone();
        for change in &self.pending_names {
            if random.below(2) == 0 {
                change.apply(&mut names);
            } else {
                reached.lost_names += 1;
            }
        }
        names
    }

    pub(crate) fn check_space(&self, inode: usize, length: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else {
            return Ok(());
        };
        let others: u64 = self
            .names
            .values()
            .filter(|&&other| other != inode)
            .map(|&other| self.inodes[other].seen.len() as u64)
            .sum();
        let grows = length > self.inodes[inode].seen.len() as u64;
        if grows && others + length > capacity { Err(Fault::NoSpace.error()) } else { Ok(()) }
    }
}

impl NameChange {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            NameChange::Move { from, to, .. } => (from, Some(to)),
            NameChange::Set { name, .. } | NameChange::Unset { name } => (name, None),
        };
        std::iter::once(one).chain(other).map(String::as_str)
    }

    pub(crate) fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Set { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Move { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameChange::Unset { name } => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        place(&mut self.seen, offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    /// What an earlier failed sync lost stays lost: its pages count as clean.
    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Length(length) => self.durable.resize(length as usize, 0),
                Change::Write { offset, bytes } => place(&mut self.durable, offset, &bytes),
            }
        }
    }

    /// The file after a power loss.
    pub(crate) fn survivor(&self, random: &mut Random, reached: &mut Reached) -> Inode {
        let mut inode = self.clone();
        inode.settle(random, reached);
        inode.seen.clone_from(&inode.durable);
        inode
    }

    /// Lets an arbitrary part of what is pending reach the disk; the rest never will.
    pub(crate) fn settle(&mut self, random: &mut Random, reached: &mut Reached) {
        // All, nothing, or piece by piece: the extremes are frequent in life and rare by chance.
        let mood = random.below(4);
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Length(length) if mood == 0 || (mood > 1 && random.below(2) == 0) => {
                    self.durable.resize(length as usize, 0)
                }
                Change::Length(_) => {}
                Change::Write { offset, bytes } => self.settle_write(mood, offset, &bytes, random, reached),
            }
        }
    }

    pub(crate) fn settle_write(
        &mut self,
        mood: u64,
        offset: u64,
        bytes: &[u8],
        random: &mut Random,
        reached: &mut Reached,
    ) {
        let mut at = 0;
        while at < bytes.len() {
            let start = offset + at as u64;
            let in_sector = (SECTOR - start % SECTOR) as usize;
            let piece = &bytes[at..bytes.len().min(at + in_sector)];
            at += piece.len();
            let choice = match mood {
                0 => 0,
                1 => 2,
                _ => random.below(4),
            };
            match choice {
                0 => place(&mut self.durable, start, piece),
                1 => {
                    reached.torn_sectors += 1;
                    // Up to some byte, or any bytes at all: no disk is as bad, and nothing may rely on that.
                    if random.below(2) == 0 {
                        let kept = random.below(piece.len() as u64 + 1) as usize;
                        place(&mut self.durable, start, &piece[..kept]);
                    } else {
                        for (at, byte) in piece.iter().enumerate().filter(|_| random.below(2) == 0) {
                            place(&mut self.durable, start + at as u64, &[*byte]);
                        }
                    }
                }
                2 => reached.lost_sectors += 1,
                // The file may have grown without its bytes having arrived.
                _ => {
                    reached.lost_sectors += 1;
                    let grown = start as usize + piece.len();
                    if start as usize >= self.durable.len() {
                        self.durable.resize(grown, 0);
                    }
                }
            }
        }
    }
}

pub(crate) fn place(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let start = offset as usize;
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

impl Fault {
    pub(crate) fn error(self) -> io::Error {
        match self {
            Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "no space left (injected)"),
            Fault::Broken | Fault::ShortWrite | Fault::PowerLoss => broken(),
        }
    }
}

pub(crate) fn broken() -> io::Error {
    io::Error::other("input/output error (injected)")
}

/// A small generator (SplitMix64), so that a seed decides everything.
#[derive(Clone, Default)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
