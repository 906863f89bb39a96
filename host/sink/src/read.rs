//! Reading the analytics files back, in order. Must not know what a record says beyond being one JSON object per line.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use serde_json::Value;
use tally_storage::{Storage, StorageFile, Stream};

use crate::error::SinkError;
use crate::position::Position;
use crate::series::Series;

/// One line of an analytics file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The file.
    pub path: PathBuf,
    /// Its number.
    pub file: u64,
    /// The line in it, from 1.
    pub line: u64,
    /// The byte of the file at which the line begins, from 0.
    pub offset: u64,
    /// The bytes of the line, without the newline.
    pub text: String,
    /// What they say; always an object.
    pub value: Value,
}

/// All records of a directory's analytics files in order, with whatever a crash left behind the last commit.
pub fn read_records<S: Storage>(storage: &S) -> Result<Records<S>, SinkError> {
    Records::new(storage, None)
}

/// The records of a directory's analytics files in order, up to a committed position.
pub fn read_records_until<S: Storage>(storage: &S, committed: Position) -> Result<Records<S>, SinkError> {
    Records::new(storage, Some(committed))
}

/// An iterator over records; after an error it ends.
#[derive(Debug)]
pub struct Records<S: Storage> {
    series: Series<S>,
    /// Files still to be opened, the next one last.
    files: Vec<u64>,
    until: Option<Position>,
    open: Option<Open<S::File>>,
}

#[derive(Debug)]
struct Open<F> {
    reader: BufReader<Stream<F>>,
    path: PathBuf,
    file: u64,
    line: u64,
    /// Where it begins.
    offset: u64,
    /// Where the next one begins.
    next_offset: u64,
    /// Bytes that may still be read.
    left: u64,
}

impl<S: Storage> Records<S> {
    fn new(storage: &S, until: Option<Position>) -> Result<Records<S>, SinkError> {
        let series = Series::new(storage.clone(), "analytics");
        let mut files = series.numbers()?;
        if let Some(end) = until {
            files.retain(|&number| number <= end.file);
            if files.last() != Some(&end.file) {
                return Err(SinkError::Missing { path: series.path(end.file), committed: end.length });
            }
        }
        files.reverse();
        Ok(Records { series, files, until, open: None })
    }

    /// Opens the next file; false when there is none.
    fn open_next(&mut self) -> Result<bool, SinkError> {
        let Some(number) = self.files.pop() else {
            return Ok(false);
        };
        let path = self.series.path(number);
        let file = self.series.storage.open(&self.series.name(number)).map_err(SinkError::io("open", &path))?;
        let found = file.len().map_err(SinkError::io("look at", &path))?;
        let left = match self.until {
            Some(end) if end.file == number && found < end.length => {
                return Err(SinkError::Shorter { path, found, committed: end.length });
            }
            Some(end) if end.file == number => end.length,
            _ => u64::MAX,
        };
        let reader = BufReader::new(Stream::new(file, 0));
        self.open = Some(Open { reader, path, file: number, line: 0, offset: 0, next_offset: 0, left });
        Ok(true)
    }

    fn next_record(&mut self) -> Result<Option<Record>, SinkError> {
        loop {
            if let Some(open) = &mut self.open
                && let Some(record) = open.next_record()?
            {
                return Ok(Some(record));
            }
            if !self.open_next()? {
                return Ok(None);
            }
        }
    }
}

impl<F: StorageFile> Open<F> {
    /// The next line of this file; `None` at its end.
    fn next_record(&mut self) -> Result<Option<Record>, SinkError> {
        let mut bytes = Vec::new();
        if self.left > 0 {
            let read = self.reader.read_until(b'\n', &mut bytes);
            read.map_err(SinkError::io("read", &self.path))?;
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        self.offset = self.next_offset;
        self.next_offset += bytes.len() as u64;
        let complete = bytes.len() as u64 <= self.left && bytes.pop_if(|last| *last == b'\n').is_some();
        if !complete {
            return Err(self.not_a_record("the line has no end"));
        }
        self.left = self.left.saturating_sub(bytes.len() as u64 + 1);
        let text = String::from_utf8(bytes).map_err(|error| self.not_a_record(error))?;
        match serde_json::from_str(&text) {
            Ok(value @ Value::Object(_)) => {
                let (path, file, line, offset) = (self.path.clone(), self.file, self.line, self.offset);
                Ok(Some(Record { path, file, line, offset, text, value }))
            }
            Ok(_) => Err(self.not_a_record("it is no JSON object")),
            Err(error) => Err(self.not_a_record(error)),
        }
    }

    fn not_a_record(&self, what: impl ToString) -> SinkError {
        let (path, line, offset) = (self.path.clone(), self.line, self.offset);
        SinkError::NotARecord { path, line, offset, what: what.to_string() }
    }
}

impl<S: Storage> Iterator for Records<S> {
    type Item = Result<Record, SinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record();
        if next.is_err() {
            (self.open, self.files) = (None, Vec::new());
        }
        next.transpose()
    }
}
