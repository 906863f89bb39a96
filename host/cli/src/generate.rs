//! `tally generate`: a workload that is the same, byte for byte, for a seed on any machine.
//!
//! Line *i* is a pure function of the options and *i*: integers only (and the four exact floating-point operations where
//! the tables of popularity are made), nothing taken from the machine. It must not know how lines are sent, nor share
//! code with what decodes them: tests compare the two.

mod faults;
mod popularity;
mod random;
mod timestamp;
mod workload;

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::progress::Meter;
use random::Share;
use workload::{Mix, Workload};

/// Output is handed over in pieces of about this size.
const PIECE: usize = 256 * 1024;

/// Prints a reproducible stream of events, one JSON object a line.
///
/// Lines are 1 ms apart, starting at 2026-01-27T10:00:00Z. Users follow Zipf's law with exponent 1.0 over a million,
/// posts with 1.1 over ten thousand. Shares are parts of all lines; each line is of one kind.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  tally generate --events 100000 --homepage 10% > events.ndjson
  tally generate --events 1000000 --seed 7 --invalid 0.01 | tally send - --to unix:/tmp/tally.sock --ack
  tally generate --follow --rate 5000 | tally send - --to unix:/tmp/tally.sock")]
pub struct Args {
    /// Number of lines
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub events: u64,
    /// Seed: the same number gives the same bytes, on any machine
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Share of `homepage_fetch` events, such as 0.1 or 10%
    #[arg(long, value_name = "SHARE", default_value_t)]
    pub homepage: Share,
    /// Share of lines that no daemon accepts: bad JSON, UTF-8, type, timestamp, too deep, too long, or an action whose
    /// user is missing or a number
    #[arg(long, value_name = "SHARE", default_value_t)]
    pub invalid: Share,
    /// Share of events whose type no first-party plugin asks for
    #[arg(long, value_name = "SHARE", default_value_t)]
    pub unsubscribed: Share,
    /// Share of accepted actions that `video-actions` refuses: an unknown action, a resource that is no post
    #[arg(long, value_name = "SHARE", default_value_t)]
    pub refused: Share,
    /// Share of lines whose timestamp lies up to a minute before its place
    #[arg(long, value_name = "SHARE", default_value_t)]
    pub disorder: Share,
    /// Add a nested `properties` object to actions and homepage fetches, which makes lines about 500 bytes long
    #[arg(long)]
    pub wide: bool,
    /// Lines per second; without it, as fast as they are taken
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Go on until the reader closes
    #[arg(long, conflicts_with = "events")]
    pub follow: bool,
}

/// Prints the workload to stdout. A reader that closes early (`head`) ends it without an error.
pub fn run(args: Args) -> Result<()> {
    let events = if args.follow { u64::MAX } else { args.events };
    let workload = Workload::new(args.seed, mix(&args)?);
    let mut meter = Meter::on((!args.follow).then_some(args.events), watched());
    let outcome = write(workload, events, args.rate, &mut io::stdout().lock(), &mut meter);
    meter.end();
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the generated lines to stdout"),
    }
}

fn mix(args: &Args) -> Result<Mix> {
    Mix::new(args.invalid, args.unsubscribed, args.refused, args.homepage, args.disorder, args.wide).context(
        "--invalid, --unsubscribed, --refused and --homepage are parts of all lines and must not exceed 1 together",
    )
}

/// Lines that go to a file leave the terminal free for a bar; a reader may have one of its own.
fn watched() -> bool {
    let to_file =
        rustix::fs::fstat(io::stdout()).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
    to_file && io::stderr().is_terminal()
}

fn write(
    mut workload: Workload,
    events: u64,
    rate: Option<u64>,
    to: &mut impl Write,
    meter: &mut Meter,
) -> io::Result<()> {
    let mut pace = rate.map(Pace::new);
    let mut piece = Vec::with_capacity(PIECE + 4096);
    let mut left = events;
    while left > 0 {
        let most = pace.as_ref().map_or(u64::MAX, |pace| pace.slice).min(left);
        let mut made = 0;
        while made < most && piece.len() < PIECE {
            workload.line(&mut piece);
            made += 1;
        }
        to.write_all(&piece)?;
        piece.clear();
        left -= made;
        let written = events - left;
        meter.show(written, |seconds| format!("{written} lines, {:.0} lines/s", written as f64 / seconds));
        if let Some(pace) = &mut pace {
            to.flush()?;
            pace.wait(made);
        }
    }
    to.flush()
}

/// Spreads lines evenly over time: fifty slices a second, or one line at a time below that.
struct Pace {
    rate: u64,
    slice: u64,
    made: u64,
    started: Instant,
}

#[allow(clippy::disallowed_methods, reason = "when a line is written, never what is in it, depends on this clock")]
impl Pace {
    fn new(rate: u64) -> Self {
        Pace { rate, slice: (rate / 50).max(1), made: 0, started: Instant::now() }
    }

    fn wait(&mut self, made: u64) {
        self.made += made;
        let due = Duration::from_secs_f64(self.made as f64 / self.rate as f64);
        thread::sleep(due.saturating_sub(self.started.elapsed()));
    }
}

#[cfg(test)]
mod tests;
