//! The analytics files: append-only, rotated, committed by position. Must not know what a record says.
//!
//! Writing one is append (write, fdatasync, and a sync of the directory for a new file), then the caller stores the
//! [`Position`] that `append` returned: that commits the record. A crash in between leaves a record that nobody knows of;
//! the next start goes back to the committed position, and the record is written again from what the log says.
//!
//! Going back never destroys more than that. A crash leaves at most one record behind the committed position, which is
//! dropped; where more stands there (an older state store was put back, or it was lost), it is moved aside first, to
//! `uncommitted_00001.log` and so on, and said.

use std::io::{self, Read};
use std::path::PathBuf;

use tally_storage::{Storage, StorageFile, Stream};

use crate::error::SinkError;
use crate::position::Position;
use crate::series::Series;

/// When the next file begins.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// A record that would make a file longer than this many bytes begins the next one; a longer record stands alone.
    pub max_bytes: u64,
    /// Records per file at most.
    pub max_batches: u64,
}

/// What was found behind the committed position at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes that went, from whatever file.
    pub bytes: u64,
    /// Where they were copied to, if they were more than the one record that a crash leaves.
    pub set_aside: Option<PathBuf>,
}

/// The analytics files of one directory, open for appending.
#[derive(Debug)]
pub struct RecordFiles<S: Storage> {
    series: Series<S>,
    rotation: Rotation,
    /// The end of what was written; `None` before the first record ever.
    end: Option<Position>,
    /// The file that `end` names, once it is open.
    file: Option<S::File>,
    /// The file that was made last. It has no record yet where the disk was full.
    begun: Option<u64>,
    /// A write or sync failed: what is in the file is unknown.
    poisoned: bool,
    recovered: Recovered,
    buffer: Vec<u8>,
}

impl<S: Storage> RecordFiles<S> {
    /// Opens the files of a directory at the position that was committed last.
    pub fn open(storage: S, committed: Option<Position>, rotation: Rotation) -> Result<RecordFiles<S>, SinkError> {
        let series = Series::new(storage, "analytics");
        let file = committed.map(|end| open_committed(&series, end)).transpose()?;
        let recovered = go_back(&series, file.as_ref(), committed)?;
        Ok(RecordFiles {
            series,
            rotation,
            end: committed,
            file,
            begun: None,
            poisoned: false,
            recovered,
            buffer: Vec::new(),
        })
    }

    /// What the start found behind the committed position.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The end of what was written; `None` before the first record.
    pub fn position(&self) -> Option<Position> {
        self.end
    }

    /// Appends one JSON line (its newline may be left out) durably, and returns the position to commit.
    ///
    /// Where there was no room for it ([`SinkError::is_full`]) it can be tried again, which overwrites what it left behind. After any
    /// other error nobody knows what the disk holds, so every later call fails; a new start goes back to what was committed.
    pub fn append(&mut self, record: &[u8]) -> Result<Position, SinkError> {
        let line = record.strip_suffix(b"\n").unwrap_or(record);
        if line.is_empty() || line.contains(&b'\n') {
            return Err(SinkError::NotOneLine { length: record.len() });
        }
        if self.poisoned {
            let path = self.series.path(self.end.map_or(1, |end| end.file));
            return Err(SinkError::Poisoned { path });
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        match self.write() {
            Ok(end) => {
                self.end = Some(end);
                Ok(end)
            }
            Err(error) => {
                self.poisoned = !error.is_full();
                Err(error)
            }
        }
    }

    /// Writes the buffer where it belongs.
    fn write(&mut self) -> Result<Position, SinkError> {
        let length = self.buffer.len() as u64;
        let start = self.next_start(length);
        let path = self.series.path(start.file);
        let is_new = start.length == 0;
        if is_new && self.begun != Some(start.file) {
            let file = self.series.storage.create(&self.series.name(start.file));
            self.file = Some(file.map_err(SinkError::io("create", &path))?);
            self.begun = Some(start.file);
        }
        let file = self.file.as_ref().expect("a file is open wherever an earlier record ended");
        file.write_at(&self.buffer, start.length).map_err(SinkError::io("write to", &path))?;
        // A failed sync is final, also where the disk is full.
        file.sync_data().map_err(io::Error::other).map_err(SinkError::io("sync", &path))?;
        if is_new {
            self.series.sync_dir()?;
        }
        Ok(Position { length: start.length + length, batches: start.batches + 1, ..start })
    }

    /// Where a record of this length begins.
    fn next_start(&self, length: u64) -> Position {
        let Some(end) = self.end else {
            return Position { file: 1, length: 0, batches: 0 };
        };
        let full =
            end.length.saturating_add(length) > self.rotation.max_bytes || end.batches >= self.rotation.max_batches;
        match full {
            true => Position { file: end.file + 1, length: 0, batches: 0 },
            false => end,
        }
    }
}

/// Opens the file that was written last, and makes sure that it has what was committed.
fn open_committed<S: Storage>(series: &Series<S>, end: Position) -> Result<S::File, SinkError> {
    let (path, committed) = (series.path(end.file), end.length);
    let file = series.storage.open(&series.name(end.file)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SinkError::Missing { path: path.clone(), committed },
        _ => SinkError::Io { doing: "open", path: path.clone(), source },
    })?;
    let found = file.len().map_err(SinkError::io("look at", &path))?;
    if found < committed {
        return Err(SinkError::Shorter { path, found, committed });
    }
    let mut last = [0];
    file.read_full_at(&mut last, committed - 1).map_err(SinkError::io("read", &path))?;
    match last {
        [b'\n'] => Ok(file),
        _ => Err(SinkError::Changed { path, committed }),
    }
}

/// Removes what stands behind the committed position, after a copy if it is more than a crash leaves.
fn go_back<S: Storage>(
    series: &Series<S>,
    file: Option<&S::File>,
    committed: Option<Position>,
) -> Result<Recovered, SinkError> {
    let end = committed.unwrap_or(Position { file: 0, length: 0, batches: 0 });
    let later = series.numbers()?.into_iter().filter(|&number| number > end.file).collect::<Vec<_>>();
    let tails = (end.file > 0).then_some((end.file, end.length)).into_iter();
    let tails = tails.chain(later.iter().map(|&number| (number, 0))).map(|(number, from)| Tail { number, from });
    let tails = tails.collect::<Vec<_>>();
    let (mut bytes, mut lines) = (0, 0);
    for tail in &tails {
        let measured = tail.measure(series).map_err(SinkError::io("read", series.path(tail.number)))?;
        (bytes, lines) = (bytes + measured.0, lines + measured.1);
    }
    if bytes == 0 && later.is_empty() {
        return Ok(Recovered::default());
    }
    let set_aside = (lines > 1).then(|| set_aside(series, &tails)).transpose()?;
    for &number in later.iter().rev() {
        let removed = series.storage.remove(&series.name(number));
        removed.map_err(SinkError::io("remove", series.path(number)))?;
    }
    if let Some(file) = file {
        let cut = file.set_len(end.length).and_then(|()| file.sync_all());
        cut.map_err(SinkError::io("cut back to what was committed", series.path(end.file)))?;
    }
    series.sync_dir()?;
    tracing::warn!(
        directory = %series.dir().display(), bytes, lines, set_aside = ?set_aside,
        "removed analytics records that were written but not committed; they are written again from the log"
    );
    Ok(Recovered { bytes, set_aside })
}

/// The part of a file that was not committed.
struct Tail {
    number: u64,
    from: u64,
}

impl Tail {
    /// Gives it to `take` piece by piece.
    fn read<S: Storage>(&self, series: &Series<S>, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut stream = Stream::new(series.storage.open(&series.name(self.number))?, self.from);
        let mut buffer = vec![0; 64 << 10];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => take(&buffer[..count])?,
            }
        }
    }

    /// Bytes and lines; an unterminated last line counts.
    fn measure<S: Storage>(&self, series: &Series<S>) -> io::Result<(u64, u64)> {
        let (mut bytes, mut lines, mut last) = (0, 0, b'\n');
        self.read(series, |piece| {
            bytes += piece.len() as u64;
            lines += piece.iter().filter(|&&byte| byte == b'\n').count() as u64;
            last = piece.last().copied().unwrap_or(last);
            Ok(())
        })?;
        Ok((bytes, lines + u64::from(last != b'\n')))
    }
}

/// Copies the tails one after the other into a new file beside the analytics files.
fn set_aside<S: Storage>(series: &Series<S>, tails: &[Tail]) -> Result<PathBuf, SinkError> {
    let copies = Series::new(series.storage.clone(), "uncommitted");
    let number = copies.numbers()?.last().map_or(1, |last| last + 1);
    let path = copies.path(number);
    let copy = || -> io::Result<()> {
        let copy = copies.storage.create(&copies.name(number))?;
        let mut length = 0;
        for tail in tails {
            tail.read(series, |piece| {
                copy.write_at(piece, length)?;
                length += piece.len() as u64;
                Ok(())
            })?;
        }
        copy.sync_all()
    };
    copy().map_err(SinkError::io("set uncommitted records aside in", &path))?;
    copies.sync_dir()?;
    Ok(path)
}
