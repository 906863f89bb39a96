//! Storage in memory that keeps what was synced apart from what was not. A power loss keeps an arbitrary part of the latter,
//! down to single bytes; any operation can be made to fail. Must not know frames or segments.
//!
//! The model is harsher than most disks: unsynced changes survive independently of each other and of their order, names too.
//! It trusts a disk in one thing: bytes outside the range of an unsynced write stay as they were, even within one sector.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tally_storage::{Storage, StorageFile};

use crate::disk::{Change, Disk, Fate, Fault, Holders, Inode, NameChange, Random, Reached};
use crate::operation::{Kind, Operation};

/// A directory in memory. Clones share it, and so do the storages of its folders: operations are counted, faults and capacity set, power
/// lost for all of them together.
#[derive(Clone, Default)]
pub struct MemStorage {
    disk: Arc<Mutex<Disk>>,
    /// What stands before every name: nothing, or the folder's name with a `/` behind it.
    prefix: Arc<str>,
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
    shared: bool,
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

    /// Whether the power has gone off: everything fails.
    pub fn is_dead(&self) -> bool {
        self.disk().dead
    }

    /// Writes down every operation from now on, or stops doing so.
    pub fn trace(&self, on: bool) {
        self.disk().trace = on.then(Vec::new);
    }

    /// What was written down since the last call, in order.
    pub fn take_trace(&self) -> Vec<Operation> {
        self.disk().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Which misfortunes happened.
    pub fn reached(&self) -> Reached {
        self.disk().reached
    }

    /// The directory as it may be after a power loss: all that was synced, and an arbitrary part, chosen by `seed`, of what was not.
    /// This one keeps failing; other seeds give other outcomes of the same loss. Of a folder's storage this is the folder afterwards.
    pub fn crash(&self, seed: u64) -> MemStorage {
        let mut disk = self.disk();
        disk.dead = true;
        disk.reached.power_losses += 1;
        let mut random = Random::new(seed);
        let mut reached = disk.reached;
        let survivors = disk.inodes.iter().map(|inode| inode.survivor(&mut random, &mut reached)).collect();
        let names = disk.surviving_names(&mut random, &mut reached);
        let after = Disk { inodes: survivors, durable_names: names.clone(), names, reached, random, ..Disk::default() };
        MemStorage { disk: Arc::new(Mutex::new(after)), prefix: self.prefix.clone() }
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
        MemStorage { disk: Arc::new(Mutex::new(copy)), prefix: self.prefix.clone() }
    }

    /// The names of all files and folders in it and below, sorted. Not counted as an operation.
    pub fn names(&self) -> Vec<String> {
        let disk = self.disk();
        disk.names.keys().filter_map(|name| name.strip_prefix(&*self.prefix)).map(str::to_owned).collect()
    }

    /// A file's bytes as reads show them; `None` if there is no such file. Not counted as an operation.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(&self.full(name)).map(|&inode| disk.inodes[inode].seen.clone())
    }

    /// Replaces or creates a file, durably, behind everybody's back.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let name = self.full(name);
        let inode = match disk.names.get(&name) {
            Some(&inode) => inode,
            None => disk.add_inode(&name),
        };
        disk.inodes[inode] =
            Inode { name: name.as_str().into(), seen: bytes.clone(), durable: bytes, ..Inode::default() };
        disk.names.insert(name.clone(), inode);
        disk.durable_names.insert(name, inode);
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes pending changes of names durable that touch the directory whose names begin with `prefix`: a move between two needs one sync,
    /// since a file system's journal knows both ends of it.
    fn sync_names(&self, prefix: &str) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.begin(Kind::SyncDir, prefix.trim_end_matches('/'), 0, 0)? {
            Fate::Works => {
                disk.settle_names(|changed| changed.strip_prefix(prefix).is_some_and(|rest| !rest.contains('/')));
                Ok(())
            }
            // Names stay pending: a file system whose journal fails does not call them clean.
            Fate::Fails(fault) => {
                disk.reached.failed_syncs += 1;
                Err(fault.error())
            }
        }
    }

    fn take_lock(&self, name: String, shared: bool) -> Option<MemLock> {
        let mut disk = self.disk();
        let holders = disk.locks.entry(name.clone()).or_default();
        match (shared, *holders) {
            (true, Holders::Shared(count)) => *holders = Holders::Shared(count + 1),
            (false, Holders::Shared(0)) => *holders = Holders::Exclusive,
            _ => return None,
        }
        Some(MemLock { disk: self.disk.clone(), name, shared })
    }

    fn add(&self, kind: Kind, name: &str) -> io::Result<MemFile> {
        let name = self.full(name);
        let mut disk = self.disk();
        let fate = disk.begin(kind, &name, 0, 0)?;
        if disk.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.add_inode(&name);
        disk.change_names(fate, NameChange::Set { name, inode })?;
        Ok(self.file(inode))
    }

    fn file(&self, inode: usize) -> MemFile {
        MemFile { disk: self.disk.clone(), inode }
    }
}

impl Storage for MemStorage {
    type File = MemFile;
    type Lock = MemLock;

    fn folder(&self, name: &str) -> io::Result<MemStorage> {
        let full = self.full(name);
        if !self.disk().names.contains_key(&full) {
            self.create_folder(name)?;
        }
        self.sync_dir()?;
        Ok(MemStorage { disk: self.disk.clone(), prefix: format!("{full}/").into() })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.begin_plain(Kind::List, self.prefix.trim_end_matches('/'), 0, 0)?;
        let names = disk.names.keys().filter_map(|name| name.strip_prefix(&*self.prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn create(&self, name: &str) -> io::Result<MemFile> {
        self.add(Kind::Create, name)
    }

    fn open(&self, name: &str) -> io::Result<MemFile> {
        let name = self.full(name);
        let mut disk = self.disk();
        disk.begin_plain(Kind::Open, &name, 0, 0)?;
        Ok(self.file(disk.find(&name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full(from), self.full(to));
        let mut disk = self.disk();
        let fate = disk.begin(Kind::Rename, &from, 0, 0)?;
        let inode = disk.find(&from)?;
        disk.change_names(fate, NameChange::Move { from, to, inode })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = self.full(name);
        let mut disk = self.disk();
        let fate = disk.begin(Kind::Remove, &name, 0, 0)?;
        disk.find(&name)?;
        disk.change_names(fate, NameChange::Unset { name })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.sync_names(&self.prefix)
    }

    /// A folder is a file without content, and its files have their folder's name before theirs.
    fn create_folder(&self, name: &str) -> io::Result<()> {
        self.add(Kind::CreateFolder, name).map(drop)
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        let folder = self.full(name);
        self.disk().find(&folder)?;
        self.sync_names(&format!("{folder}/"))
    }

    fn modified(&self, name: &str) -> io::Result<SystemTime> {
        let disk = self.disk();
        let inode = disk.find(&self.full(name))?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(disk.inodes[inode].written))
    }

    fn lock(&self, name: &str) -> io::Result<Option<MemLock>> {
        let name = self.full(name);
        self.disk().begin_plain(Kind::Lock, &name, 0, 0)?;
        Ok(self.take_lock(name, false))
    }

    fn lock_shared(&self, name: &str) -> io::Result<Option<MemLock>> {
        let name = self.full(name);
        {
            let mut disk = self.disk();
            disk.begin_plain(Kind::Lock, &name, 0, 0)?;
            disk.find(&name)?;
        }
        Ok(self.take_lock(name, true))
    }

    fn describe(&self, name: &str) -> String {
        self.full(name).trim_end_matches('/').to_owned()
    }
}

impl MemFile {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, disk: &mut Disk, kind: Kind, offset: u64, bytes: usize) -> io::Result<Fate> {
        let name = disk.inodes[self.inode].name.clone();
        disk.begin(kind, &name, offset, bytes as u64)
    }

    fn begin_plain(&self, disk: &mut Disk, kind: Kind, offset: u64, bytes: usize) -> io::Result<()> {
        let name = disk.inodes[self.inode].name.clone();
        disk.begin_plain(kind, &name, offset, bytes as u64)
    }

    fn resize(&self, disk: &mut Disk, length: u64) -> io::Result<()> {
        disk.check_space(self.inode, length)?;
        let inode = &mut disk.inodes[self.inode];
        inode.seen.resize(length as usize, 0);
        inode.pending.push(Change::Length(length));
        Ok(())
    }

    fn sync(&self, kind: Kind) -> io::Result<()> {
        let mut disk = self.disk();
        match self.begin(&mut disk, kind, 0, 0)? {
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
        self.begin_plain(&mut disk, Kind::Read, offset, buffer.len())?;
        let seen = &disk.inodes[self.inode].seen;
        let rest = seen.get(offset as usize..).unwrap_or(&[]);
        let take = rest.len().min(buffer.len());
        buffer[..take].copy_from_slice(&rest[..take]);
        Ok(take)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = self.begin(&mut disk, Kind::Write, offset, bytes.len())?;
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
        self.sync(Kind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Kind::SyncAll)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk().inodes[self.inode].seen.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        self.begin_plain(&mut disk, Kind::SetLen, length, 0)?;
        self.resize(&mut disk, length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        self.begin_plain(&mut disk, Kind::Allocate, length, 0)?;
        self.resize(&mut disk, length)
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        match disk.locks.get_mut(&self.name) {
            Some(Holders::Shared(count)) if self.shared => *count = count.saturating_sub(1),
            Some(holders @ Holders::Exclusive) if !self.shared => *holders = Holders::default(),
            // A restart has freed it.
            _ => {}
        }
    }
}
