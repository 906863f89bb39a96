//! Which segments of the log may go, and the anchors that must be logged before they do. Part of the sequencer: letting go is a decision too.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tally_aggregate::{Anchor, AskedAnchor, Control, Note};
use tally_storage::Storage;
use tally_wal::SegmentInfo;

use super::{ANCHOR_FOR_ROOM, Sequencer};

/// How much of the log is kept beyond what is needed.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// A covered segment may go when the segments after it hold this many bytes.
    pub bytes: u64,
    /// A covered segment may go when it is this old.
    pub age: Duration,
}

impl Retention {
    fn expendable_before(&self, segments: &[SegmentInfo], now: SystemTime) -> Option<u64> {
        let mut after: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut keep_from = None;
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
            after -= segment.bytes;
            let age = segment.modified.and_then(|modified| now.duration_since(modified).ok()).unwrap_or_default();
            if !segment.sealed || (after < self.bytes && age < self.age) {
                break;
            }
            keep_from = Some(next.first_frame);
        }
        keep_from
    }
}

impl<S: Storage> Sequencer<S> {
    /// Sealed segments that may go by size or age: the first frame that has to stay, if any may go.
    fn expendable_before(&self) -> Option<u64> {
        self.retention.expendable_before(&self.log.segments(), self.clock.wall())
    }

    /// A flush becomes an anchor when segments could go if every total were saved as of it.
    pub(super) fn wants_anchor(&self) -> bool {
        self.control.asked_anchor.is_none() && self.expendable_before().is_some()
    }

    /// Decides the asked anchor once every total is saved and the records are written; when it is durable segments go.
    pub(super) fn anchor_when_ready(&mut self) {
        let Some(asked) = self.control.asked_anchor.clone() else { return };
        let mut totals = BTreeMap::new();
        let mut needed_from = asked.frame;
        {
            let facts = self.progress.facts();
            if facts.records_cut < asked.cut {
                return;
            }
            for name in &asked.expected {
                match facts.pinned.get(name) {
                    Some((cut, chain, hash)) if *cut == asked.cut => {
                        totals.insert(name.clone(), (*chain, hash.clone()));
                    }
                    _ if facts.quarantined.contains_key(name) => {}
                    // Attached anew since: then it was not there, and does not pin.
                    _ if self.attached_at(name).is_none_or(|at| at > asked.cut) => {}
                    // Who was detached since still gets there.
                    _ => return,
                }
            }
            // Whoever is behind the anchor still needs what it has not saved.
            for name in self.control.plan.aggregators.keys() {
                needed_from = needed_from.min(facts.saved.get(name).map_or(0, |meta| meta.frame));
            }
            for (name, detached) in &self.control.detached {
                let saved = facts.saved.get(name);
                if facts.quarantined.contains_key(name) || saved.is_some_and(|meta| meta.cut >= detached.at) {
                    continue;
                }
                // Behind an anchor nobody knows of those who were detached before it, but this one still runs out.
                if detached.at <= asked.cut {
                    return;
                }
                needed_from = needed_from.min(saved.map_or(0, |meta| meta.frame));
            }
            // An anchor without a flush stands behind the last record, where the next start of the record writer goes on.
            needed_from = needed_from.min(facts.records_from);
        }
        let Some(expendable) = self.expendable_before() else { return };
        let AskedAnchor { cut, frame, last_sequence, .. } = asked;
        let note = Note::Anchored(Anchor { cut, frame, last_sequence, totals });
        self.note(&note);
        self.frame.let_go = Some(needed_from.min(expendable));
    }

    /// Asks for an anchor without a flush that is due: no more events come while the log has no room, and only an anchor makes some.
    pub(super) fn anchor_for_room(&mut self) {
        let is_due = self.lacks_room && self.clock.elapsed() >= self.anchor_for_room_at;
        if is_due && self.wants_anchor() && !self.is_held_back() {
            self.anchor_for_room_at = self.clock.elapsed() + ANCHOR_FOR_ROOM;
            self.open_frame();
            self.barrier("disk_full", true, None);
        }
    }

    /// Whether somebody in quarantine holds on to all of the log: then anchor upon anchor would take the last of the disk, and free nothing.
    fn is_held_back(&self) -> bool {
        let segments = self.log.segments();
        let Some(second) = segments.get(1) else { return true };
        let facts = self.progress.facts();
        let quarantined = self.control.plan.aggregators.keys().filter(|name| facts.quarantined.contains_key(*name));
        let mut held = quarantined.map(|name| facts.saved.get(name).map_or(0, |meta| meta.frame));
        held.any(|frame| frame < second.first_frame)
    }

    /// Where an aggregator was attached that is, or that was detached since the last anchor.
    fn attached_at(&self, name: &str) -> Option<u64> {
        let Control { plan, detached, .. } = &self.control;
        let attached = plan.aggregators.get(name).or_else(|| detached.get(name).map(|detached| &detached.attached));
        attached.map(|attached| attached.attached_at)
    }

    /// Lets the segments go that end before this frame.
    pub(super) fn let_go(&mut self, before: u64) -> anyhow::Result<()> {
        let deleted = {
            // Locked, so that nobody who returns finds what it needs and loses it then.
            let facts = self.progress.facts();
            let before = facts.returning.values().copied().fold(before, u64::min);
            self.log.delete_before(before).context("deleting old segments of the log")?
        };
        if let (Some(first), Some(last)) = (deleted.first(), deleted.last()) {
            tracing::info!(first = first.name, last = last.name, "the log lets segments go");
        }
        self.publish_facts();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 100 bytes that begin at the frames 1, 11, 21 and so on, changed last so many seconds before second 1000.
    fn segments(ages: &[u64]) -> Vec<SegmentInfo> {
        let segment = |(at, &age): (usize, &u64)| SegmentInfo {
            name: String::new(),
            first_frame: 1 + 10 * at as u64,
            first_sequence: 1,
            bytes: 100,
            sealed: at + 1 < ages.len(),
            modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age)),
        };
        ages.iter().enumerate().map(segment).collect()
    }

    #[test]
    fn a_segment_stays_as_long_as_size_and_age_both_ask_for_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let kept_from = |bytes, age, segments: &[SegmentInfo]| {
            Retention { bytes, age: Duration::from_secs(age) }.expendable_before(segments, now)
        };
        let four = segments(&[90, 60, 30, 0]);
        for (bytes, age, expected) in [
            (0, 1000, Some(31)),
            (1000, 0, Some(31)),
            (1000, 1000, None),
            (301, 1000, None),
            (300, 1000, Some(11)),
            (201, 1000, Some(11)),
            (200, 1000, Some(21)),
            (1000, 91, None),
            (1000, 90, Some(11)),
            (1000, 60, Some(21)),
            (200, 90, Some(21)),
            (300, 30, Some(31)),
        ] {
            assert_eq!(kept_from(bytes, age, &four), expected, "{bytes} bytes, {age} s");
        }
        assert_eq!(kept_from(0, 0, &segments(&[90])), None, "the one that is written stays");
        assert_eq!(kept_from(0, 0, &[]), None);
        // A clock that was set back says nothing of the age, and the oldest go first.
        let mut ahead = segments(&[90, 60, 30, 0]);
        ahead[1].modified = Some(now + Duration::from_secs(5));
        assert_eq!(kept_from(1000, 30, &ahead), Some(11));
    }
}
