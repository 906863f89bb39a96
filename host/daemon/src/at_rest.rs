//! A data directory's log at rest, for `tally log`: what is in it, how damage can be given up, and what that means for the saved
//! state. The log's own part is done by its crate; this knows where things lie and what the state store needs of the log.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use tally_storage::RealStorage;
pub use tally_wal::Keep;
use tally_wal::{Corruption, Repair, SegmentState};

use crate::aggregator::{Meta, line};
use crate::records::Cursor;
use crate::{LOG_FOLDER, pipeline};

/// What is in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The log's folder.
    pub log: PathBuf,
    /// Valid frames in all segments.
    pub frames: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Segments with damage.
    pub damaged: u64,
    /// Oldest first, with an entry where one is missing.
    pub segments: Vec<Segment>,
}

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Its name in the log's folder.
    pub file: String,
    /// `sealed`, `open` (the one to be written to) or `damaged`.
    pub state: &'static str,
    /// Version of its format; none when its header cannot be read.
    pub version: Option<u32>,
    /// Number of the first frame.
    pub first_frame: Option<u64>,
    /// Number of the last valid frame.
    pub last_frame: Option<u64>,
    /// Sequence of the first event; none when there is none.
    pub first_sequence: Option<u64>,
    /// Sequence of the last event in the valid frames.
    pub last_sequence: Option<u64>,
    /// Valid frames.
    pub frames: u64,
    /// Events in them.
    pub events: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Bytes up to the end of the last valid frame.
    pub used: u64,
    /// An unfinished or unsynced end: no damage, the next start cuts it.
    pub tail: Option<Tail>,
    /// What is wrong.
    pub damage: Option<Damage>,
}

/// The end of a log that a crash left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tail {
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// Events in it, as far as can be told.
    pub events: u64,
}

/// Bytes that were a frame or a header once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file with its path.
    pub file: String,
    /// Byte in the file.
    pub offset: u64,
    /// The frame that should be there; none for a segment's header.
    pub frame: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl From<&Corruption> for Damage {
    fn from(damage: &Corruption) -> Self {
        let Corruption { file, offset, frame, what, .. } = damage.clone();
        Self { file, offset, frame: (frame > 0).then_some(frame), what }
    }
}

impl From<&SegmentState> for Segment {
    fn from(one: &SegmentState) -> Self {
        let state = match (&one.damage, one.sealed) {
            (Some(_), _) => "damaged",
            (None, true) => "sealed",
            (None, false) => "open",
        };
        Self {
            file: one.file.clone(),
            state,
            version: (one.version > 0).then_some(one.version),
            first_frame: (one.first_frame > 0).then_some(one.first_frame),
            last_frame: one.last_frame(),
            first_sequence: (one.events > 0).then_some(one.first_sequence),
            last_sequence: one.last_sequence(),
            frames: one.frames,
            events: one.events,
            bytes: one.bytes,
            used: one.used,
            tail: one.tail.as_ref().map(|tail| Tail { offset: tail.offset, bytes: tail.bytes, events: tail.events }),
            damage: one.damage.as_ref().map(Damage::from),
        }
    }
}

/// Lists the log of a data directory. Changes nothing and takes no lock: beside a running daemon it shows some recent moment.
pub fn inspect(data_dir: &Path) -> anyhow::Result<Listing> {
    let log = data_dir.join(LOG_FOLDER);
    let storage = RealStorage::read_only(&log).with_context(|| opening(&log))?;
    let found = tally_wal::inspect(&storage)?.segments;
    Ok(Listing {
        log,
        frames: found.iter().map(|segment| segment.frames).sum(),
        events: found.iter().map(|segment| segment.events).sum(),
        bytes: found.iter().map(|segment| segment.bytes).sum(),
        damaged: found.iter().filter(|segment| segment.damage.is_some()).count() as u64,
        segments: found.iter().map(Segment::from).collect(),
    })
}

fn opening(log: &Path) -> String {
    format!("opening the log in {}", log.display())
}

/// What was done about the damage of a log, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// The log's folder.
    pub log: PathBuf,
    /// The damage it is about; none if there is none, and then nothing is or was done.
    pub damage: Option<Damage>,
    /// Oldest and last frame that are kept; none when nothing is.
    pub kept_frames: Option<(u64, u64)>,
    /// The last sequence given in what is kept: the next event gets the one after it.
    pub kept_sequence: u64,
    /// Frames given up, as far as can be told.
    pub lost_frames: u64,
    /// Events given up, as far as can be told.
    pub lost_events: u64,
    /// The segment that is cut.
    pub cut: Option<Cut>,
    /// Segments that are moved to the quarantine as they are.
    pub moved: Vec<String>,
    /// The folder that holds a copy of the segment that is cut, and those that are moved.
    pub quarantine: Option<PathBuf>,
    /// Whether it was done.
    pub applied: bool,
    /// What it means for the saved state, and what is left to do by hand.
    pub notes: Vec<String>,
}

/// Where a segment is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Its file.
    pub file: String,
    /// From this byte on.
    pub offset: u64,
}

/// Repairs the log of a data directory, or only says how. Doing it takes the locks of directory and log.
pub fn repair(data_dir: &Path, keep: Keep, apply: bool) -> anyhow::Result<RepairReport> {
    let log = data_dir.join(LOG_FOLDER);
    // Before any lock: a directory that is mistyped is not made.
    let looking = RealStorage::read_only(&log).with_context(|| opening(&log))?;
    let _lock = apply.then(|| pipeline::lock(data_dir)).transpose()?;
    let saved = Saved::read(data_dir);
    let done = if apply {
        let storage = RealStorage::new(&log).with_context(|| opening(&log))?;
        tally_wal::repair(&storage, keep, true)?
    } else {
        tally_wal::repair(&looking, keep, false)?
    };
    let Some(done) = done else { return Ok(undamaged(log)) };
    let mut notes = notes(data_dir, keep, &done, &saved);
    if !apply && keep == Keep::Before {
        let other = tally_wal::repair(&looking, Keep::After, false)?;
        notes.extend(other.and_then(|other| better_after(&other, &done, &saved)));
    }
    let nothing_kept = done.last_frame == 0;
    Ok(RepairReport {
        damage: Some(Damage::from(&done.damage)),
        kept_frames: (!nothing_kept).then_some((done.first_frame, done.last_frame)),
        kept_sequence: done.last_sequence,
        lost_frames: done.lost_frames,
        lost_events: done.lost_events,
        cut: done.cut.map(|cut| Cut { file: cut.file, offset: cut.offset }),
        moved: done.moved,
        quarantine: Some(log.join(done.quarantine)),
        applied: done.applied,
        notes,
        log,
    })
}

fn undamaged(log: PathBuf) -> RepairReport {
    RepairReport {
        log,
        damage: None,
        kept_frames: None,
        kept_sequence: 0,
        lost_frames: 0,
        lost_events: 0,
        cut: None,
        moved: Vec::new(),
        quarantine: None,
        applied: false,
        notes: Vec::new(),
    }
}

/// Up to which frame of the log each aggregator, and the analytics files, are saved; or why that cannot be told.
struct Saved(Result<Vec<(String, u64)>, String>);

impl Saved {
    fn read(data_dir: &Path) -> Self {
        if !data_dir.join(tally_state::FILE_NAME).exists() {
            return Self(Ok(Vec::new()));
        }
        Self(saved_frames(data_dir).map_err(|error| format!("{error:#}")))
    }

    /// Names of those for which that is so; none where it cannot be told.
    fn with(&self, is_so: impl Fn(u64) -> bool) -> Vec<&str> {
        let all = self.0.as_ref().map_or(&[][..], Vec::as_slice);
        all.iter().filter(|(_, frame)| is_so(*frame)).map(|(name, _)| name.as_str()).collect()
    }
}

fn saved_frames(data_dir: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let store = tally_state::Store::open_read_only(&RealStorage::read_only(data_dir)?)?;
    let mut frames = Vec::new();
    for name in line::aggregators(&store)? {
        if let Some(saved) = store.load(&name)? {
            let frame = Meta::from_bytes(&name, &saved.meta)?.frame;
            frames.push((name, frame));
        }
    }
    let records = Cursor::load(&store)?.log.frame;
    if records > 0 {
        frames.push(("the analytics files".to_owned(), records));
    }
    Ok(frames)
}

/// What an operator has to know and do, given what is kept.
fn notes(data_dir: &Path, keep: Keep, done: &Repair, saved: &Saved) -> Vec<String> {
    let state = data_dir.join(tally_state::FILE_NAME);
    let aside = data_dir.join(LOG_FOLDER).join(&done.quarantine);
    let (first, last, next) = (done.first_frame, done.last_frame, done.last_sequence + 1);
    let mut notes = Vec::new();
    if let Err(error) = &saved.0 {
        notes.push(format!(
            "{} cannot be read now ({error}), so it is not known what it needs of the log; a daemon refuses to start with a state \
             that does not fit",
            state.display()
        ));
    }
    if last == 0 {
        notes.push(
            "nothing of the log is kept, so it would begin anew with sequence 1: rather put the file back from a copy, or move the data \
             directory away and start with a new one"
                .to_owned(),
        );
        return notes;
    }
    match keep {
        Keep::Before => {
            let ahead = saved.with(|frame| frame > last);
            if !ahead.is_empty() {
                notes.push(format!(
                    "saved from frames behind {last}, which the log will not have: {}. The daemon refuses to start with that state.",
                    ahead.join(", ")
                ));
                notes.push(way_back(&state, &aside, first));
            } else if saved.0.is_ok() {
                notes.push("no saved state is newer than what is kept: the daemon starts with it".to_owned());
            }
            notes.push(format!(
                "new events get sequences from {next} on, and new records the batch numbers of those given up: whoever was told \
                 these before must know"
            ));
        }
        Keep::After => {
            let behind = saved.with(|frame| frame < first);
            if !behind.is_empty() {
                notes.push(format!(
                    "saved only up to frames before {first}, and in need of what is given up: {}. The daemon refuses to start with \
                     that state; keep what is before the damage instead, or put the segments back from a copy.",
                    behind.join(", ")
                ));
            } else if saved.0.is_ok() {
                notes.push(
                    "no saved state needs what is given up: the daemon starts, as if the log had let these segments go. Aggregators that \
                     are added begin with what is kept; tally verify works again once the log has written its next anchor."
                        .to_owned(),
                );
            }
        }
    }
    notes
}

/// How to get on with a log that ends before the saved state.
fn way_back(state: &Path, aside: &Path, first_frame: u64) -> String {
    let (state, aside) = (state.display(), aside.display());
    match first_frame {
        1 => format!(
            "The log still begins with its first frame, so everything can be counted anew from it: mv {state} {aside}/ and start the \
             daemon; it also writes the analytics files anew and keeps a copy of the old ones."
        ),
        _ => format!(
            "The log does not begin with its first frame any more, so the state cannot be counted anew from it: put back a copy of \
             {state} from before the damage, or start with a new data directory."
        ),
    }
}

/// Whether keeping what is after the damage costs nothing that is not counted already.
fn better_after(other: &Repair, this: &Repair, saved: &Saved) -> Option<String> {
    let all = saved.0.as_ref().ok()?;
    let fits = other.last_frame > 0 && !all.is_empty() && all.iter().all(|(_, frame)| *frame >= other.first_frame);
    fits.then(|| {
        format!(
            "every saved state is newer than the damage: --keep after gives up {} events, all of them counted, instead of {}, and needs \
             nothing else",
            other.lost_events, this.lost_events
        )
    })
}
