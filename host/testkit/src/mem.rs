//! Storage in memory that keeps what was synced apart from what was not. A power loss keeps an arbitrary part of the latter,
//! down to single bytes; any operation can be made to fail. Must not know frames or segments.
//!
//! The model is harsher than most disks: unsynced changes survive independently of each other and of their order, names too.
//! It trusts a disk in one thing: bytes outside the range of an unsynced write stay as they were, even within one sector.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tally_wal::{Storage, StorageFile};

use crate::disk::{Change, Disk, Fate, Fault, Inode, NameChange, Random, Reached};

/// A directory in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemStorage {
    disk: Arc<Mutex<Disk>>,
}

/// A file of [`MemStorage`].
pub struct MemFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
}

/// A lock on [`MemStorage`], released when dropped.
pub struct MemLock {
    disk: Arc<Mutex<Disk>>,
    name: String,
}

impl MemStorage {
    /// An empty directory.
    pub fn new() -> MemStorage {
        MemStorage::default()
    }

    /// Makes operation `number` (counted from 1 over the whole life) meet `fault`.
    pub fn inject(&self, number: u64, fault: Fault) {
        self.disk().faults.insert(number, fault);
    }

    /// Forgets the faults not yet met; the locks of a process that is gone are free.
    pub fn restart(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.locks.clear();
    }

    /// At most this many bytes fit, in all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Which misfortunes happened.
    pub fn reached(&self) -> Reached {
        self.disk().reached
    }

    /// The directory as it may be after a power loss: all that was synced, and an arbitrary part, chosen by `seed`, of what was not.
    /// This one keeps failing; other seeds give other outcomes of the same loss.
    pub fn crash(&self, seed: u64) -> MemStorage {
        let mut disk = self.disk();
        disk.dead = true;
        disk.reached.power_losses += 1;
        let mut random = Random::new(seed);
        let mut reached = disk.reached;
        let survivors = disk.inodes.iter().map(|inode| inode.survivor(&mut random, &mut reached)).collect();
        let names = disk.surviving_names(&mut random, &mut reached);
        let after = Disk { inodes: survivors, durable_names: names.clone(), names, reached, random, ..Disk::default() };
        MemStorage { disk: Arc::new(Mutex::new(after)) }
    }

    /// A directory of its own with the same files, all of them durable.
    pub fn duplicate(&self) -> MemStorage {
        let disk = self.disk();
        let inodes =
            disk.inodes.iter().map(|inode| Inode { durable: inode.seen.clone(), pending: Vec::new(), ..inode.clone() });
        let copy = Disk {
            inodes: inodes.collect(),
            names: disk.names.clone(),
            durable_names: disk.names.clone(),
            ..Disk::default()
        };
        MemStorage { disk: Arc::new(Mutex::new(copy)) }
    }

    /// The names of all files, sorted. Not counted as an operation.
    pub fn names(&self) -> Vec<String> {
        self.disk().names.keys().cloned().collect()
    }

    /// A file's bytes as reads show them; `None` if there is no such file. Not counted as an operation.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(name).map(|&inode| disk.inodes[inode].seen.clone())
    }

    /// Replaces or creates a file, durably, behind everybody's back.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let inode = match disk.names.get(name) {
            Some(&inode) => inode,
            None => disk.add_inode(),
        };
        disk.inodes[inode] = Inode { seen: bytes.clone(), durable: bytes, ..Inode::default() };
        disk.names.insert(name.to_owned(), inode);
        disk.durable_names.insert(name.to_owned(), inode);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes pending changes of names durable that touch one of the directory or folder `concerned`: a move between two needs one sync,
    /// since a file system's journal knows both ends of it.
    fn sync_names(&self, concerned: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.begin()? {
            Fate::Works => {
                disk.settle_names(concerned);
                Ok(())
            }
            // Names stay pending: a file system whose journal fails does not call them clean.
            Fate::Fails(fault) => {
                disk.reached.failed_syncs += 1;
                Err(fault.error())
            }
        }
    }

    fn file(&self, inode: usize) -> MemFile {
        MemFile { disk: self.disk.clone(), inode }
    }
}

impl Storage for MemStorage {
    type File = MemFile;
    type Lock = MemLock;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.begin_plain()?;
        Ok(disk.names.keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<MemFile> {
        let mut disk = self.disk();
        let fate = disk.begin()?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.add_inode();
        disk.change_names(fate, NameChange::Set { name: name.to_owned(), inode })?;
        Ok(self.file(inode))
    }

    fn open(&self, name: &str) -> io::Result<MemFile> {
        let mut disk = self.disk();
        disk.begin_plain()?;
        Ok(self.file(disk.find(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin()?;
        let inode = disk.find(from)?;
        disk.change_names(fate, NameChange::Move { from: from.to_owned(), to: to.to_owned(), inode })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin()?;
        disk.find(name)?;
        disk.change_names(fate, NameChange::Unset { name: name.to_owned() })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.sync_names(|changed| !changed.contains('/'))
    }

    /// A folder is a file without content, and its files have their folder's name before theirs.
    fn create_folder(&self, name: &str) -> io::Result<()> {
        self.create(name).map(drop)
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        self.disk().find(name)?;
        self.sync_names(|changed| changed.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
    }

    fn modified(&self, name: &str) -> io::Result<SystemTime> {
        let disk = self.disk();
        let inode = disk.find(name)?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(disk.inodes[inode].written))
    }

    fn lock(&self, name: &str) -> io::Result<Option<MemLock>> {
        let mut disk = self.disk();
        disk.begin_plain()?;
        let free = disk.locks.insert(name.to_owned());
        Ok(free.then(|| MemLock { disk: self.disk.clone(), name: name.to_owned() }))
    }
}

impl MemFile {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.begin()? {
            Fate::Works => {
                disk.inodes[self.inode].sync();
                Ok(())
            }
            Fate::Fails(fault) => {
                let Disk { inodes, random, reached, .. } = &mut *disk;
                reached.failed_syncs += 1;
                // At a power loss everything stays pending until the crash decides it.
                if fault != Fault::PowerLoss {
                    inodes[self.inode].settle(random, reached);
                }
                Err(fault.error())
            }
        }
    }
}

impl StorageFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk();
        disk.begin_plain()?;
        let seen = &disk.inodes[self.inode].seen;
        let rest = seen.get(offset as usize..).unwrap_or(&[]);
        let take = rest.len().min(buffer.len());
        buffer[..take].copy_from_slice(&rest[..take]);
        Ok(take)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin()?;
        disk.check_space(self.inode, offset + bytes.len() as u64)?;
        let number = disk.operations;
        let inode = &mut disk.inodes[self.inode];
        inode.written = number;
        match fate {
            Fate::Works => {
                inode.write(offset, bytes);
                Ok(())
            }
            Fate::Fails(fault) => {
                match fault {
                    Fault::PowerLoss => inode.write(offset, bytes),
                    Fault::ShortWrite => {
                        inode.write(offset, &bytes[..bytes.len() / 2]);
                        disk.reached.short_writes += 1;
                    }
                    Fault::Broken | Fault::NoSpace => {}
                }
                Err(fault.error())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk().inodes[self.inode].seen.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_plain()?;
        disk.check_space(self.inode, length)?;
        let inode = &mut disk.inodes[self.inode];
        inode.seen.resize(length as usize, 0);
        inode.pending.push(Change::Length(length));
        Ok(())
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.locks.remove(&self.name);
    }
}
