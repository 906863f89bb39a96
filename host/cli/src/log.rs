//! `tally log`: looks at the log of a data directory and repairs it. The work is the daemon's; this prints what it found.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use tally_daemon::at_rest::{self, Listing, RepairReport};
use tally_daemon::config::Sources;

use crate::outcome::{Usage, print};
use crate::render::{self, Output, Paint};

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
    /// The data directory [env: TALLY_DATA_DIR]
    #[arg(value_name = "DIR", conflicts_with_all = ["data_dir", "config"])]
    dir: Option<PathBuf>,
    /// The data directory, as other subcommands take it
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    /// The daemon's configuration file, which names the data directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    /// What is on the command line comes before the environment.
    fn data_dir(self) -> anyhow::Result<PathBuf> {
        if let Some(file) = self.config {
            let sources = Sources { file: Some(file), environment: Sources::environment(), flags: Vec::new() };
            return Ok(sources.load().map_err(|error| Usage(error.into()))?.config.data_dir);
        }
        let from_environment = || std::env::var_os("TALLY_DATA_DIR").map(PathBuf::from);
        let given = self.dir.or(self.data_dir).or_else(from_environment);
        given.ok_or_else(|| Usage(anyhow!("no data directory: give DIR, --config FILE or TALLY_DATA_DIR")).into())
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
        Output::Table => listed(&listing, Paint::stdout()),
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

fn listed(listing: &Listing, paint: Paint) -> String {
    let Listing { log, frames, events, bytes, segments, damaged } = listing;
    let rows: Vec<Value> = segments
        .iter()
        .map(|one| {
            json!({
                "name": one.file, "state": one.state, "version": one.version,
                "frames": range(one.first_frame, one.last_frame), "sequences": range(one.first_sequence, one.last_sequence),
                "events": one.events, "used": one.used, "bytes": one.bytes,
            })
        })
        .collect();
    let mut text = render::answer(&Value::Array(rows), Output::Table, paint);
    let _ = writeln!(text, "{}: {frames} frames and {events} events in {bytes} bytes of segments", log.display());
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
    let mut line = |wanted: &str, done: &str, detail: String| {
        let _ = writeln!(text, "{:14} {detail}", if report.applied { done } else { wanted });
    };
    match report.kept_frames {
        Some((first, last)) => {
            line("would keep", "kept", format!("frames {first} to {last}, up to sequence {}", report.kept_sequence));
        }
        None => line("would keep", "kept", "nothing".to_owned()),
    }
    line(
        "would give up",
        "gave up",
        format!("{} frames, {} events, as far as can be told", report.lost_frames, report.lost_events),
    );
    if let Some(cut) = &report.cut {
        line(
            "would cut",
            "cut",
            format!("{} from byte {} on, after a copy of it in {quarantine}", cut.file, cut.offset),
        );
    }
    if !report.moved.is_empty() {
        line("would move", "moved", format!("{} to {quarantine}", report.moved.join(", ")));
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text += if report.applied { "done\n" } else { "nothing was changed; --apply does it\n" };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use expect_test::{Expect, expect};

    const SEGMENT: &str = "data/wal/wal_0000000001.seg";

    /// A data directory whose log has one segment of five frames, with one byte changed.
    fn data_dir(flipped: Option<usize>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("data/wal")).unwrap();
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../wal/tests/golden/wal_v2.seg");
        let mut bytes = std::fs::read(golden).unwrap();
        if let Some(at) = flipped {
            bytes[at] ^= 1;
        }
        std::fs::write(folder.path().join(SEGMENT), bytes).unwrap();
        folder
    }

    fn check_listed(folder: &tempfile::TempDir, expected: Expect) {
        let listing = at_rest::inspect(&folder.path().join("data")).unwrap();
        expected.assert_eq(&relative(&listed(&listing, Paint::PLAIN), folder));
    }

    fn check_repaired(folder: &tempfile::TempDir, keep: at_rest::Keep, apply: bool, expected: Expect) {
        let report = at_rest::repair(&folder.path().join("data"), keep, apply).unwrap();
        expected.assert_eq(&relative(&repaired(&report), folder));
    }

    fn relative(text: &str, folder: &tempfile::TempDir) -> String {
        text.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn a_log_is_listed() {
        check_listed(
            &data_dir(None),
            expect![[r#"
                name                frames  sequences  state  bytes  events  used  version
                wal_0000000001.seg  1-5     1-3        open    8192       3  4384        2
                data/wal: 5 frames and 3 events in 8192 bytes of segments
            "#]],
        );
        // The last frame: a crash may have left it.
        check_listed(
            &data_dir(Some(4360)),
            expect![[r#"
                name                frames  sequences  state  bytes  events  used  version
                wal_0000000001.seg  1-4     1-3        open    8192       3  4336        2
                data/wal: 4 frames and 3 events in 8192 bytes of segments
                wal_0000000001.seg ends in 44 bytes (of 0 events) from byte 4336 on that are no whole frame: a crash left them and the next start cuts them, or a daemon is writing them now
            "#]],
        );
        check_listed(
            &data_dir(Some(4200)),
            expect![[r#"
                name                frames  state    bytes  events  sequences  used  version
                wal_0000000001.seg  1-1     damaged   8192       0          -  4152        2
                data/wal: 1 frames and 0 events in 8192 bytes of segments
                damaged: data/wal/wal_0000000001.seg at byte 4152, frame 2: the checksum of the frame differs, and a later frame stands at byte 4224; that at byte 4336 was written when this one was durable
                see what can be done: tally log repair data
            "#]],
        );
        check_listed(
            &data_dir(Some(100)),
            expect![[r#"
                name                state    bytes  events  frames  sequences  used  version
                wal_0000000001.seg  damaged   8192       0       -          -     0        -
                data/wal: 0 frames and 0 events in 8192 bytes of segments
                damaged: data/wal/wal_0000000001.seg at byte 0, its header: the checksum of the segment's header differs
                see what can be done: tally log repair data
            "#]],
        );
    }

    #[test]
    fn a_log_is_repaired_when_told_to() {
        let whole = data_dir(None);
        check_repaired(
            &whole,
            at_rest::Keep::Before,
            true,
            expect![[r#"
            data/wal: no damage, nothing to repair
        "#]],
        );
        let damaged = data_dir(Some(4200));
        let before = std::fs::read(damaged.path().join(SEGMENT)).unwrap();
        check_repaired(
            &damaged,
            at_rest::Keep::After,
            false,
            expect![[r#"
                damaged: data/wal/wal_0000000001.seg at byte 4152, frame 2: the checksum of the frame differs, and a later frame stands at byte 4224; that at byte 4336 was written when this one was durable
                would keep     nothing
                would give up  5 frames, 3 events, as far as can be told
                would move     wal_0000000001.seg to data/wal/quarantine-1
                note: nothing of the log is kept, so it would begin anew with sequence 1: rather put the file back from a copy, or move the data directory away and start with a new one
                nothing was changed; --apply does it
            "#]],
        );
        check_repaired(
            &damaged,
            at_rest::Keep::Before,
            false,
            expect![[r#"
                damaged: data/wal/wal_0000000001.seg at byte 4152, frame 2: the checksum of the frame differs, and a later frame stands at byte 4224; that at byte 4336 was written when this one was durable
                would keep     frames 1 to 1, up to sequence 0
                would give up  4 frames, 3 events, as far as can be told
                would cut      wal_0000000001.seg from byte 4152 on, after a copy of it in data/wal/quarantine-1
                note: no saved state is newer than what is kept: the daemon starts with it
                note: new events get sequences from 1 on, and new records the batch numbers of those given up: whoever was told these before must know
                nothing was changed; --apply does it
            "#]],
        );
        assert_eq!(std::fs::read(damaged.path().join(SEGMENT)).unwrap(), before);
        check_repaired(
            &damaged,
            at_rest::Keep::Before,
            true,
            expect![[r#"
                damaged: data/wal/wal_0000000001.seg at byte 4152, frame 2: the checksum of the frame differs, and a later frame stands at byte 4224; that at byte 4336 was written when this one was durable
                kept           frames 1 to 1, up to sequence 0
                gave up        4 frames, 3 events, as far as can be told
                cut            wal_0000000001.seg from byte 4152 on, after a copy of it in data/wal/quarantine-1
                note: no saved state is newer than what is kept: the daemon starts with it
                note: new events get sequences from 1 on, and new records the batch numbers of those given up: whoever was told these before must know
                done
            "#]],
        );
        let aside = damaged.path().join("data/wal/quarantine-1/wal_0000000001.seg");
        assert_eq!(std::fs::read(aside).unwrap(), before);
        check_repaired(
            &damaged,
            at_rest::Keep::Before,
            true,
            expect![[r#"
            data/wal: no damage, nothing to repair
        "#]],
        );
        check_listed(
            &damaged,
            expect![[r#"
                name                frames  state  bytes  events  sequences  used  version
                wal_0000000001.seg  1-1     open    8192       0          -  4152        2
                data/wal: 1 frames and 0 events in 8192 bytes of segments
            "#]],
        );
    }

    #[test]
    fn a_directory_in_use_is_not_repaired() {
        let damaged = data_dir(Some(4200));
        let lock = std::fs::File::create(damaged.path().join("data/tally.lock")).unwrap();
        lock.lock().unwrap();
        let error = at_rest::repair(&damaged.path().join("data"), at_rest::Keep::Before, true).unwrap_err();
        assert_eq!(
            relative(&format!("{error:#}"), &damaged),
            "data is in use by another process: one daemon per data directory"
        );
        assert!(!damaged.path().join("data/wal/quarantine-1").exists());
    }

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn the_data_directory_is_given_in_any_way_and_never_made() {
        let folder = data_dir(None);
        let config = folder.path().join("tally.toml");
        std::fs::write(&config, "data_dir = 'data'\nplugins_dir = 'plugins'\n[unix]\npath = 't.sock'\n").unwrap();
        let data = folder.path().join("data");
        let (data, config) = (data.display(), config.display());
        for line in [format!("{data}"), format!("--data-dir {data}"), format!("--config {config}")] {
            for command in ["inspect", "repair", "repair --apply"] {
                let words = format!("log {command} {line}");
                let parsed = Line::try_parse_from(words.split(' ')).unwrap();
                run(parsed.command).unwrap();
            }
        }
        Line::try_parse_from(["log", "inspect", "one", "--data-dir", "other"]).err().unwrap();
        for command in ["inspect nowhere", "repair nowhere", "repair nowhere --apply"] {
            let parsed = Line::try_parse_from(format!("log {command}").split(' ')).unwrap();
            let error = format!("{:#}", run(parsed.command).unwrap_err());
            assert!(error.contains("opening the log in nowhere/wal: No such file"), "{error}");
        }
        assert!(!std::path::Path::new("nowhere").exists());
    }
}
