//! Storage in memory that keeps what was synced apart from what was not. A power loss keeps an arbitrary part of the latter,
//! down to single bytes, or leaves zeros and garbage instead; any operation can be made to fail. Must not know what is in a file.
//!
//! The model is harsher than most disks: unsynced changes survive independently of each other and of their order, names too.
//! It trusts a disk in two things: bytes outside the range of an unsynced write stay as they were, even within one sector, and so do
//! bytes within it that the write does not change.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tally_storage::{Storage, StorageFile};

use crate::content::Content;
use crate::disk::{Aim, Disk, End, Fate, Holders};
use crate::fault::{Fault, Reached, broken};
use crate::inode::{Change, Inode};
use crate::names::{NameChange, has_folder};
use crate::operation::{Kind, Operation};
use crate::random::Random;

/// A directory in memory. Clones share it, and so do the storages of its folders: operations are counted, faults and capacity set, power
/// lost for all of them together.
#[derive(Clone, Default)]
pub struct MemStorage {
    pub(crate) disk: Arc<Mutex<Disk>>,
    /// What stands before every name: nothing, or the folder's name with a `/` behind it.
    pub(crate) prefix: Arc<str>,
}

/// A file of [`MemStorage`]. It fails after a restart: the process that opened it is gone.
pub struct MemFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
    life: u64,
}

/// A lock on [`MemStorage`], released when dropped.
pub struct MemLock {
    disk: Arc<Mutex<Disk>>,
    name: String,
    shared: bool,
    life: u64,
}

impl MemStorage {
    /// An empty directory.
    pub fn new() -> MemStorage {
        MemStorage::default()
    }

    /// Sets the seed of what faults leave to chance; a crash sets it too.
    pub fn seed(&self, seed: u64) {
        self.disk().random = Random::new(seed);
    }

    /// Makes operation `number` (counted from 1 since the beginning or the last crash) meet `fault`.
    pub fn inject(&self, number: u64, fault: Fault) {
        self.disk().faults.insert(number, fault);
    }

    /// Makes the `nth` operation from now on (1 is the next one) meet `fault`, of those of this kind on names that begin with `prefix`.
    pub fn inject_on(&self, kind: Kind, prefix: &str, nth: u64, fault: Fault) {
        let (prefix, passing) = (self.full(prefix), nth.saturating_sub(1));
        self.disk().aims.push(Aim { kind, prefix, passing, fault });
    }

    /// Forgets the faults not yet met.
    pub fn disarm(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.aims.clear();
    }

    /// The next process on the same machine: forgets the faults not yet met and the locks of the one that is gone, and works again after
    /// [`Fault::Kill`]. What was written shows, and is no more durable than it was.
    pub fn restart(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.aims.clear();
        disk.locks.clear();
        disk.life += 1;
        if disk.end == End::Killed {
            disk.end = End::NotYet;
        }
    }

    /// Ends the process now, as [`Fault::Kill`] does in an operation.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.reached.kills += 1;
        disk.end = if disk.end == End::PowerLoss { End::PowerLoss } else { End::Killed };
    }

    /// At most this many bytes fit, in all files together: what was written or allocated, in pages of 4096 bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// The time that files written from now on were last changed, in microseconds since 1970 UTC. Without it every operation takes a
    /// second.
    pub fn set_now(&self, micros: u64) {
        self.disk().now = Some(micros);
    }

    /// How many operations there were since the beginning or the last crash.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Whether everything fails: the process was killed, or the power is off.
    pub fn is_dead(&self) -> bool {
        self.disk().end != End::NotYet
    }

    /// Whether the power is off: only a crash goes on from here.
    pub fn is_without_power(&self) -> bool {
        self.disk().end == End::PowerLoss
    }

    /// Writes down every operation from now on, or stops doing so.
    pub fn trace(&self, on: bool) {
        self.disk().trace = on.then(Vec::new);
    }

    /// What was written down since the last call, in order. A crash begins anew.
    pub fn take_trace(&self) -> Vec<Operation> {
        self.disk().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Which misfortunes happened, also before the crashes that this storage comes from.
    pub fn reached(&self) -> Reached {
        self.disk().reached
    }

    /// The directory as it may be after a power loss: all that was synced, and an arbitrary part, chosen by `seed`, of what was not.
    /// This one keeps failing; other seeds give other outcomes of the same loss. Of a folder's storage this is the folder afterwards.
    pub fn crash(&self, seed: u64) -> MemStorage {
        let after = self.disk().crash(seed);
        MemStorage { disk: Arc::new(Mutex::new(after)), prefix: self.prefix.clone() }
    }

    /// A directory of its own with the same files, all of them durable.
    pub fn duplicate(&self) -> MemStorage {
        let copy = self.disk().duplicate();
        MemStorage { disk: Arc::new(Mutex::new(copy)), prefix: self.prefix.clone() }
    }

    /// The names of all files and folders in it and below, sorted. Not counted as an operation.
    pub fn names(&self) -> Vec<String> {
        let disk = self.disk();
        disk.names.seen.keys().filter_map(|name| name.strip_prefix(&*self.prefix)).map(str::to_owned).collect()
    }

    /// A file's bytes as reads show them; `None` if there is no such file. Not counted as an operation.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.seen.get(&self.full(name)).map(|&inode| disk.inodes[inode].seen.to_vec())
    }

    /// Replaces or creates a file, and its folders, durably and behind everybody's back.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let name = self.full(name);
        let mut disk = self.disk();
        let content = Inode::durable(&name, Content::of(&bytes));
        let inode = match disk.names.seen.get(&name) {
            Some(&inode) => inode,
            None => disk.add_inode(Inode::default()),
        };
        disk.inodes[inode] = content;
        let Disk { names, inodes, .. } = &mut *disk;
        names.place(&name, inode, |folder| {
            inodes.push(Inode::new(folder));
            inodes.len() - 1
        });
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes names durable in the directory whose paths begin with `prefix`.
    fn sync_names(&self, prefix: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin(Kind::SyncDir, prefix.trim_end_matches('/'), 0, 0)?;
        if matches!(fate, Fate::Works | Fate::Unheard) {
            disk.names.sync(prefix);
        }
        match fate {
            Fate::Works => Ok(()),
            Fate::Begun | Fate::Unheard => Err(broken()),
            // Names stay pending: a file system whose journal fails does not call them clean.
            Fate::Fails(fault) => {
                disk.reached.failed_syncs += 1;
                Err(fault.error())
            }
        }
    }

    fn take_lock(&self, name: String, shared: bool) -> Option<MemLock> {
        let mut disk = self.disk();
        let life = disk.life;
        let holders = disk.locks.entry(name.clone()).or_default();
        match (shared, *holders) {
            (true, Holders::Shared(count)) => *holders = Holders::Shared(count + 1),
            (false, Holders::Shared(0)) => *holders = Holders::Exclusive,
            _ => return None,
        }
        Some(MemLock { disk: self.disk.clone(), name, shared, life })
    }

    fn add(&self, kind: Kind, name: &str) -> io::Result<MemFile> {
        let name = self.full(name);
        let mut disk = self.disk();
        let fate = disk.begin(kind, &name, 0, 0)?;
        if disk.names.seen.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !has_folder(&disk.names.seen, &name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let now = disk.now();
        let inode = disk.add_inode(Inode { modified: now, ..Inode::new(&name) });
        disk.change_names(fate, NameChange::Set { name, inode })?;
        Ok(self.file(&disk, inode))
    }

    fn file(&self, disk: &Disk, inode: usize) -> MemFile {
        MemFile { disk: self.disk.clone(), inode, life: disk.life }
    }
}

impl Storage for MemStorage {
    type File = MemFile;
    type Lock = MemLock;

    fn folder(&self, name: &str) -> io::Result<MemStorage> {
        let full = self.full(name);
        if !self.disk().names.seen.contains_key(&full) {
            self.create_folder(name)?;
        }
        self.sync_dir()?;
        Ok(MemStorage { disk: self.disk.clone(), prefix: format!("{full}/").into() })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.begin_plain(Kind::List, self.prefix.trim_end_matches('/'), 0, 0)?;
        let names = disk.names.seen.keys().filter_map(|name| name.strip_prefix(&*self.prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn create(&self, name: &str) -> io::Result<MemFile> {
        self.add(Kind::Create, name)
    }

    fn open(&self, name: &str) -> io::Result<MemFile> {
        let name = self.full(name);
        let mut disk = self.disk();
        disk.begin_plain(Kind::Open, &name, 0, 0)?;
        let inode = disk.find(&name)?;
        Ok(self.file(&disk, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full(from), self.full(to));
        let mut disk = self.disk();
        let fate = disk.begin(Kind::Rename, &from, 0, 0)?;
        let inode = disk.find(&from)?;
        if !has_folder(&disk.names.seen, &to) {
            return Err(io::ErrorKind::NotFound.into());
        }
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
        Ok(SystemTime::UNIX_EPOCH + Duration::from_micros(disk.inodes[inode].modified))
    }

    fn free_space(&self) -> io::Result<u64> {
        Ok(self.disk().free())
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
        if disk.life != self.life {
            return Err(broken());
        }
        let name = disk.inodes[self.inode].name.clone();
        disk.begin(kind, &name, offset, bytes as u64)
    }

    fn sync(&self, kind: Kind) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = self.begin(&mut disk, kind, 0, 0)?;
        let Disk { inodes, random, reached, .. } = &mut *disk;
        let inode = &mut inodes[self.inode];
        match fate {
            Fate::Works => {
                inode.sync();
                Ok(())
            }
            Fate::Unheard => {
                inode.sync();
                Err(broken())
            }
            // Everything stays pending until the crash decides it, or the next sync.
            Fate::Begun | Fate::Fails(Fault::Kill | Fault::PowerLossBefore) => Err(broken()),
            Fate::Fails(fault) => {
                reached.failed_syncs += 1;
                inode.fail_sync(random, reached);
                Err(fault.error())
            }
        }
    }
}

impl StorageFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk();
        match self.begin(&mut disk, Kind::Read, offset, buffer.len())? {
            Fate::Works => Ok(disk.inodes[self.inode].seen.read(offset, buffer)),
            Fate::Begun | Fate::Unheard => Err(broken()),
            Fate::Fails(fault) => Err(fault.error()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = self.begin(&mut disk, Kind::Write, offset, bytes.len())?;
        disk.change(self.inode, fate, Change::Write { offset, bytes: bytes.into() })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Kind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Kind::SyncAll)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk().inodes[self.inode].seen.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = self.begin(&mut disk, Kind::SetLen, length, 0)?;
        disk.change(self.inode, fate, Change::Length(length))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = self.begin(&mut disk, Kind::Allocate, length, 0)?;
        disk.change(self.inode, fate, Change::Allocate(length))
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.life != self.life {
            return;
        }
        match disk.locks.get_mut(&self.name) {
            Some(Holders::Shared(count)) if self.shared => *count = count.saturating_sub(1),
            Some(holders @ Holders::Exclusive) if !self.shared => *holders = Holders::default(),
            _ => {}
        }
    }
}
