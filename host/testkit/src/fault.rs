//! What can happen to an operation, and how often it did.

use std::io;

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It fails as on a broken disk (EIO). A failed sync leaves an arbitrary part on the disk and the rest lost, though reads may still
    /// show it.
    Broken,
    /// It fails as on a full disk (ENOSPC); for syncs as above.
    NoSpace,
    /// A write writes its first half and fails; anything else fails as [`Fault::Broken`].
    ShortWrite,
    /// It is begun, and this and everything after it fails: go on with [`crate::MemStorage::crash`].
    PowerLoss,
    /// It is not even begun, and this and everything after it fails: the moment right after the operation before, whose success was told.
    PowerLossBefore,
    /// The process is killed: it is done, or not, or (a write) in part, nobody is told, and everything fails until
    /// [`crate::MemStorage::restart`]. The machine goes on, so reads show all that was written.
    Kill,
}

impl Fault {
    /// Every kind of it.
    pub const ALL: [Fault; 6] =
        [Fault::Broken, Fault::NoSpace, Fault::ShortWrite, Fault::PowerLoss, Fault::PowerLossBefore, Fault::Kill];

    /// What the caller is told.
    pub(crate) fn error(self) -> io::Error {
        match self {
            Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "no space left (injected)"),
            _ => broken(),
        }
    }
}

pub(crate) fn broken() -> io::Error {
    io::Error::other("input/output error (injected)")
}

/// How often each kind of misfortune happened: a test that meets none proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Operations that failed as on a broken disk.
    pub broken: u64,
    /// Operations that failed for lack of space, by a fault or by the capacity.
    pub no_space: u64,
    /// Writes that stopped half way.
    pub short_writes: u64,
    /// Syncs among the failures.
    pub failed_syncs: u64,
    /// Failed syncs after which reads show what the disk holds.
    pub forgotten_writes: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Ends of the process.
    pub kills: u64,
    /// Unsynced changes to files that were kept whole.
    pub kept_changes: u64,
    /// Sectors of unsynced writes that kept their old bytes.
    pub lost_sectors: u64,
    /// Sectors of unsynced writes of which a part was kept.
    pub torn_sectors: u64,
    /// Sectors of unsynced writes that became zeros.
    pub zeroed_sectors: u64,
    /// Sectors of unsynced writes that became bytes nobody wrote.
    pub garbage_sectors: u64,
    /// Changes of a file's length that were lost.
    pub lost_lengths: u64,
    /// Creations, renames and removals that were not synced and kept.
    pub kept_names: u64,
    /// Creations, renames and removals that were lost.
    pub lost_names: u64,
}

impl Reached {
    /// Each count with its name, for reports.
    pub fn counts(&self) -> [(&'static str, u64); 15] {
        [
            ("broken operations", self.broken),
            ("operations without space", self.no_space),
            ("short writes", self.short_writes),
            ("failed syncs", self.failed_syncs),
            ("forgotten writes", self.forgotten_writes),
            ("power losses", self.power_losses),
            ("kills", self.kills),
            ("unsynced changes kept", self.kept_changes),
            ("sectors lost", self.lost_sectors),
            ("sectors torn", self.torn_sectors),
            ("sectors zeroed", self.zeroed_sectors),
            ("sectors of garbage", self.garbage_sectors),
            ("lengths lost", self.lost_lengths),
            ("unsynced names kept", self.kept_names),
            ("names lost", self.lost_names),
        ]
    }

    /// Adds up the counts of several storages.
    pub fn add(&mut self, other: &Reached) {
        self.each(other, |mine, theirs| *mine += theirs);
    }

    /// What happened since `earlier`, of the same storage or the one it came from.
    pub fn since(mut self, earlier: &Reached) -> Reached {
        self.each(earlier, |mine, theirs| *mine -= theirs);
        self
    }

    fn each(&mut self, other: &Reached, change: impl Fn(&mut u64, u64)) {
        change(&mut self.broken, other.broken);
        change(&mut self.no_space, other.no_space);
        change(&mut self.short_writes, other.short_writes);
        change(&mut self.failed_syncs, other.failed_syncs);
        change(&mut self.forgotten_writes, other.forgotten_writes);
        change(&mut self.power_losses, other.power_losses);
        change(&mut self.kills, other.kills);
        change(&mut self.kept_changes, other.kept_changes);
        change(&mut self.lost_sectors, other.lost_sectors);
        change(&mut self.torn_sectors, other.torn_sectors);
        change(&mut self.zeroed_sectors, other.zeroed_sectors);
        change(&mut self.garbage_sectors, other.garbage_sectors);
        change(&mut self.lost_lengths, other.lost_lengths);
        change(&mut self.kept_names, other.kept_names);
        change(&mut self.lost_names, other.lost_names);
    }
}
