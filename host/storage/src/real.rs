//! Storage on real files. Must not know what is in a file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::FallocateFlags;

use crate::direct::{self, Direct};
use crate::storage::{Storage, StorageFile};

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct RealStorage {
    dir: Arc<Path>,
    writable: bool,
}

impl RealStorage {
    /// The directory `dir`, made if it is missing. Every directory made on the way is made durable.
    pub fn new(dir: impl Into<PathBuf>) -> io::Result<RealStorage> {
        let dir = std::path::absolute(dir.into())?;
        create_durably(&dir)?;
        Ok(RealStorage { dir: dir.into(), writable: true })
    }

    /// The directory `dir`, which must exist, for reading only: nothing is ever created or written.
    pub fn read_only(dir: impl Into<PathBuf>) -> io::Result<RealStorage> {
        let dir = std::path::absolute(dir.into())?;
        if !fs::metadata(&dir)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a directory", dir.display())));
        }
        Ok(RealStorage { dir: dir.into(), writable: false })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::ReadOnlyFilesystem,
            format!("{} was opened for reading only", self.dir.display()),
        ))
    }
}

/// Creates `dir` and its missing ancestors, and syncs the parent of each one made: a directory that is lost takes its files along.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_durably(parent)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    if let Some(parent) = parent {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Storage for RealStorage {
    type File = RealFile;
    type Lock = File;

    fn folder(&self, name: &str) -> io::Result<RealStorage> {
        let dir = self.path(name);
        if !self.writable {
            return RealStorage::read_only(dir);
        }
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            other => other?,
        }
        // Also when it was there: a process that ended right after making it left its name to the mercy of the next power loss.
        self.sync_dir()?;
        Ok(RealStorage { dir: dir.into(), writable: true })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        self.check_writable()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))?;
        Ok(RealFile { file, direct: None, past_cache: None })
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let file = OpenOptions::new().read(true).write(self.writable).open(self.path(name))?;
        Ok(RealFile { file, direct: None, past_cache: None })
    }

    fn create_for_appending(&self, name: &str) -> io::Result<RealFile> {
        let file = self.create(name)?;
        let direct = Direct::open(&self.path(name)).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = std::fs::remove_file(self.path(name));
        })?;
        Ok(RealFile { direct, ..file })
    }

    fn open_for_appending(&self, name: &str) -> io::Result<RealFile> {
        let file = self.open(name)?;
        Ok(RealFile { direct: Direct::open(&self.path(name))?, ..file })
    }

    fn open_past_cache(&self, name: &str) -> io::Result<RealFile> {
        let file = self.open(name)?;
        Ok(RealFile { past_cache: direct::open_to_read(&self.path(name))?, ..file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn create_folder(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::create_dir(self.path(name))
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_all()
    }

    fn modified(&self, name: &str) -> io::Result<SystemTime> {
        fs::metadata(self.path(name))?.modified()
    }

    fn free_space(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&*self.dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn lock(&self, name: &str) -> io::Result<Option<File>> {
        self.check_writable()?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name))?;
        let taken = file.try_lock();
        held(file, taken)
    }

    fn lock_shared(&self, name: &str) -> io::Result<Option<File>> {
        let file = File::open(self.path(name))?;
        let taken = file.try_lock_shared();
        held(file, taken)
    }

    fn describe(&self, name: &str) -> String {
        let path = if name.is_empty() { self.dir.to_path_buf() } else { self.path(name) };
        path.display().to_string()
    }
}

fn held(file: File, taken: Result<(), TryLockError>) -> io::Result<Option<File>> {
    match taken {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A file of [`RealStorage`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// How it is written, if not through the cache.
    direct: Option<Direct>,
    /// What whole blocks are read from, if not through the cache.
    past_cache: Option<File>,
}

impl RealFile {
    /// The descriptor that writes: a sync through another might not hear of its failures. What was written through the cache it syncs too.
    fn written_by(&self) -> &File {
        self.direct.as_ref().map_or(&self.file, Direct::file)
    }
}

impl StorageFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut file = self.past_cache.as_ref().filter(|_| direct::is_whole(buffer, offset)).unwrap_or(&self.file);
        loop {
            match file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if direct::is_refusal(&error) && !std::ptr::eq(file, &raw const self.file) => {
                    file = &self.file
                }
                other => return other,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.direct {
            Some(direct) => direct.write_at(&self.file, bytes, offset),
            None => self.file.write_all_at(bytes, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.written_by().sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.written_by().sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        if let Some(direct) = &self.direct {
            direct.forget();
        }
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.file.set_len(length),
            Err(error) => Err(error.into()),
        }
    }
}
