//! What the machine gives without Tally: the disk below the data directory, and a Unix socket whose reader only discards.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::client::PIECE;
use crate::lines::Part;
use crate::machine::{self, Places};

/// What is written before each sync: a usual frame of the log.
const BLOCK: usize = 64 * 1024;
/// As long as a segment of the log, and as it: written with zeros before.
const FILE: usize = 64 * 1024 * 1024;
const SYNCS: usize = 500;
const LIMIT: Duration = Duration::from_secs(3);

/// Latencies of writing 64 KiB and `fdatasync`, in nanoseconds.
pub fn fdatasync(folder: &Path) -> Result<Histogram<u64>> {
    let path = folder.join("raw");
    let measure = || -> Result<Histogram<u64>> {
        let file = File::create(&path)?;
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
    };
    let latencies = measure().with_context(|| format!("cannot measure fdatasync in {}", folder.display()));
    // It is a file of a temporary folder; whoever made that removes it as well.
    let _ = std::fs::remove_file(&path);
    latencies
}

/// Events per second that the sending side can send: the same writes to a thread that discards what it reads.
pub fn socket(path: &Path, places: &Places, part: Part<'_>) -> Result<f64> {
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let discard = || {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; PIECE];
        while stream.read(&mut buffer)? > 0 {}
        Ok(Instant::now())
    };
    let send = || {
        let mut stream = std::os::unix::net::UnixStream::connect(path)?;
        let started = Instant::now();
        part.bytes.chunks(PIECE).try_for_each(|piece| stream.write_all(piece))?;
        Ok(started)
    };
    let (started, ended) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| machine::on(&places.server, discard));
        let started = machine::on(&places.client, send);
        let ended = reader.join().map_err(|_| anyhow::anyhow!("the thread that discards panicked"))?;
        anyhow::Ok((started?, ended?))
    })?;
    std::fs::remove_file(path)?;
    Ok(part.count as f64 / (ended - started).as_secs_f64())
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
        let rate = socket(&folder.path().join("s"), &Places::one_core().unwrap(), lines.all()).unwrap();
        assert!(rate.is_finite() && rate > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
}
