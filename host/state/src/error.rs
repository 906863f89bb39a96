//! What can go wrong in the state store, in words for the person who has to do something about it.

use std::io;
use std::path::PathBuf;

/// Why the state store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process holds the file: a daemon, or a verification.
    #[error("the state store {} is in use by another process; stop the tally that uses this data directory, then try again", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to read, and reading was all that was allowed.
    #[error("there is no state store at {}; check that this is the data directory of a tally daemon that has run", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
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
    /// There is no room on the disk. Nothing was written, and the store can be used as before.
    #[error("cannot {doing} in the state store {}: the disk is full", path.display())]
    Full {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The embedded store refused. After a failed write or sync every later commit fails too: end the process.
    #[error("cannot {doing} in the state store {}; restart tally, and if it fails again look at the disk's space and health", path.display())]
    Store {
        /// What was being done.
        doing: String,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: Box<redb::Error>,
    },
    /// The file was written by another version of Tally.
    #[error("the state store {} has format {found}, this tally knows format {known}; run the version of tally that wrote it", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: u32,
        /// What this crate knows.
        known: u32,
    },
    /// Bytes are not what was written.
    #[error("the state store {} is damaged: {what}; restore the file from a backup, or move it away to rebuild the state from the log as far as the log reaches", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is damaged: names the aggregator and the cuts where they are known.
        what: String,
    },
    /// The caller asked for something that would leave the store inconsistent; nothing was written.
    #[error("refused to save state of aggregator {aggregator:?}: {what}; this is a bug in tally, please report it")]
    Refused {
        /// The aggregator.
        aggregator: String,
        /// What is wrong.
        what: String,
    },
    /// A store opened read-only was asked to change.
    #[error("the state store {} was opened for reading only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
}

impl StateError {
    /// For `map_err`: what was being done, to what.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StateError {
        let path = path.into();
        move |source| StateError::Io { doing, path, source }
    }
}
