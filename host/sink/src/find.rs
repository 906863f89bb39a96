//! Single lines out of what was written: the last record, a record by its key, the newest rejected lines. Memory for one
//! line and one block at a time. Must not know what lines say: callers give the keys and the choice.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use tally_storage::{RealStorage, Storage, StorageFile, Stream};

use crate::backwards::Backwards;
use crate::error::SinkError;
use crate::position::Position;
use crate::series::Series;

/// How much of a record is looked at for its key, bytes.
const KEY_BYTES: usize = 64;

/// The last committed record, without its newline.
pub fn last_record<S: Storage>(storage: &S, committed: Position) -> Result<Vec<u8>, SinkError> {
    let series = Series::new(storage.clone(), "analytics");
    let path = series.path(committed.file);
    let (file, found) = open(&series, committed.file).map_err(SinkError::io("open", &path))?;
    if found < committed.length {
        return Err(SinkError::Shorter { path, found, committed: committed.length });
    }
    let line = Backwards::new(file, committed.length).next_line().map_err(SinkError::io("read", &path))?;
    line.ok_or(SinkError::Changed { path, committed: committed.length })
}

/// The committed record whose key this is, without its newline; none if its file is not there any more, or there is no
/// such record. `key` reads the key out of the beginning of a record, and keys ascend.
pub fn find_record<S: Storage>(
    storage: &S,
    committed: Position,
    wanted: u64,
    key: impl Fn(&[u8]) -> Option<u64>,
) -> Result<Option<Vec<u8>>, SinkError> {
    let series = Series::new(storage.clone(), "analytics");
    let mut files = series.numbers()?;
    files.retain(|&number| number <= committed.file);
    let (mut from, mut to) = (0, files.len());
    // Of the files that begin at or before the wanted record, the last.
    while from < to {
        let middle = usize::midpoint(from, to);
        match first_key(&series, files[middle], &key)? {
            Some(first) if first <= wanted => from = middle + 1,
            _ => to = middle,
        }
    }
    let Some(&number) = from.checked_sub(1).and_then(|at| files.get(at)) else { return Ok(None) };
    let path = series.path(number);
    let (file, length) = open(&series, number).map_err(SinkError::io("open", &path))?;
    let length = if number == committed.file { length.min(committed.length) } else { length };
    let mut reader = BufReader::new(Stream::new(file, 0).take(length));
    let mut record = Vec::new();
    let mut offset = 0;
    for line in 1.. {
        record.clear();
        reader.read_until(b'\n', &mut record).map_err(SinkError::io("read", &path))?;
        if record.pop() != Some(b'\n') {
            break;
        }
        match key(&record) {
            Some(found) if found < wanted => offset += record.len() as u64 + 1,
            Some(found) if found == wanted => return Ok(Some(record)),
            Some(_) => break,
            None => {
                let what = "it does not begin with its key".into();
                return Err(SinkError::NotARecord { path, line, offset, what });
            }
        }
    }
    Ok(None)
}

/// The newest rejected lines as they stand in the files, newest first: at most `count` of those that are `wanted`.
pub fn newest_rejected(dir: &Path, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>, SinkError> {
    let storage = RealStorage::read_only(dir).map_err(SinkError::io("open the directory", dir))?;
    let series = Series::new(storage, "rejected");
    let mut found = Vec::new();
    for number in series.numbers()?.into_iter().rev() {
        let path = series.path(number);
        let mut lines = match open(&series, number) {
            Ok((file, length)) => Backwards::new(file, length),
            // It was the oldest and has just made room for newer ones.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(SinkError::io("open", &path)(error)),
        };
        while found.len() < count {
            match lines.next_line().map_err(SinkError::io("read", &path))? {
                Some(line) if wanted(&line) => found.push(line),
                Some(_) => {}
                None => break,
            }
        }
    }
    Ok(found)
}

fn open<S: Storage>(series: &Series<S>, number: u64) -> io::Result<(S::File, u64)> {
    let file = series.storage.open(&series.name(number))?;
    let length = file.len()?;
    Ok((file, length))
}

fn first_key<S: Storage>(
    series: &Series<S>,
    number: u64,
    key: impl Fn(&[u8]) -> Option<u64>,
) -> Result<Option<u64>, SinkError> {
    let path = series.path(number);
    let (file, _) = open(series, number).map_err(SinkError::io("open", &path))?;
    let mut beginning = [0; KEY_BYTES];
    let read = file.read_full_at(&mut beginning, 0).map_err(SinkError::io("read", &path))?;
    Ok(key(&beginning[..read]))
}
