//! redb on a file of a [`Storage`](tally_storage::Storage), which is what its files and ours are locked, torn and refused through.
//! Knows nothing of what is in the file, but for one bit of its header.

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

/// redb counts its regions in the header, without a checksum. In a file that was not closed it works them out from its length; but when the power
/// goes while it writes that it has done so, a disk that leaves something else in the sector takes the counts along, and redb refuses the file.
/// Ours are never closed (see [`Quiet`](crate::guard::Quiet)), so each one is to recover. (Place and flag as in redb 4.5's `header.rs`.)
fn trust_no_counts(header: &mut [u8]) {
    const FLAGS: usize = 9;
    const RECOVERY_REQUIRED: u8 = 2;
    if let Some(flags) = header.get_mut(FLAGS) {
        *flags |= RECOVERY_REQUIRED;
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
        if self.file.read_full_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if offset == 0 {
            trust_no_counts(out);
        }
        Ok(())
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
