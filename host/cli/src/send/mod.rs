//! `tally send`: a file or stdin to the daemon's socket, acknowledged and resumable. This file is the order of things;
//! reading is in `source`, what is not acknowledged yet in `backlog`, one connection in `session`.

mod acknowledged;
mod backlog;
mod meter;
mod session;
mod source;
mod summary;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tally_daemon::config::parse_duration;

use crate::client::explain_connect;
use crate::outcome::{Usage, print};
use meter::Meter;
use source::Source;
use summary::Summary;

/// Sends lines of JSON, plain or gzip, to a daemon.
///
/// With --ack it ends when every line is durable, or fails. With --producer as well it survives restarts on either side:
/// the daemon remembers how many lines of that name it has decided, so the same command run again continues where the
/// last one ended, and counts nothing twice. A name belongs to one stream of lines: use another one for another file.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// File to send, plain or gzip; - for stdin
    file: String,
    /// The daemon's event socket, as unix:PATH
    #[arg(long, value_name = "unix:PATH", env = "TALLY_TO", value_parser = address)]
    to: PathBuf,
    /// Wait until the daemon has made every line durable
    #[arg(long)]
    ack: bool,
    /// Name of this stream of lines (1 to 128 printable ASCII characters), to resume by; implies --ack
    #[arg(long, value_name = "ID", value_parser = producer)]
    producer: Option<String>,
    /// Begin at this line of the file; the first is 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// With --producer: how long to try again without any progress
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    retry_for: Duration,
    /// What the summary on stdout looks like
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The form of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One sentence.
    Text,
    /// One JSON object.
    Json,
}

const EXAMPLE: &str = "\
Example:
  tally send events.ndjson.gz --to unix:/tmp/tally.sock --ack --producer events-2026-01-27
  tally generate --events 1000000 --seed 1 | tally send - --to unix:/tmp/tally.sock --ack";

fn address(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("write the daemon's event socket as unix:PATH, e.g. unix:/tmp/tally.sock".to_string()),
    }
}

fn producer(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match (1..=128).contains(&text.len()) && printable {
        true => Ok(text.to_string()),
        false => Err("a producer's name has 1 to 128 printable ASCII characters".to_string()),
    }
}

/// Sends, prints the summary, and fails unless everything arrived.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let output = args.output;
    let (summary, outcome) = send(args)?;
    print(&match output {
        Output::Text => summary.text(),
        Output::Json => summary.json(),
    })?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// What was achieved, and whether it was everything. The outer error is one of reading the file.
fn send(args: Args) -> anyhow::Result<(Summary, anyhow::Result<()>)> {
    let mut source = Source::open(&args.file)?;
    let before = args.from_line - 1;
    let skipped = source.skip_lines(before)?;
    if skipped < before {
        return Err(
            Usage(anyhow::anyhow!("--from-line {}: {} has only {skipped} lines", args.from_line, args.file)).into()
        );
    }
    let meter = Meter::start(source.size());
    if args.ack || args.producer.is_some() {
        return Ok(acknowledged::send(&args, source, meter));
    }
    Ok(plain(&args, source, meter))
}

/// Without acknowledgements: writes everything and waits for the daemon to have taken it from the socket.
fn plain(args: &Args, mut source: Source, mut meter: Meter) -> (Summary, anyhow::Result<()>) {
    let mut summary = Summary::new(false);
    let outcome = pour(args, &mut source, &mut meter, &mut summary);
    summary.seconds = meter.seconds();
    summary.complete = outcome.is_ok();
    meter.end();
    (summary, outcome)
}

fn pour(args: &Args, source: &mut Source, meter: &mut Meter, summary: &mut Summary) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(&args.to).map_err(|error| explain_connect(&args.to, error))?;
    let mut block = Vec::new();
    while source.next(&mut block)? {
        stream.write_all(&block).with_context(|| {
            format!("{} closed the connection; lines may be lost, --ack would tell which", args.to.display())
        })?;
        summary.lines += source::count_lines(&block);
        meter.show(source.consumed(), summary.lines, None);
    }
    // The daemon closes its side when it has read everything.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    Ok(())
}
