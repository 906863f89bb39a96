//! What a disk can be asked: everything durable goes through these two traits, so that a twin in memory can tear, lose and refuse
//! each of these operations. Must not know what is in a file.

use std::io;
use std::time::SystemTime;

/// One directory of files. Names are plain file names; `folder/file` in a folder made by [`Storage::create_folder`]. Clones share the
/// directory, and so do the storages of its folders.
pub trait Storage: Clone + Send + Sync + 'static {
    /// An open file of this storage.
    type File: StorageFile;
    /// Holds a lock taken by [`Storage::lock`] until it is dropped.
    type Lock: Send + Sync + 'static;

    /// The storage of a folder within this one, which is made, durably, if it is missing (and must exist where this one is read-only).
    fn folder(&self, name: &str) -> io::Result<Self>;
    /// The names of all files and folders, in no particular order, without what is in the folders.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file for reading and writing; fails if the name exists. Durable after [`Storage::sync_dir`].
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing (for reading alone where the storage is read-only).
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// [`Storage::create`] for a file that is written from front to back over zeros, or over nothing, each write soon followed by a sync. A
    /// write may go past the cache of the operating system, in whole blocks of 4096 bytes: in the block it ends in, what stands behind it
    /// becomes zeros, and what stands before it is written again.
    fn create_for_appending(&self, name: &str) -> io::Result<Self::File> {
        self.create(name)
    }
    /// [`Storage::open`] for such a file.
    fn open_for_appending(&self, name: &str) -> io::Result<Self::File> {
        self.open(name)
    }
    /// [`Storage::open`] for reading what is hardly ever read twice: a read of whole blocks of 4096 bytes into an [`crate::AlignedBuffer`] may
    /// go past the cache of the operating system.
    fn open_past_cache(&self, name: &str) -> io::Result<Self::File> {
        self.open(name)
    }
    /// Gives a file another name, replacing what had it. Durable after [`Storage::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable after [`Storage::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renames and removals so far durable, but for what they did in a folder.
    fn sync_dir(&self) -> io::Result<()>;
    /// Makes an empty folder; fails if the name exists. Durable after [`Storage::sync_dir`].
    fn create_folder(&self, name: &str) -> io::Result<()>;
    /// What [`Storage::sync_dir`] is for the files in that folder.
    fn sync_folder(&self, name: &str) -> io::Result<()>;
    /// When the file's content was last changed.
    fn modified(&self, name: &str) -> io::Result<SystemTime>;
    /// Takes the exclusive lock on the file `name`, which is made if it is missing, or returns `None` if somebody else holds a lock on it.
    fn lock(&self, name: &str) -> io::Result<Option<Self::Lock>>;
    /// Takes a shared lock on the file `name`, which must exist, or returns `None` if somebody holds the exclusive one. Changes nothing.
    fn lock_shared(&self, name: &str) -> io::Result<Option<Self::Lock>>;
    /// How many bytes can still be written here, by anybody.
    fn free_space(&self) -> io::Result<u64>;
    /// What to call this file in a message, and the directory itself if `name` is empty: its path, if it has one.
    fn describe(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// An open file. All methods take `&self`: positions are explicit and readers share a file with the writer.
pub trait StorageFile: Send + Sync + 'static {
    /// Reads at most `buffer.len()` bytes; 0 means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`, extending the file if need be.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the content, and the length needed to read it, durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Makes content and all metadata durable (`fsync`).
    fn sync_all(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True when the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) to `length` bytes.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Extends to `length` zero bytes and reserves their space where the storage can, so that a full disk is met here and not later.
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        Ok(done)
    }
}
