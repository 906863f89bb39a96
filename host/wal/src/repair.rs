//! Makes a damaged log whole again by giving up a part of it: what comes from the first damage on, or what comes up to the last.
//!
//! No byte is ever deleted. A segment that is cut is copied whole before its end is zeroed; other segments are moved as they are, from
//! the end of the log that is given up, each durably before the next. So whenever this is interrupted, the log is without a gap of its
//! own making, has the damage still, and the same call goes on (or finds only a tail left, which the next start cuts). What state was made of frames that are cut is not this crate's to know.

use std::io;

use tally_storage::{Storage, StorageFile};

use crate::error::{Corruption, OpenError, RepairError};
use crate::format::VERSION;
use crate::inspect::{SegmentState, inspect};
use crate::recover::{LOCK, read_whole};
use crate::segments::numbered;

/// Which part of a damaged log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Everything up to the first damage.
    #[default]
    Before,
    /// The segments behind the last damaged one. Only for those who need nothing older, as after a deletion.
    After,
}

/// What [`repair`] did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The first damage, or the last one if what is after it is kept.
    pub damage: Corruption,
    /// The oldest frame kept; 0 if none is.
    pub first_frame: u64,
    /// The last frame kept; 0 if none is.
    pub last_frame: u64,
    /// Sequence of the last event kept, or given to one before what is kept; 0 if there was none.
    pub last_sequence: u64,
    /// Frames given up, as far as headers are left that tell.
    pub lost_frames: u64,
    /// Events given up, as far as headers are left that tell.
    pub lost_events: u64,
    /// The segment that is cut, unless nothing in it is kept: a copy of all of it is in the quarantine.
    pub cut: Option<Cut>,
    /// Segments that are moved to the quarantine as they are, oldest first.
    pub moved: Vec<String>,
    /// The folder within the log's that everything goes to.
    pub quarantine: String,
    /// Whether it was done.
    pub applied: bool,
}

/// Where a segment is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// File name of the segment.
    pub file: String,
    /// Everything from this byte on is zeroed.
    pub offset: u64,
    /// So many frames before it are kept.
    pub frames: u64,
}

/// Says how the log in `storage` can be made whole again, and does it if `apply` is true; `None` if there is no damage.
///
/// What a crash leaves at the end of a log is no damage: the next start cuts it by itself. Saying it takes no lock and may be asked of
/// a read-only storage; doing it takes the log's lock, so it is refused while a daemon has the log open.
pub fn repair<S: Storage>(storage: &S, keep: Keep, apply: bool) -> Result<Option<Repair>, RepairError> {
    if !apply {
        return plan(storage, keep);
    }
    let lock = storage.lock(LOCK).map_err(OpenError::io(storage, "lock", LOCK))?;
    let Some(_lock) = lock else {
        return Err(OpenError::Locked { file: storage.describe(LOCK) }.into());
    };
    let Some(mut repair) = plan(storage, keep)? else { return Ok(None) };
    carry_out(storage, keep, &repair)?;
    repair.applied = true;
    Ok(Some(repair))
}

fn plan<S: Storage>(storage: &S, keep: Keep) -> Result<Option<Repair>, RepairError> {
    let segments = inspect(storage)?.segments;
    let newer = segments.iter().find(|segment| segment.version > VERSION);
    if let Some(SegmentState { file, version, .. }) = newer {
        let file = storage.describe(file);
        return Err(OpenError::UnknownVersion { file, version: *version, known: VERSION }.into());
    }
    let is_damaged = |segment: &SegmentState| segment.damage.is_some();
    let at = match keep {
        Keep::Before => segments.iter().position(is_damaged),
        Keep::After => segments.iter().rposition(is_damaged),
    };
    let Some((at, damage)) = at.and_then(|at| Some((at, segments[at].damage.clone()?))) else { return Ok(None) };
    let quarantine = free_quarantine(storage)?;
    Ok(Some(match keep {
        Keep::Before => before(&segments, at, damage, quarantine),
        Keep::After => after(&segments, at, damage, quarantine),
    }))
}

/// Keeps the frames before the first damage, which is in `segments[at]`.
fn before(segments: &[SegmentState], at: usize, damage: Corruption, quarantine: String) -> Repair {
    let damaged = &segments[at];
    let cut =
        (damaged.frames > 0).then(|| Cut { file: damaged.file.clone(), offset: damaged.used, frames: damaged.frames });
    let kept = &segments[..at + usize::from(cut.is_some())];
    let (first_frame, last_frame, last_sequence) = extent(kept);
    let named = segments[at..].iter().map(|segment| segment.next_named);
    let (next_frame, next_sequence) = named.fold((0, 0), |(a, b), (frame, sequence)| (frame.max(a), sequence.max(b)));
    Repair {
        damage,
        first_frame,
        last_frame,
        last_sequence,
        lost_frames: next_frame.saturating_sub(last_frame + 1),
        lost_events: next_sequence.saturating_sub(last_sequence + 1),
        cut,
        moved: files(&segments[kept.len()..]),
        quarantine,
        applied: false,
    }
}

/// Keeps the segments after the last damaged one, which is `segments[at]`.
fn after(segments: &[SegmentState], at: usize, damage: Corruption, quarantine: String) -> Repair {
    let (gone, kept) = segments.split_at(at + 1);
    let (first_frame, last_frame, last_sequence) = extent(kept);
    // What the log began with, if that can be read.
    let (oldest_frame, oldest_sequence) = (gone[0].first_frame.max(1), gone[0].first_sequence.max(1));
    let named = gone.iter().map(|segment| segment.next_named);
    let (next_frame, next_sequence) = match kept.first() {
        Some(kept) => (kept.first_frame, kept.first_sequence),
        None => named.fold((0, 0), |(a, b), (frame, sequence)| (frame.max(a), sequence.max(b))),
    };
    Repair {
        damage,
        first_frame,
        last_frame,
        last_sequence,
        lost_frames: next_frame.saturating_sub(oldest_frame),
        lost_events: next_sequence.saturating_sub(oldest_sequence),
        cut: None,
        moved: files(gone),
        quarantine,
        applied: false,
    }
}

/// First and last frame of these segments, and the last sequence given in them or before: zeros if there are none.
fn extent(segments: &[SegmentState]) -> (u64, u64, u64) {
    match (segments.first(), segments.last()) {
        (Some(first), Some(last)) => {
            (first.first_frame, last.last_frame().unwrap_or(0), (last.first_sequence + last.events).saturating_sub(1))
        }
        _ => (0, 0, 0),
    }
}

/// Their files, but for those that are missing.
fn files(segments: &[SegmentState]) -> Vec<String> {
    segments.iter().filter(|segment| segment.exists).map(|segment| segment.file.clone()).collect()
}

fn free_quarantine<S: Storage>(storage: &S) -> Result<String, OpenError> {
    let names = storage.list().map_err(OpenError::io(storage, "list", ""))?;
    let taken = names.iter().filter_map(|name| numbered(name, "quarantine-", 1, "")).max();
    Ok(format!("quarantine-{}", taken.unwrap_or(0) + 1))
}

fn carry_out<S: Storage>(storage: &S, keep: Keep, repair: &Repair) -> Result<(), RepairError> {
    let folder = &repair.quarantine;
    storage.create_folder(folder).map_err(failed(storage, "make the folder", folder))?;
    storage.sync_dir().map_err(failed(storage, "sync the directory of", folder))?;
    let cut = match &repair.cut {
        None => None,
        Some(cut) => Some((cut, copy(storage, folder, &cut.file)?)),
    };
    let mut moves = repair.moved.clone();
    if keep == Keep::Before {
        moves.reverse();
    }
    for name in &moves {
        let aside = format!("{folder}/{name}");
        storage.rename(name, &aside).map_err(failed(storage, "move to the quarantine", name))?;
        storage.sync_folder(folder).map_err(failed(storage, "sync the directory of", &aside))?;
        storage.sync_dir().map_err(failed(storage, "sync the directory of", name))?;
    }
    if let Some((cut, length)) = cut {
        let zero = || {
            let file = storage.open(&cut.file)?;
            let mut offset = cut.offset;
            while offset < length {
                let take = ZEROS.len().min((length - offset) as usize);
                file.write_at(&ZEROS[..take], offset)?;
                offset += take as u64;
            }
            file.sync_all()
        };
        zero().map_err(failed(storage, "cut", &cut.file))?;
    }
    Ok(())
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Copies a file to the folder, durably, and returns its length.
fn copy<S: Storage>(storage: &S, folder: &str, name: &str) -> Result<u64, RepairError> {
    let length = storage.open(name).and_then(|file| file.len()).map_err(failed(storage, "read", name))?;
    let bytes = read_whole(storage, name, length, false)?;
    let aside = format!("{folder}/{name}");
    let write = || {
        let file = storage.create(&aside)?;
        file.write_at(&bytes, 0)?;
        file.sync_all()?;
        storage.sync_folder(folder)
    };
    write().map_err(failed(storage, "write the copy", &aside))?;
    Ok(length)
}

fn failed<S: Storage>(storage: &S, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> RepairError + use<S> {
    let file = storage.describe(name);
    move |source| RepairError::Io { doing, file, source }
}
