//! A file read from front to back, for what wants a [`Read`].

use std::io::{self, Read};

use crate::storage::StorageFile;

/// Reads a file from some byte on, to its end.
#[derive(Debug)]
pub struct Stream<F> {
    file: F,
    at: u64,
}

impl<F: StorageFile> Stream<F> {
    /// The bytes of `file` from `start` on.
    pub fn new(file: F, start: u64) -> Stream<F> {
        Stream { file, at: start }
    }
}

impl<F: StorageFile> Read for Stream<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
