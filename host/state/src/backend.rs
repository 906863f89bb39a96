//! redb on a file of a [`Storage`](tally_storage::Storage), which is what its files and ours are locked, torn and refused through.
//! Knows nothing of what is in the file.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;
use tally_storage::StorageFile;

/// A file, and the lock that keeps others out of it until redb closes it.
pub(crate) struct Backend<F, L> {
    pub(crate) file: F,
    // A lock of ours because redb closes through a shared reference, while readers may still hold on to it.
    lock: Mutex<Option<Arc<L>>>,
}

impl<F, L> Backend<F, L> {
    /// The file, which nobody else may change while `lock` is held.
    pub(crate) fn new(file: F, lock: Arc<L>) -> Backend<F, L> {
        Backend { file, lock: Mutex::new(Some(lock)) }
    }
}

impl<F, L> fmt::Debug for Backend<F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

// redb's own locks are of ranges of bytes, for several processes on one file; ours is of the whole file and held already, so those stay
// as the trait has them: unsupported.
impl<F: StorageFile, L: Send + Sync + 'static> StorageBackend for Backend<F, L> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.file.read_full_at(out, offset)? {
            read if read == out.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length).map_err(|error| match self.file.len() {
            Ok(now) if now < length => error,
            // redb makes the file shorter once a commit is durable: like a failed sync this is final, or the commit would be told to be
            // undone because the disk is full.
            _ => io::Error::other(error),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        // A failed sync is final whatever the reason, also where the disk is full: nobody knows what is on it then.
        self.file.sync_data().map_err(io::Error::other)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }

    fn close(&self) -> io::Result<()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}
