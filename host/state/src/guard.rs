//! The one way into redb: what it says becomes an error for people, and so does a panic of it.
//!
//! redb takes pages at their word once they are read, so a damaged file can make it panic (an index out of range, say). To us
//! that is damage like any other, to be named and survived; a transaction that panics is rolled back as one that is dropped.

use std::any::Any;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use redb::Database;

use crate::error::StateError;

/// Why something was given up inside; nothing of it was written.
pub(crate) enum Failed {
    /// redb refused.
    Store(redb::Error),
    /// What is there is damaged.
    Damaged(String),
    /// What was asked of this aggregator makes no sense.
    Refused(String, String),
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Store(error.into())
    }
}

/// Calls redb.
///
/// What a panic leaves half-changed is redb's own, which marks it so and refuses what depends on it; of ours, the closures
/// change nothing that outlives them. Hence the assertion of unwind safety.
pub(crate) fn guarded<T>(path: &Path, doing: &str, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, StateError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(failed)) => Err(error(path, doing, failed)),
        Err(panic) => {
            let what = format!("it was impossible to {doing} ({})", text(&*panic));
            Err(error(path, doing, Failed::Damaged(what)))
        }
    }
}

/// A database that is closed as after a crash, with nothing written, and without a panic.
///
/// What redb writes when it is dropped spares the next opening a walk through the file, and so does what every commit of ours wrote
/// already. Over a damaged file it may panic there, and once more while that unwinds, which would end the process.
pub(crate) struct Quiet(Option<Database>);

impl Quiet {
    pub(crate) fn new(database: Database) -> Quiet {
        Quiet(Some(database))
    }
}

impl Deref for Quiet {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("only dropping takes it")
    }
}

impl DerefMut for Quiet {
    fn deref_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("only dropping takes it")
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let database = self.0.take();
        // redb writes nothing where it is dropped by a panic.
        let closed = AssertUnwindSafe(|| {
            let _database = database;
            resume_unwind(Box::new(()))
        });
        let _: Result<(), _> = catch_unwind(closed);
    }
}

/// Sorts what happened into what a person can do about it.
fn error(path: &Path, doing: &str, failed: Failed) -> StateError {
    let path = path.to_path_buf();
    match failed {
        Failed::Store(redb::Error::DatabaseAlreadyOpen) => StateError::InUse { path },
        Failed::Store(redb::Error::Corrupted(what)) => {
            StateError::Damaged { path, what: format!("it was impossible to {doing} ({what})") }
        }
        Failed::Store(redb::Error::Io(source)) if is_full(&source) => {
            StateError::Full { doing: doing.to_owned(), path, source }
        }
        Failed::Store(source) => StateError::Store { doing: doing.to_owned(), path, source: Box::new(source) },
        Failed::Damaged(what) => StateError::Damaged { path, what },
        Failed::Refused(aggregator, what) => StateError::Refused { aggregator, what },
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_says_becomes_the_error() {
        let message = |work: fn()| {
            let error = guarded(Path::new("state.redb"), "read", || {
                work();
                Ok(())
            });
            error.unwrap_err().to_string()
        };
        let begins = "the state store state.redb is damaged: it was impossible to read";
        for (work, says) in [
            ((|| panic!("page 7")) as fn(), "(page 7);"),
            (|| panic!("page {}", std::hint::black_box(8)), "(page 8);"),
            (|| resume_unwind(Box::new(9)), "(a panic without words);"),
        ] {
            let message = message(work);
            assert!(message.starts_with(&format!("{begins} {says}")), "{message}");
        }
    }
}
