//! Numbered files with a bound on all of them together. Knows lines, not what they say.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use tally_storage::{RealFile, RealStorage, Storage, StorageFile};

use crate::error::SinkError;
use crate::series::Series;

/// The limit is spread over so many files, so that the oldest that goes is a small part of all.
const FILES: u64 = 8;
/// No line is longer than this.
const LONGEST_LINE: u64 = 64 << 10;

/// The files, the newest one open.
#[derive(Debug)]
pub(super) struct Writer {
    series: Series<RealStorage>,
    max_bytes: u64,
    /// (number, bytes) of every file, ascending.
    files: VecDeque<(u64, u64)>,
    /// The last of `files`.
    open: Option<RealFile>,
    /// The last write failed, and that was said.
    failing: bool,
}

impl Writer {
    pub(super) fn open(dir: &Path, max_bytes: u64) -> Result<Writer, SinkError> {
        let storage = RealStorage::new(dir).map_err(SinkError::io("create the directory", dir))?;
        let series = Series::new(storage, "rejected");
        let mut files = VecDeque::new();
        for number in series.numbers()? {
            let length = series.storage.open(&series.name(number)).and_then(|file| file.len());
            let length = length.map_err(SinkError::io("look at", series.path(number)))?;
            files.push_back((number, length));
        }
        let max_bytes = max_bytes.max(LONGEST_LINE);
        let mut writer = Writer { series, max_bytes, files, open: None, failing: false };
        writer.reopen()?;
        writer.make_room(0).map_err(SinkError::io("remove old rejected lines from", dir))?;
        Ok(writer)
    }

    /// Opens the newest file to go on in it, behind its last whole line.
    fn reopen(&mut self) -> Result<(), SinkError> {
        let Some((number, length)) = self.files.back_mut() else {
            return Ok(());
        };
        let path = self.series.path(*number);
        let file = self.series.storage.open(&self.series.name(*number)).map_err(SinkError::io("open", &path))?;
        let whole = end_of_last_line(&file, *length).map_err(SinkError::io("read", &path))?;
        if whole < *length {
            file.set_len(whole).map_err(SinkError::io("cut the unfinished line from", &path))?;
        }
        *length = whole;
        self.open = Some(file);
        Ok(())
    }

    /// Appends whole lines and returns how many were written: fewer, and said once, when a write fails.
    pub(super) fn append(&mut self, lines: &[u8]) -> u64 {
        let (mut rest, mut written) = (lines, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.portion(rest));
            if let Err(error) = self.write(now) {
                if !self.failing {
                    let path = self.series.path(self.files.back().map_or(1, |file| file.0));
                    tracing::warn!(file = %path.display(), %error, "cannot keep rejected lines; they are only counted until this works again");
                }
                self.failing = true;
                return written;
            }
            written += now.iter().filter(|&&byte| byte == b'\n').count() as u64;
            rest = later;
        }
        self.failing = false;
        written
    }

    /// How many bytes of these lines are written at once: the whole lines that the open file has room for, otherwise those
    /// that fill the next one, but at least one line.
    fn portion(&self, lines: &[u8]) -> usize {
        let used = self.files.back().map_or(0, |&(_, length)| length);
        let fit = |room: u64| {
            let room = room.min(lines.len() as u64) as usize;
            lines[..room].iter().rposition(|&byte| byte == b'\n')
        };
        let line = || lines.iter().position(|&byte| byte == b'\n');
        fit(self.file_bytes().saturating_sub(used))
            .or_else(|| fit(self.file_bytes()))
            .or_else(line)
            .map_or(lines.len(), |at| at + 1)
    }

    fn file_bytes(&self) -> u64 {
        (self.max_bytes / FILES).max(1)
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = lines.len() as u64;
        self.make_room(more)?;
        let full = self.files.back().is_none_or(|&(_, length)| length > 0 && length + more > self.file_bytes());
        if full || self.open.is_none() {
            self.next_file()?;
        }
        if let (Some(file), Some((_, length))) = (&self.open, self.files.back_mut()) {
            if let Err(error) = file.write_at(lines, *length) {
                // Half a line must not stay behind what the next write puts there; if this fails too, so will that.
                let _ = file.set_len(*length);
                return Err(error);
            }
            *length += more;
        }
        Ok(())
    }

    fn next_file(&mut self) -> io::Result<()> {
        let number = self.files.back().map_or(1, |&(number, _)| number + 1);
        let file = self.series.storage.create(&self.series.name(number))?;
        self.files.push_back((number, 0));
        self.open = Some(file);
        Ok(())
    }

    /// Removes the oldest files until this much more fits under the limit.
    fn make_room(&mut self, more: u64) -> io::Result<()> {
        while self.files.iter().map(|file| file.1).sum::<u64>() + more > self.max_bytes {
            let Some((number, _)) = self.files.front() else {
                break;
            };
            match self.series.storage.remove(&self.series.name(*number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.files.pop_front(),
            };
            if self.files.is_empty() {
                self.open = None;
            }
        }
        Ok(())
    }
}

/// Where the last whole line of a file of this length ends.
fn end_of_last_line(file: &RealFile, length: u64) -> io::Result<u64> {
    let from = length.saturating_sub(LONGEST_LINE);
    let mut tail = vec![0; (length - from) as usize];
    if file.read_full_at(&mut tail, from)? < tail.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(tail.iter().rposition(|&byte| byte == b'\n').map_or(from, |at| from + at as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealStorage::new(dir.path()).unwrap().create("file").unwrap();
        file.write_at(b"a\nb", 0).unwrap();
        assert_eq!(end_of_last_line(&file, 3).unwrap(), 2);
        assert_eq!(end_of_last_line(&file, 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
