//! How fast the source is by itself: one client sends lines, one thread takes chunks and decides them at once.
//! `cargo run --release -p tally-ingest --example ingest_rate [LINES [BYTES_PER_WRITE]]`

use std::error::Error;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use tally_ingest::{Counters, Decision, Popped, Producers, Queue, SocketLimits, SocketSource};
use tally_net::Listener;
use tokio::sync::watch;
use tokio::time::Instant;

const LINE: &str = concat!(
    r#"{"type":"action","timestamp":"2026-01-27T10:00:00.123Z","user_id":"u_483920","#,
    r#""resource_type":"posts:12345","action":"play"}"#,
    "\n"
);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let lines: usize = args.next().map_or(Ok(20_000_000), |lines| lines.parse())?;
    let write: usize = args.next().map_or(Ok(64 * 1024), |bytes| bytes.parse())?;
    let path = std::env::temp_dir().join(format!("tally-throughput-{}", std::process::id()));
    let queue: Arc<Queue<()>> = Queue::new(64 << 20);
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(Listener::unix(&path, 0o600))?;
    let (_limits, watched) = watch::channel(SocketLimits::default());
    let source = SocketSource::new("unix", listener, watched);
    let (producers, counters) = (Producers::new(10), Arc::new(Counters::default()));
    let serving = source.serve(Arc::clone(&queue), producers, Arc::clone(&counters), stopped);
    let served = runtime.spawn(serving);
    let taking = Arc::clone(&queue);
    let taker = thread::spawn(move || take_all(&taking));

    let start = Instant::now();
    let answers = send(&path, lines, write)?;
    let seconds = start.elapsed().as_secs_f64();
    stop.send_replace(true);
    runtime.block_on(served)?;
    queue.close();
    let taken = taker.join().map_err(|_| "the taker panicked")?;
    assert_eq!(taken, lines as u64);
    let rate = lines as f64 / seconds / 1e6;
    let chunks = counters.snapshot().chunks;
    println!("{lines} lines in {seconds:.2} s: {rate:.1} M/s, {chunks} chunks, {answers} bytes of answers");
    Ok(())
}

/// Sends with a handshake and waits for the last answer; gives the size of the answers.
fn send(path: &std::path::Path, lines: usize, write: usize) -> Result<u64, Box<dyn Error>> {
    let mut socket = UnixStream::connect(path)?;
    socket.write_all(b"{\"tally\":\"ack\"}\n")?;
    let mut from = socket.try_clone()?;
    let reader = thread::spawn(move || std::io::copy(&mut from, &mut std::io::sink()));
    let block = LINE.repeat(write.div_ceil(LINE.len()));
    let total = lines * LINE.len();
    let mut sent = 0;
    while sent < total {
        let upto = block.len().min(total - sent);
        socket.write_all(&block.as_bytes()[..upto])?;
        sent += upto;
    }
    socket.shutdown(std::net::Shutdown::Write)?;
    Ok(reader.join().map_err(|_| "the reader panicked")??)
}

fn take_all(queue: &Queue<()>) -> u64 {
    let mut lines = 0;
    loop {
        match queue.pop(1 << 20) {
            Popped::Closed => return lines,
            Popped::Control(()) => {}
            Popped::Chunks(chunks) => {
                for chunk in chunks {
                    lines += u64::from(chunk.lines);
                    let decision = Decision { lines: chunk.lines, duplicates: 0, last_sequence: lines, rejects: &[] };
                    chunk.stream.decided(&decision);
                }
            }
        }
    }
}
