//! What the machine gives without Tally: the disk below the data directory, and Unix sockets whose readers only discard.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::client::PIECE;
use crate::lines::Part;
use crate::machine::{self, Places, joined};

/// What is written before each sync: a usual frame of the log.
const BLOCK: usize = 64 * 1024;
/// As long as a segment of the log, and as it: written with zeros before.
const FILE: usize = 64 * 1024 * 1024;
const SYNCS: usize = 500;
const LIMIT: Duration = Duration::from_secs(3);

/// Latencies of writing 64 KiB and `fdatasync`, in nanoseconds.
pub fn fdatasync(folder: &Path) -> Result<Histogram<u64>> {
    let path = folder.join("raw");
    let latencies = write_and_sync(&path).with_context(|| format!("cannot measure fdatasync in {}", folder.display()));
    fs::remove_file(&path).or_else(|error| if latencies.is_err() { Ok(()) } else { Err(error) })?;
    latencies
}

fn write_and_sync(path: &Path) -> Result<Histogram<u64>> {
    let file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE).step_by(zeros.len()) {
        file.write_all_at(&zeros, at as u64)?;
    }
    file.sync_all()?;
    let block = vec![b'x'; BLOCK];
    let mut latencies = Histogram::new(3)?;
    let deadline = Instant::now() + LIMIT;
    for index in 0..SYNCS {
        let started = Instant::now();
        file.write_all_at(&block, (index * BLOCK % FILE) as u64)?;
        file.sync_data()?;
        let ended = Instant::now();
        latencies.record((ended - started).as_nanos() as u64)?;
        if ended > deadline {
            break;
        }
    }
    Ok(latencies)
}

/// Events per second that the sending side can send, a connection for each part: the same writes to threads that discard.
pub fn socket(path: &Path, places: &Places, parts: &[Part<'_>]) -> Result<f64> {
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let discard = || {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; PIECE];
        while stream.read(&mut buffer)? > 0 {}
        Ok(Instant::now())
    };
    let send = |part: &Part<'_>| {
        let mut stream = UnixStream::connect(path)?;
        Ok(part.bytes.chunks(PIECE).try_for_each(|piece| stream.write_all(piece))?)
    };
    let started = Instant::now();
    let ended = thread::scope(|scope| {
        let readers: Vec<_> = parts.iter().map(|_| scope.spawn(|| machine::on(&places.server, discard))).collect();
        let senders: Vec<_> =
            parts.iter().map(|part| scope.spawn(move || machine::on(&places.client, || send(part)))).collect();
        senders.into_iter().try_for_each(|sender| joined(sender.join()))?;
        readers.into_iter().try_fold(started, |last, reader| anyhow::Ok(last.max(joined(reader.join())?)))
    })?;
    fs::remove_file(path)?;
    let events: u64 = parts.iter().map(|part| part.count).sum();
    Ok(events as f64 / (ended - started).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Lines;

    #[test]
    fn disk_and_socket_are_measured() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!fdatasync(folder.path()).unwrap().is_empty());
        let lines = Lines::new(b"line\n".repeat(1000));
        let parts = [lines.part(0, 2), lines.part(1, 2)];
        let rate = socket(&folder.path().join("s"), &Places::one_core().unwrap(), &parts).unwrap();
        assert!(rate.is_finite() && rate > 0.0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
}
