//! The end of a process without the end of the machine: what was written stays visible, synced or not.

use std::sync::{Arc, Mutex, PoisonError};

use crate::MemStorage;
use crate::disk::{Disk, Reached};

impl MemStorage {
    /// The directory as the next process finds it. This one keeps failing, so that nothing that is only dropped now changes anything.
    pub fn kill(&self) -> MemStorage {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let dead = Disk { dead: true, inodes: disk.inodes.clone(), names: disk.names.clone(), ..Disk::default() };
        let mut next = std::mem::replace(&mut *disk, dead);
        next.faults.clear();
        next.locks.clear();
        MemStorage { disk: Arc::new(Mutex::new(next)), prefix: self.prefix.clone() }
    }

    /// Counts misfortunes from 0 again.
    pub fn forget_reached(&self) {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).reached = Reached::default();
    }
}
