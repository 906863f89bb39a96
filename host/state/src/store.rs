//! The store itself: opening, committing, checking. Reading is in `snapshot`, what a commit changes in `commit`.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, StorageBackend, WriteTransaction};
use tally_storage::{Storage, StorageFile};

use crate::FORMAT;
use crate::backend::Backend;
use crate::commit::{self, Commit};
use crate::create::{create, format_of, initialise};
use crate::dead_letters::{self, DeadLetter};
use crate::error::StateError;
use crate::guard::{Failed, Quiet, guarded};
use crate::overlay::Overlay;
use crate::run::{RunInfo, Saved};
use crate::snapshot::Snapshot;

/// The store's file in the data directory.
pub const FILE_NAME: &str = "state.redb";
/// What redb may keep in memory, of what it read and of what a commit has changed so far. A run is read once, at a start or to be merged,
/// so a large cache would only hold what nobody asks for; of a commit that is larger, pages are written before its end.
const CACHE_BYTES: usize = 4 << 20;

/// The state store. Shared by reference: any thread may read, one at a time commits, the others wait for it.
///
/// After a failed write redb takes nothing any more until it is opened anew. Where the failure was a full disk that is done
/// here: nothing of the commit is there then, and it can be tried again once there is room.
pub struct Store {
    // Read by whoever begins a transaction; written only to open it anew. None when that failed, too.
    database: RwLock<Option<Quiet>>,
    // One commit at a time: what is opened anew must not be in use by another. Counts how often a full disk closed the database.
    committing: Mutex<u64>,
    open: Box<Open>,
    path: Arc<Path>,
    read_only: bool,
}

/// Opens the database, whose lock is held already.
type Open = dyn Fn() -> Result<Database, Failed> + Send + Sync;

impl Store {
    /// The database itself, for tests that damage it.
    #[cfg(test)]
    pub(crate) fn begin_write(&self) -> WriteTransaction {
        self.with_database(|database| Ok(database.begin_write().expect("nobody else writes"))).expect("it is open")
    }

    /// Opens the store of this data directory, creating it when it is not there.
    ///
    /// Holds a lock on the file until dropped. Every page in use is compared with its checksum first, which reads the file once; a damaged
    /// one is refused and left as it is.
    pub fn open<S: Storage>(data: &S) -> Result<Store, StateError> {
        let path = path(data, FILE_NAME);
        let file = match data.open(FILE_NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(data)?;
                data.open(FILE_NAME)
            }
            opened => opened,
        };
        let file = file.map_err(StateError::io("open", &path))?;
        let lock = data.lock(FILE_NAME).map_err(StateError::io("lock", &path))?;
        let lock = lock.ok_or_else(|| StateError::InUse { path: path.clone() })?;
        // redb would make a new store of it, and nobody would hear that the old one is lost.
        if file.is_empty().map_err(StateError::io("look at", &path))? {
            return Err(StateError::Damaged { path, what: "it is empty".into() });
        }
        // A process that ended right after giving the file its name left the name to the mercy of the next power loss.
        data.sync_dir().map_err(StateError::io("sync the directory", self::path(data, "")))?;
        // The lock is held: what is looked at here is what is opened then.
        let looked_at = data.open(FILE_NAME).map_err(StateError::io("open", &path))?;
        let overlay = Overlay::new(Backend::new(looked_at, Arc::new(()))).map_err(StateError::io("look at", &path))?;
        Store::opened(&path, true, once(overlay))?.check_before_use()?;
        let (data, lock) = (data.clone(), Arc::new(lock));
        let open = move || {
            let file = data.open(FILE_NAME).map_err(redb::Error::Io)?;
            Ok(builder().create_with_backend(Backend::new(file, lock.clone()))?)
        };
        Store::opened(&path, false, Box::new(open))
    }

    /// Opens the store of this data directory to look at it, and changes nothing, not even after a crash.
    ///
    /// A running daemon keeps others out, since its file changes under a reader: stop it first, or look at a copy of the
    /// data directory that was made while it stood still. Commits are refused.
    pub fn open_read_only<S: Storage>(data: &S) -> Result<Store, StateError> {
        let path = path(data, FILE_NAME);
        let file = data.open(FILE_NAME).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StateError::Missing { path: path.clone() },
            _ => StateError::Io { doing: "open", path: path.clone(), source },
        })?;
        let lock = data.lock_shared(FILE_NAME).map_err(StateError::io("lock", &path))?;
        let lock = lock.ok_or_else(|| StateError::InUse { path: path.clone() })?;
        let overlay = Overlay::new(Backend::new(file, Arc::new(lock))).map_err(StateError::io("look at", &path))?;
        Store::opened(&path, true, once(overlay))
    }

    /// A store that lives as long as this value: scratch space for verification, and tests.
    pub fn open_in_memory() -> Result<Store, StateError> {
        let open = || {
            let database = builder().create_with_backend(InMemoryBackend::new())?;
            initialise(&database)?;
            Ok(database)
        };
        Store::opened(Path::new("(in memory)"), false, Box::new(open))
    }

    fn opened(path: &Path, read_only: bool, open: Box<Open>) -> Result<Store, StateError> {
        let (database, format) = guarded(path, "open", || {
            let database = Quiet::new(open()?);
            let format = format_of(&database)?;
            let format = format.ok_or_else(|| Failed::Damaged("it does not say which format it has".into()))?;
            Ok((database, format))
        })?;
        if format != FORMAT {
            return Err(StateError::UnknownFormat { path: path.into(), found: format, known: FORMAT });
        }
        let (database, committing) = (RwLock::new(Some(database)), Mutex::default());
        Ok(Store { database, committing, open, path: path.into(), read_only })
    }

    /// The store's file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This moment of the store, unaffected by later commits: several answers that fit each other.
    pub fn snapshot(&self) -> Result<Snapshot, StateError> {
        let begun = self.with_database(|database| guarded(&self.path, "begin to read", || Ok(database.begin_read()?)));
        begun.map(|transaction| Snapshot::new(transaction, self.path.clone()))
    }

    /// Reads at one moment. A commit that meets a full disk takes the database away from readers as well: they read again.
    pub fn read<T>(&self, work: impl Fn(&Snapshot) -> Result<T, StateError>) -> Result<T, StateError> {
        let closed = || *self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = self.snapshot().and_then(|snapshot| work(&snapshot));
        let mut before = None;
        let is_closed = |source: &redb::Error| matches!(source, redb::Error::PreviousIo | redb::Error::DatabaseClosed);
        while matches!(&result, Err(StateError::Store { source, .. }) if is_closed(source)) {
            // Whoever commits has made up its mind by now.
            let now = closed();
            if before == Some(now) {
                break;
            }
            before = Some(now);
            result = self.snapshot().and_then(|snapshot| work(&snapshot));
        }
        result
    }

    /// The names of all aggregators that have saved state, in byte order.
    pub fn aggregators(&self) -> Result<Vec<String>, StateError> {
        self.read(Snapshot::aggregators)
    }

    /// What is saved of an aggregator; `None` when it never saved anything.
    pub fn load(&self, name: &str) -> Result<Option<Saved>, StateError> {
        self.read(|snapshot| snapshot.load(name))
    }

    /// The bytes of a run, checked against its hash.
    pub fn run(&self, name: &str, run: &RunInfo) -> Result<Vec<u8>, StateError> {
        self.read(|snapshot| snapshot.run(name, run))
    }

    /// The report of one aggregator that waits for the record of this cut.
    pub fn pending(&self, cut_frame: u64, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.read(|snapshot| snapshot.pending(cut_frame, name))
    }

    /// All reports that wait for the record of this cut, by name in byte order.
    pub fn pendings(&self, cut_frame: u64) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        self.read(|snapshot| snapshot.pendings(cut_frame))
    }

    /// The cuts that reports wait for, ascending.
    pub fn pending_cuts(&self) -> Result<Vec<u64>, StateError> {
        self.read(Snapshot::pending_cuts)
    }

    /// How far the analytics files are committed, as it was last given to [`Store::commit_records`].
    pub fn records_position(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.read(Snapshot::records_position)
    }

    /// Saves one aggregator's changes; durable when this returns, untouched when it fails.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<(), StateError> {
        self.commit_all(std::slice::from_ref(commit))
    }

    /// Saves the changes of several aggregators in one transaction: all or none, at the price of one commit.
    pub fn commit_all(&self, commits: &[Commit<'_>]) -> Result<(), StateError> {
        let doing = match commits {
            [commit] => format!("save the state of aggregator {:?}", commit.name),
            _ => format!("save the state of {} aggregators", commits.len()),
        };
        self.write(&doing, |transaction| commits.iter().try_for_each(|commit| commit::apply(transaction, commit)))
    }

    /// Forgets an aggregator's description, runs and dead letters; says whether there was anything.
    ///
    /// Reports that wait for a record stay: they were true when they were made, and the record needs them.
    pub fn remove(&self, name: &str) -> Result<bool, StateError> {
        let doing = format!("remove the state of aggregator {name:?}");
        self.write(&doing, |transaction| commit::remove(transaction, name))
    }

    /// Moves the position of the analytics files, and drops all reports of cuts up to and including `done_cut_frame`:
    /// one transaction, durable when this returns.
    pub fn commit_records(&self, position: &[u8], done_cut_frame: u64) -> Result<(), StateError> {
        self.write("save the position of the analytics files", |transaction| {
            commit::records(transaction, position, done_cut_frame)
        })
    }

    /// Keeps a dead letter, durably; beyond `most` of them those of the oldest events go.
    pub fn keep_dead_letter(&self, letter: &DeadLetter, most: u64) -> Result<(), StateError> {
        let doing = format!("keep the dead letter of event {}", letter.sequence);
        self.write(&doing, |transaction| dead_letters::keep(transaction, letter, most))
    }

    /// The dead letters that are kept, oldest event first, but for those of names with a NUL, of states that are put aside.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, StateError> {
        self.read(Snapshot::dead_letters)
    }

    /// Reads everything and compares it with its hashes, then lets redb check its pages: for verification, slow.
    ///
    /// Names the aggregator and the cuts of the first damage it finds in saved state.
    pub fn check(&mut self) -> Result<(), StateError> {
        self.check_values()?;
        self.check_pages()
    }

    /// redb takes pages at their word, its own tables of free pages too: a commit after damage to those panics half way, and a panic while
    /// redb unwinds from another ends the process.
    fn check_before_use(mut self) -> Result<(), StateError> {
        self.check_pages().or_else(|pages| {
            // Better a name than a page.
            self.check_values()?;
            Err(pages)
        })
    }

    /// Compares every page in use with its checksum. What redb would mend by the way it mends in the file, unless an overlay is between.
    fn check_pages(&mut self) -> Result<(), StateError> {
        let Some(database) = self.database.get_mut().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        guarded(&self.path, "check the pages", || match database.check_integrity()? {
            true => Ok(()),
            false => Err(Failed::Damaged("its pages or its table of free pages do not fit their checksums".into())),
        })
    }

    fn check_values(&self) -> Result<(), StateError> {
        let snapshot = self.snapshot()?;
        let mut listed = HashSet::new();
        for name in snapshot.aggregators()? {
            for run in snapshot.load(&name)?.map(|saved| saved.runs).unwrap_or_default() {
                snapshot.run(&name, &run)?;
                listed.insert((name.clone(), run.first, run.last));
            }
        }
        let stored = snapshot.stored_runs()?;
        if let Some((name, first, last)) = stored.iter().find(|run| !listed.contains(run)) {
            let what = format!("the run of cuts {first}..={last} of {name:?} belongs to no aggregator");
            return Err(StateError::Damaged { path: self.path.to_path_buf(), what });
        }
        for cut_frame in snapshot.pending_cuts()? {
            snapshot.pendings(cut_frame)?;
        }
        snapshot.dead_letters()?;
        snapshot.letters_aside()?;
        snapshot.records_position().map(drop)
    }

    /// Gives the database, which is opened first if a full disk kept it from that before.
    fn with_database<T>(&self, work: impl FnOnce(&Database) -> Result<T, StateError>) -> Result<T, StateError> {
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            return work(database);
        }
        drop(open);
        let mut open = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => Quiet::new(guarded(&self.path, "open", || (self.open)())?),
        };
        work(open.insert(database))
    }

    /// One durable transaction: all that `work` does, or nothing.
    fn write<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&WriteTransaction) -> Result<T, Failed>,
    ) -> Result<T, StateError> {
        if self.read_only {
            return Err(StateError::ReadOnly { path: self.path.to_path_buf() });
        }
        let mut closed = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.with_database(|database| {
            guarded(&self.path, doing, || {
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            })
        });
        if matches!(result, Err(StateError::Full { .. })) {
            // The next who comes opens it. redb lets go of the file only with the last reader, who may still read.
            *closed += 1;
            drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
        }
        result
    }
}

/// Opens what cannot be opened twice.
fn once(overlay: impl StorageBackend) -> Box<Open> {
    let overlay = Mutex::new(Some(overlay));
    Box::new(move || {
        let overlay = overlay.lock().unwrap_or_else(PoisonError::into_inner).take();
        let overlay = overlay.ok_or_else(|| Failed::Damaged("it was opened already".into()))?;
        Ok(builder().create_with_backend(overlay)?)
    })
}

/// redb, the way it is used here.
pub(crate) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Where a file of this storage is, for messages.
pub(crate) fn path<S: Storage>(data: &S, name: &str) -> PathBuf {
    data.describe(name).into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tally_testkit::MemStorage;

    use super::*;

    /// A full disk closes the database under whoever reads, and may do so again while it is read once more.
    #[test]
    fn who_reads_while_disks_are_full_reads_on_however_often() {
        let disk = MemStorage::new();
        let big = vec![7; 2 * CACHE_BYTES];
        let run = RunInfo::new(1, 1, 0, &big);
        let commit = |store: &Store, name| {
            store.commit(&Commit { name, meta: b"", add: &[(run, &big)], remove: &[], pending: None, letters: None })
        };
        commit(&Store::open(&disk).unwrap(), "a").unwrap();
        // More than its cache holds: what it has in memory it could read without the file.
        let store = Store::open(&disk).unwrap();
        let fail = || {
            disk.set_capacity(Some(100_000));
            let failed = commit(&store, "b");
            assert!(matches!(failed, Err(StateError::Full { .. })), "{failed:?}");
        };
        let tries = Cell::new(0);
        let read = store.read(|snapshot| {
            tries.set(tries.get() + 1);
            if tries.get() < 4 {
                fail();
            }
            snapshot.run("a", &run)
        });
        assert!(read.unwrap() == big);
        assert_eq!(tries.get(), 4);
    }
}
