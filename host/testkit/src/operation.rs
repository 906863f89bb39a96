//! What storages are asked to do: the names by which tests choose where a fault falls, and read what happened.

use std::fmt;

use crate::fault::Fault;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The names of a directory.
    List,
    /// A new file.
    Create,
    /// A file is opened.
    Open,
    /// A file gets another name.
    Rename,
    /// A file is removed.
    Remove,
    /// The names of a directory become durable: its own, or those of a folder in it.
    SyncDir,
    /// A new folder.
    CreateFolder,
    /// A lock, of either kind.
    Lock,
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
    /// `fdatasync`.
    SyncData,
    /// `fsync`.
    SyncAll,
    /// A file is cut or extended.
    SetLen,
    /// Space is reserved.
    Allocate,
}

/// One operation that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Counted from 1 over the whole life of the disk.
    pub number: u64,
    /// What was asked.
    pub kind: Kind,
    /// The file or folder, by its path on the disk; the old name in a renaming, the present one in what is done to an open file.
    pub name: String,
    /// Where it reads or writes, or the length it asks for.
    pub offset: u64,
    /// How much it reads or writes.
    pub bytes: u64,
    /// What it met.
    pub fault: Option<Fault>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {}: {:?} of {:?}", self.number, self.kind, self.name)?;
        match self.kind {
            Kind::Read | Kind::Write => write!(f, " ({} bytes at {})", self.bytes, self.offset)?,
            Kind::SetLen | Kind::Allocate => write!(f, " (to {} bytes)", self.offset)?,
            _ => {}
        }
        self.fault.map_or(Ok(()), |fault| write!(f, ": {fault:?}"))
    }
}
