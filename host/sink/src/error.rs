//! What can go wrong with output files, in words for the person who has to do something about it.

use std::io;
use std::path::PathBuf;

/// Why an output file could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file lacks what was committed.
    #[error("{} has {found} bytes, but {committed} were committed; put the file back as it was, or move the state store away to start over", path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The committed length.
        committed: u64,
    },
    /// A file that was committed is gone.
    #[error("{} is missing, but {committed} bytes of it were committed; put the file back, or move the state store away to start over", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The committed length.
        committed: u64,
    },
    /// A file does not have a line's end where it was committed.
    #[error("{} was changed: byte {} ends what was committed, and is not the end of a line; put the file back as it was", path.display(), .committed.saturating_sub(1))]
    Changed {
        /// The file.
        path: PathBuf,
        /// The committed length.
        committed: u64,
    },
    /// The bytes are no position that this version knows.
    #[error(
        "the committed position of the analytics files cannot be read ({what}); it was written by another version of tally, or is damaged"
    )]
    Position {
        /// What is wrong with them.
        what: String,
    },
    /// A record is not one line.
    #[error("a record of {length} bytes is empty or has more than one line; this is a bug in tally, please report it")]
    NotOneLine {
        /// Its length.
        length: usize,
    },
    /// An earlier write or sync failed, so nobody knows what is in the file.
    #[error("{} is not written any more, because an earlier write to it failed; restart tally", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
    /// A line is no record.
    #[error("{}, line {line}, from byte {offset} on: not a record: {what}", path.display())]
    NotARecord {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: u64,
        /// The byte at which it begins, from 0.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl SinkError {
    /// There is no room on the disk; nothing else is wrong.
    pub fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// For `map_err`: what was being done, to what.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SinkError {
        let path = path.into();
        move |source| SinkError::Io { doing, path, source }
    }
}
