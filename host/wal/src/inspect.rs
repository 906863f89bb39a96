//! What is in a log's directory, damage and all: reads every segment, changes nothing and takes no lock.
//!
//! Opening a log stops at the first damage and reads the last segment only; this reads all of them and goes on behind damage.
//! Beside a running daemon it does what it can: it sees the log as of some moment while it reads, and damage counts only
//! if it is there when it looks again.

use tally_storage::Storage;

use crate::error::{Corruption, OpenError};
use crate::format::{BadSegment, Expected, SegmentHeader, VERSION};
use crate::recover::{LIVE_TRIES, TornTail, read_whole};
use crate::scan;
use crate::segments::{self, Listed, Segment};

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The segments, oldest first, with an entry where one is missing.
    pub segments: Vec<SegmentState>,
}

/// One segment, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentState {
    /// File name.
    pub file: String,
    /// Version of its format; 0 when its header cannot be read.
    pub version: u32,
    /// Number of its first frame; 0 when its header cannot be read.
    pub first_frame: u64,
    /// Valid frames, up to the first that is not.
    pub frames: u64,
    /// Sequence of the first event at or after the first frame; 0 when its header cannot be read.
    pub first_sequence: u64,
    /// Events in the valid frames.
    pub events: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Bytes up to the end of the last valid frame.
    pub used: u64,
    /// False for the last segment, the one to be written to.
    pub sealed: bool,
    /// What stands behind the last valid frame and is no damage: the next start cuts it, unless a daemon is writing it now.
    pub tail: Option<TornTail>,
    /// What is wrong with it.
    pub damage: Option<Corruption>,
    /// Whether there is such a file: one whose neighbours are there may be missing.
    pub(crate) exists: bool,
    /// The frame number and the sequence behind all that its frames name, those of which only the header can be read included.
    pub(crate) next_named: (u64, u64),
}

impl Inspection {
    /// The first damage.
    pub fn damage(&self) -> Option<&Corruption> {
        self.segments.iter().find_map(|segment| segment.damage.as_ref())
    }
}

impl SegmentState {
    /// Number of the last valid frame, if there is one.
    pub fn last_frame(&self) -> Option<u64> {
        (self.frames > 0).then(|| self.first_frame + (self.frames - 1))
    }

    /// Sequence of the last event in the valid frames, if there is one.
    pub fn last_sequence(&self) -> Option<u64> {
        (self.events > 0).then(|| self.first_sequence + (self.events - 1))
    }

    /// One of which nothing but its name and length is known; without a length it is missing.
    fn unread(file: String, version: u32, length: Option<u64>, sealed: bool, damage: Corruption) -> SegmentState {
        let bytes = length.unwrap_or(0);
        SegmentState {
            file,
            version,
            first_frame: 0,
            frames: 0,
            first_sequence: 0,
            events: 0,
            bytes,
            used: 0,
            sealed,
            tail: None,
            damage: Some(damage),
            exists: length.is_some(),
            next_named: (0, 0),
        }
    }
}

/// Reads the whole log in `storage`, which may be read-only. Fails only where the storage does: damage is among what it finds.
pub fn inspect<S: Storage>(storage: &S) -> Result<Inspection, OpenError> {
    let mut seen = None;
    for _ in 1..LIVE_TRIES {
        match look(storage) {
            Ok(found) if found.damage() == seen.as_ref() || found.damage().is_none() => return Ok(found),
            Ok(found) => seen = found.damage().cloned(),
            // A segment that was let go between being listed and being read.
            Err(_) => {}
        }
    }
    look(storage)
}

fn look<S: Storage>(storage: &S) -> Result<Inspection, OpenError> {
    let listed = segments::list(storage)?;
    let mut found = Vec::with_capacity(listed.len());
    // The last segment whose header is whole, and what comes after the last one if that is whole to its end.
    let mut before: Option<Segment> = None;
    let mut expected = None;
    for (at, one) in listed.iter().enumerate() {
        if let Some(gap) = segments::gap_before(storage, before.as_ref(), &listed, at) {
            let name = segments::segment_name(listed[at - 1].id + 1);
            found.push(SegmentState::unread(name, 0, None, true, gap));
            expected = None;
        }
        let sealed = at + 1 < listed.len();
        let (state, after) = match segments::check_header(storage, before.as_ref(), &listed, at) {
            Ok(header) => {
                let following = listed.get(at + 1).and_then(|following| following.header.as_ref().ok());
                let following = following.filter(|following| following.id == header.id + 1);
                let read = read(storage, one, &header, sealed, following, expected)?;
                before = Some(Segment { name: one.name.clone(), header, bytes: one.bytes, modified: None });
                read
            }
            Err(error) => {
                let (version, damage) = bad_header(one, before.as_ref(), error)?;
                (SegmentState::unread(one.name.clone(), version, Some(one.bytes), sealed, damage), None)
            }
        };
        expected = after;
        found.push(state);
    }
    Ok(Inspection { segments: found })
}

/// The version of a segment whose header was refused, and the refusal as damage.
fn bad_header(one: &Listed, before: Option<&Segment>, error: OpenError) -> Result<(u32, Corruption), OpenError> {
    match (&one.header, error) {
        (Err(BadSegment::Version(version)), OpenError::UnknownVersion { file, .. }) => {
            let first_sequence = before.map_or(1, |before| before.header.first_sequence);
            let what = format!("it has log format version {version}, this program reads versions up to {VERSION}");
            Ok((*version, Corruption { file, offset: 0, frame: 0, first_sequence, last_sequence: None, what }))
        }
        (_, OpenError::Corrupt(damage)) => Ok((0, damage)),
        (_, other) => Err(other),
    }
}

/// Reads one segment; returns what comes after it as well, if it is whole to its end.
fn read<S: Storage>(
    storage: &S,
    one: &Listed,
    header: &SegmentHeader,
    sealed: bool,
    following: Option<&SegmentHeader>,
    expected: Option<Expected>,
) -> Result<(SegmentState, Option<Expected>), OpenError> {
    let bytes = read_whole(storage, &one.name, one.bytes, false)?;
    let first = Expected { opening: true, ..expected.unwrap_or_else(|| Expected::opening_of(header)) };
    let walk = scan::walk(&bytes, header, first, following.map(|following| following.first_frame));
    let file = storage.describe(&one.name);
    let (tail, damage) = match scan::judge(&walk, &bytes, header, &file) {
        Err(damage) => (None, Some(damage)),
        // In a sealed segment nothing is left for a crash to interrupt.
        Ok(tail) => match &walk.stop {
            Some(stop) if sealed && (tail.bytes > 0 || following.is_some()) => {
                let damage = Corruption {
                    file,
                    offset: walk.end,
                    frame: walk.expected.number,
                    first_sequence: walk.expected.sequence,
                    last_sequence: following.map(|following| following.first_sequence.saturating_sub(1)),
                    what: stop.what().to_owned(),
                };
                (None, Some(damage))
            }
            _ if tail.bytes > 0 => {
                (Some(TornTail { file, offset: walk.end, bytes: tail.bytes, events: tail.events }), None)
            }
            _ => (None, None),
        },
    };
    let after = damage.is_none().then_some(walk.expected);
    let state = SegmentState {
        file: one.name.clone(),
        version: header.version,
        first_frame: header.first_frame,
        frames: walk.offsets.len() as u64,
        first_sequence: header.first_sequence,
        events: walk.expected.sequence - first.sequence,
        bytes: one.bytes,
        used: walk.end,
        sealed,
        tail,
        damage,
        exists: true,
        next_named: scan::next_named(&walk, &bytes, header),
    };
    Ok((state, after))
}
