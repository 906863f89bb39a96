//! A disk: files, names and locks, and what happens to the operations on them. The model behind [`crate::MemStorage`], which puts
//! directories and handles on it.

use std::collections::BTreeMap;
use std::io;

use crate::content::PAGE;
use crate::fault::{Fault, Reached, broken};
use crate::inode::{Change, Inode};
use crate::names::{NameChange, Names};
use crate::operation::{Kind, Operation};
use crate::random::Random;

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) names: Names,
    pub(crate) locks: BTreeMap<String, Holders>,
    /// Counted up with every restart: locks of a process that is gone free nothing.
    pub(crate) life: u64,
    pub(crate) capacity: Option<u64>,
    pub(crate) operations: u64,
    /// What was begun, if somebody wants to know.
    pub(crate) trace: Option<Vec<Operation>>,
    pub(crate) faults: BTreeMap<u64, Fault>,
    pub(crate) aims: Vec<Aim>,
    pub(crate) end: End,
    /// Microseconds since 1970 UTC, if somebody sets them; otherwise every operation takes a second.
    pub(crate) now: Option<u64>,
    pub(crate) random: Random,
    pub(crate) reached: Reached,
}

/// Whether operations still work.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    NotYet,
    /// Until the next process.
    Killed,
    /// For good.
    PowerLoss,
}

/// A fault for the n-th operation of a kind on a name.
pub(crate) struct Aim {
    pub(crate) kind: Kind,
    pub(crate) prefix: String,
    /// How many more such operations pass before it.
    pub(crate) passing: u64,
    pub(crate) fault: Fault,
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

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Works,
    /// The power goes off while it runs: everything it changes is pending, and nobody sees it.
    Begun,
    /// It is done, and nobody is told.
    Unheard,
    /// It is not done.
    Fails(Fault),
}

impl Disk {
    /// Counts an operation and says what becomes of it.
    pub(crate) fn begin(&mut self, kind: Kind, name: &str, offset: u64, bytes: u64) -> io::Result<Fate> {
        if self.end != End::NotYet {
            return Err(broken());
        }
        self.operations += 1;
        let number = self.operations;
        let fault = self.faults.remove(&number).or(self.aimed(kind, name));
        if let Some(trace) = &mut self.trace {
            trace.push(Operation { number, kind, name: name.to_owned(), offset, bytes, fault });
        }
        Ok(match fault {
            None => Fate::Works,
            Some(Fault::PowerLoss) => {
                self.end = End::PowerLoss;
                Fate::Begun
            }
            Some(Fault::PowerLossBefore) => {
                self.end = End::PowerLoss;
                Fate::Fails(Fault::PowerLossBefore)
            }
            Some(Fault::Kill) => {
                self.end = End::Killed;
                self.reached.kills += 1;
                if self.random.one_in(2) { Fate::Unheard } else { Fate::Fails(Fault::Kill) }
            }
            Some(fault @ Fault::NoSpace) => {
                self.reached.no_space += 1;
                Fate::Fails(fault)
            }
            Some(fault @ (Fault::Broken | Fault::ShortWrite)) => {
                self.reached.broken += 1;
                Fate::Fails(fault)
            }
        })
    }

    fn aimed(&mut self, kind: Kind, name: &str) -> Option<Fault> {
        let mut met = None;
        for (at, aim) in self.aims.iter_mut().enumerate() {
            if aim.kind != kind || !name.starts_with(&aim.prefix) {
                continue;
            }
            match aim.passing.checked_sub(1) {
                Some(left) => aim.passing = left,
                None => met = met.or(Some(at)),
            }
        }
        met.map(|at| self.aims.remove(at).fault)
    }

    /// For operations that change nothing.
    pub(crate) fn begin_plain(&mut self, kind: Kind, name: &str, offset: u64, bytes: u64) -> io::Result<()> {
        match self.begin(kind, name, offset, bytes)? {
            Fate::Works => Ok(()),
            Fate::Begun | Fate::Unheard => Err(broken()),
            Fate::Fails(fault) => Err(fault.error()),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.unwrap_or(self.operations * 1_000_000)
    }

    pub(crate) fn add_inode(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    pub(crate) fn find(&self, name: &str) -> io::Result<usize> {
        self.names.seen.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub(crate) fn change_names(&mut self, fate: Fate, change: NameChange) -> io::Result<()> {
        match fate {
            Fate::Works | Fate::Unheard => {
                if let NameChange::Move { to, inode, .. } = &change {
                    self.inodes[*inode].name = to.as_str().into();
                }
                self.names.change(change);
                if fate == Fate::Works { Ok(()) } else { Err(broken()) }
            }
            Fate::Begun => {
                self.names.begin(change);
                Err(broken())
            }
            Fate::Fails(fault) => Err(fault.error()),
        }
    }

    /// A change of a file's content.
    pub(crate) fn change(&mut self, inode: usize, fate: Fate, change: Change) -> io::Result<()> {
        let told = match fate {
            Fate::Works => Ok(()),
            Fate::Begun | Fate::Unheard => Err(broken()),
            Fate::Fails(fault) => Err(fault.error()),
        };
        let done = match (fate, change) {
            (Fate::Fails(fault @ (Fault::ShortWrite | Fault::Kill)), Change::Write { offset, bytes }) => {
                self.reached.short_writes += u64::from(fault == Fault::ShortWrite);
                Change::Write { offset, bytes: bytes[..bytes.len() / 2].into() }
            }
            (Fate::Fails(_), _) => return told,
            (_, change) => change,
        };
        self.inodes[inode].modified = self.now();
        match self.fitting(inode, &done) {
            None => self.inodes[inode].change(done),
            Some(fits) => {
                self.reached.no_space += 1;
                if let Change::Write { offset, bytes } = done {
                    self.inodes[inode].change(Change::Write { offset, bytes: bytes[..fits].into() });
                }
                return Err(Fault::NoSpace.error());
            }
        }
        told
    }

    /// How many bytes of a change fit on the disk, if not all do. Lengths take no space: what lies between is a hole.
    fn fitting(&self, inode: usize, change: &Change) -> Option<usize> {
        let free = self.capacity?.saturating_sub(self.space());
        let content = &self.inodes[inode].seen;
        match change {
            Change::Write { offset, bytes } => {
                let missing = |count: usize| content.missing_space(*offset, offset + count as u64);
                if missing(bytes.len()) <= free {
                    return None;
                }
                let ends = (1..).map(|page| (page * PAGE).saturating_sub((*offset % PAGE as u64) as usize));
                let fit = ends.take_while(|&end| end < bytes.len() && missing(end) <= free).last();
                Some(fit.unwrap_or(0))
            }
            Change::Allocate(length) => (content.missing_space(0, *length) > free).then_some(0),
            Change::Length(_) => None,
        }
    }

    /// How many bytes still fit.
    pub(crate) fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.space()))
    }

    /// The space that all files take that have a name.
    fn space(&self) -> u64 {
        self.names.seen.values().map(|&inode| self.inodes[inode].seen.space()).sum()
    }

    /// The disk after a power loss.
    pub(crate) fn crash(&mut self, seed: u64) -> Disk {
        self.end = End::PowerLoss;
        let mut random = Random::new(seed);
        let mut reached = self.reached;
        reached.power_losses += 1;
        let paths = self.names.survivors(&mut random, &mut reached);
        let mut inodes = vec![Inode::default(); self.inodes.len()];
        for (name, &inode) in &paths {
            inodes[inode] = self.inodes[inode].survivor(&mut random, &mut reached);
            inodes[inode].name = name.as_str().into();
        }
        let capacity = self.capacity;
        let (now, trace) = (self.now, self.trace.is_some().then(Vec::new));
        Disk { inodes, names: Names::durable(paths), capacity, now, trace, random, reached, ..Disk::default() }
    }

    /// A disk of its own with the same files, all of them durable.
    pub(crate) fn duplicate(&self) -> Disk {
        let inodes = self.inodes.iter().map(|inode| {
            let modified = inode.modified;
            Inode { modified, ..Inode::durable(&inode.name, inode.seen.clone()) }
        });
        let names = Names::durable(self.names.seen.clone());
        Disk { inodes: inodes.collect(), names, now: self.now, ..Disk::default() }
    }
}
