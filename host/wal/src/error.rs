//! What can go wrong with the log, in words that say what was being done, to which file, and what to do about it.

use std::fmt;
use std::io;
use tally_storage::Storage;

/// Bytes of the log that were durable once and are not valid now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The file, with its path where it has one.
    pub file: String,
    /// Byte offset in the file.
    pub offset: u64,
    /// The number of the frame that should be there; 0 when the segment's own header is damaged.
    pub frame: u64,
    /// The first sequence that cannot be read; when the segment's own header is damaged, one that is not after it.
    pub first_sequence: u64,
    /// The last sequence that cannot be read, if what follows tells it.
    pub last_sequence: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log is corrupt: {} at byte {}", self.file, self.offset)?;
        match self.frame {
            0 => write!(f, ", its header, somewhere in ")?,
            frame => write!(f, ", frame {frame}, ")?,
        }
        match self.last_sequence {
            Some(last) if last < self.first_sequence => {
                write!(f, "no events, before sequence {}", self.first_sequence)?
            }
            Some(last) => write!(f, "sequences {} to {last}", self.first_sequence)?,
            None => write!(f, "sequences from {}", self.first_sequence)?,
        }
        write!(
            f,
            ": {}. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it",
            self.what
        )
    }
}

impl std::error::Error for Corruption {}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes this log.
    #[error("another process has the log open ({file} is locked); stop it first")]
    Locked {
        /// The lock file.
        file: String,
    },
    /// Written by a version of this program that this one does not know.
    #[error(
        "{file} has log format version {version}, this program reads versions up to {known}; use the program that wrote it"
    )]
    UnknownVersion {
        /// The segment.
        file: String,
        /// Its version.
        version: u32,
        /// The newest this program reads.
        known: u32,
    },
    /// Damaged in the middle; every file was left as it was.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// An option is out of its range.
    #[error("log option {option}: {problem}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The storage failed.
    #[error("opening the log: could not {doing} {file}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        file: String,
        /// Why not.
        source: io::Error,
    },
}

impl OpenError {
    /// A failure of the storage while `doing` something to the file `name`.
    pub(crate) fn io<S: Storage>(
        storage: &S,
        doing: &'static str,
        name: &str,
    ) -> impl FnOnce(io::Error) -> OpenError + use<S> {
        let file = storage.describe(name);
        move |source| OpenError::Io { doing, file, source }
    }
}

/// Why a frame was not written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Writing or syncing failed. The log takes nothing any more: what the disk holds is unknown until it is opened again.
    #[error("writing the log: could not {doing} {file}; the log stops here, restart once the disk is well")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// An earlier call failed.
    #[error("the log stopped after an earlier failure ({cause}); restart once the disk is well")]
    Poisoned {
        /// The earlier failure.
        cause: String,
    },
    /// No room for a new segment, or for a frame that is longer than one. Nothing was written, the log is as it was, and the call may be repeated.
    #[error("no room for segment {file}; free space on the log's disk")]
    DiskFull {
        /// The segment that was to be, or to be longer.
        file: String,
        /// What the storage said.
        source: io::Error,
    },
    /// The body is over the limit. Nothing was written, the log goes on.
    #[error("a frame of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Length of the body.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame does not fit into the segment: roll first. Nothing was written, the log goes on.
    #[error("the frame does not fit into the open segment; a new one must be opened first")]
    NeedsRoll,
}

/// Why segments were not deleted. The log can go on being written; it stops deleting until it is opened again.
#[derive(Debug, thiserror::Error)]
#[error("deleting old log segments: could not {doing} {file}; it is tried again after a restart")]
pub struct DeleteError {
    /// What was being done.
    pub doing: &'static str,
    /// The file or directory.
    pub file: String,
    /// Why not.
    pub source: io::Error,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The frame was deleted with its segment.
    #[error("frame {frame} is no longer in the log, whose oldest frame is {oldest}")]
    Gone {
        /// The frame asked for.
        frame: u64,
        /// The oldest there is.
        oldest: u64,
    },
    /// The frame was not written yet.
    #[error("frame {frame} is beyond the end of the log, whose next frame is {next}")]
    Beyond {
        /// The frame asked for.
        frame: u64,
        /// The number the next frame will get.
        next: u64,
    },
    /// The log is damaged here.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The storage failed.
    #[error("reading the log: could not {doing} {file}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
}

/// Why a log was not repaired, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It cannot be looked at, is locked, or was written by a later version of this program; nothing was changed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage failed. No bytes are lost: each is where it was or in the quarantine. The same call goes on from here.
    #[error("repairing the log: could not {doing} {file}; no bytes are lost, repair again once the disk is well")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        file: String,
        /// Why not.
        source: io::Error,
    },
}
