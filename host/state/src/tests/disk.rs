//! A disk for the tests: what was not synced may or may not survive a crash, in pieces, and any operation can fail.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// A sector survives a crash whole or not at all.
const SECTOR: usize = 512;

/// The disk; clones share it. It outlives the store on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    now: Vec<u8>,
    /// What surely survives.
    synced: Vec<u8>,
    /// Sectors in which the two may differ.
    dirty: BTreeSet<usize>,
    operations: u64,
    /// From this operation on, everything fails.
    fail_at: Option<u64>,
    faults: u64,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes, truncations and syncs so far.
    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many operations were made to fail.
    pub(super) fn faults(&self) -> u64 {
        self.state().faults
    }

    /// Makes every write, truncation and sync fail from the given number on.
    pub(super) fn fail_at(&self, operation: Option<u64>) {
        self.state().fail_at = operation;
    }

    /// The disk after a power failure now: each unsynced sector is old or new, as `chance` has it.
    pub(super) fn crash(&self, mut chance: impl FnMut() -> bool) -> Disk {
        let state = self.state();
        let length = if chance() { state.now.len() } else { state.synced.len() };
        let mut bytes = state.synced.clone();
        bytes.resize(length, 0);
        for &sector in &state.dirty {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(length).min(state.now.len());
            if chance() && !range.is_empty() {
                bytes[range.clone()].copy_from_slice(&state.now[range]);
            }
        }
        let state = State { now: bytes.clone(), synced: bytes, ..State::default() };
        Disk { state: Arc::new(Mutex::new(state)) }
    }
}

impl State {
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.fail_at.is_some_and(|at| self.operations >= at) {
            self.faults += 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        out.copy_from_slice(&self.state().now[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.now.resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.dirty.clear();
        let now = state.now.clone();
        state.synced = now;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let end = offset as usize + data.len();
        state.now[offset as usize..end].copy_from_slice(data);
        state.dirty.extend(offset as usize / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }
}
