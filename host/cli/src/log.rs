//! `tally log`: looks at the log of a data directory and repairs it. The work is the daemon's; this prints what it found.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use tally_daemon::at_rest::{self, Listing, RepairReport};
use tally_daemon::config::{Config, Flags};

use crate::outcome::{Usage, print};
use crate::render::{self, Output};

/// Looks at the log of a data directory, and repairs it.
#[derive(Debug, Subcommand)]
pub enum Command {
    Inspect(Inspect),
    Repair(Repair),
}

/// Lists the log's segments: frames, sequences, sizes, damage.
///
/// Changes nothing. Works beside a running daemon too; it then shows the log as of some recent moment, and the end of the
/// last segment may be in the middle of being written. Ends with exit code 1 if there is damage.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tally log inspect data\n  tally log inspect --config tally.toml --output json")]
pub struct Inspect {
    #[command(flatten)]
    place: Place,
    /// What the list looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Makes a damaged log whole by giving up a part of it; says how, and does it with --apply.
///
/// Everything that is given up goes to the folder quarantine-N in the log's folder: no byte is deleted. Needs a daemon that
/// is not running. Put the damaged file back from a copy if there is one: that loses nothing. Ends with exit code 1 while
/// the log is damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tally log repair data\n  tally log repair data --apply")]
pub struct Repair {
    #[command(flatten)]
    place: Place,
    /// Do it, instead of saying what would be done
    #[arg(long)]
    apply: bool,
    /// Which part is kept
    #[arg(long, value_enum, default_value_t = Keep::Before)]
    keep: Keep,
    /// What the report looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Keep {
    /// Everything up to the first damage
    Before,
    /// The segments after the last damage: when all saved state is newer than that
    After,
}

/// Where the log lies.
#[derive(Debug, clap::Args)]
struct Place {
    /// The data directory
    #[arg(value_name = "DIR", env = "TALLY_DATA_DIR", required_unless_present_any = ["data_dir", "config"])]
    dir: Option<PathBuf>,
    /// The data directory, as other subcommands take it
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    /// The daemon's configuration file, which names the data directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn data_dir(self) -> anyhow::Result<PathBuf> {
        let given = self.data_dir.or_else(|| self.dir.filter(|_| self.config.is_none()));
        match (given, self.config) {
            (Some(dir), _) => Ok(dir),
            (None, file) => {
                let config = Config::load(file.as_deref(), Flags::default());
                Ok(config.map_err(|error| Usage(error.into()))?.data_dir)
            }
        }
    }
}

/// Runs one of them.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(args) => inspect(args),
        Command::Repair(args) => repair(args),
    }
}

fn inspect(args: Inspect) -> anyhow::Result<ExitCode> {
    let data_dir = args.place.data_dir()?;
    let listing =
        at_rest::inspect(&data_dir).with_context(|| format!("cannot list the log of {}", data_dir.display()))?;
    print(&match args.output {
        Output::Table => listed(&listing),
        Output::Json => serde_json::to_string(&listing)? + "\n",
    })?;
    Ok(if listing.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repair(args: Repair) -> anyhow::Result<ExitCode> {
    let data_dir = args.place.data_dir()?;
    let keep = match args.keep {
        Keep::Before => at_rest::Keep::Before,
        Keep::After => at_rest::Keep::After,
    };
    let report = at_rest::repair(&data_dir, keep, args.apply)
        .with_context(|| format!("cannot repair the log of {}", data_dir.display()))?;
    print(&match args.output {
        Output::Table => repaired(&report),
        Output::Json => serde_json::to_string(&report)? + "\n",
    })?;
    Ok(if report.damage.is_none() || report.applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn listed(listing: &Listing) -> String {
    let Listing { log, frames, events, bytes, segments, damaged } = listing;
    let rows: Vec<Value> = segments
        .iter()
        .map(|one| {
            json!({
                "segment": one.file, "state": one.state, "version": one.version,
                "frames": range(one.first_frame, one.last_frame), "sequences": range(one.first_sequence, one.last_sequence),
                "events": one.events, "used": one.used, "bytes": one.bytes,
            })
        })
        .collect();
    let mut text = render::answer(&Value::Array(rows), Output::Table);
    let _ = writeln!(
        text,
        "{}: {frames} frames, {events} events, {bytes} bytes in {} segments",
        log.display(),
        segments.iter().filter(|one| one.bytes > 0).count()
    );
    for one in segments {
        if let Some(tail) = &one.tail {
            let _ = writeln!(
                text,
                "{} ends in {} bytes (of {} events) from byte {} on that are no whole frame: a crash left them and the next start \
                 cuts them, or a daemon is writing them now",
                one.file, tail.bytes, tail.events, tail.offset
            );
        }
        if let Some(damage) = &one.damage {
            let _ = writeln!(text, "damaged: {}", place(damage));
        }
    }
    if *damaged > 0 {
        let dir = log.parent().unwrap_or(log).display();
        let _ = writeln!(text, "see what can be done: tally log repair {dir}");
    }
    text
}

fn range(first: Option<u64>, last: Option<u64>) -> Value {
    match (first, last) {
        (Some(first), Some(last)) => json!(format!("{first}-{last}")),
        _ => Value::Null,
    }
}

fn place(damage: &at_rest::Damage) -> String {
    let frame = damage.frame.map_or("its header".to_owned(), |frame| format!("frame {frame}"));
    format!("{} at byte {}, {frame}: {}", damage.file, damage.offset, damage.what)
}

fn repaired(report: &RepairReport) -> String {
    let (Some(damage), Some(quarantine)) = (&report.damage, &report.quarantine) else {
        return format!("{}: no damage, nothing to repair\n", report.log.display());
    };
    let quarantine = quarantine.display();
    let mut text = format!("damaged: {}\n", place(damage));
    let mut line = |what: &str, detail: String| {
        let _ = writeln!(text, "{} {what:8} {detail}", if report.applied { "     " } else { "would" });
    };
    match report.kept_frames {
        Some((first, last)) => {
            line("keep", format!("frames {first} to {last}, up to sequence {}", report.kept_sequence));
        }
        None => line("keep", "nothing".to_owned()),
    }
    line("give up", format!("{} frames, {} events, as far as can be told", report.lost_frames, report.lost_events));
    if let Some(cut) = &report.cut {
        line("cut", format!("{} from byte {} on, after a copy of it in {quarantine}", cut.file, cut.offset));
    }
    if !report.moved.is_empty() {
        line("move", format!("{} to {quarantine}", report.moved.join(", ")));
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text += if report.applied { "done\n" } else { "nothing was changed; --apply does it\n" };
    text
}
