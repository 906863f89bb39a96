//! What the whole log says, read beforehand: its barriers, who was attached where, whom it spared what, and where each stopped. Knows nothing
//! of what is saved.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use tally_aggregate::{Attached, Barrier, Control, Entries, Entry, Line, Note};
use tally_event::schema::Preset;
use tally_state::RunInfo;
use tally_storage::Storage;
use tally_wal::{Frame, Reader};

use super::VerifyReport;
use crate::aggregator::{Meta, Pinned, presets};
use crate::feed::Position;

/// The decisions of the whole log.
pub(super) struct History {
    /// Whether older segments are gone.
    pub(super) truncated: bool,
    /// As of the beginning.
    pub(super) opening: Control,
    /// As of the end.
    pub(super) control: Control,
    pub(super) barriers: Vec<(u64, Barrier)>,
    /// Sequences of the skipped events, by aggregator and the cut at which it was attached. A lagging aggregator may have
    /// found one long behind the event, so they are known before anything is replayed.
    pub(super) skips: BTreeMap<(String, u64), BTreeSet<u64>>,
    /// The last cut of those that went into quarantine, by aggregator and the cut at which it was attached.
    pub(super) stopped: BTreeMap<(String, u64), u64>,
}

impl History {
    pub(super) fn read<S: Storage>(reader: &mut Reader<S>, report: &mut VerifyReport) -> anyhow::Result<Self> {
        let first = reader.first_frame();
        let mut control = Control::default();
        let mut opening = None;
        let mut barriers = Vec::new();
        let mut skips: BTreeMap<(String, u64), BTreeSet<u64>> = BTreeMap::new();
        let mut stopped = BTreeMap::new();
        let mut frame = Frame::default();
        if reader.next_frame() > first {
            reader.seek(first)?;
        }
        while reader.next(&mut frame)? {
            for entry in Entries::new(&frame.body) {
                let entry = entry.with_context(|| format!("frame {} of the log", frame.number))?;
                if let (Entry::Opening(opening), true) = (&entry, frame.number > first) {
                    let mut before = control.clone();
                    before.producers.clone_from(&opening.producers);
                    ensure!(
                        before == Control { frame: before.frame, ..(**opening).clone() },
                        "frame {} opens a segment with a state that does not follow from the log before it",
                        frame.number
                    );
                }
                control.apply(frame.number, &entry);
                if matches!(entry, Entry::Opening(_) | Entry::Barrier(_) | Entry::Note(Note::Skipped(_))) {
                    for (name, known) in &control.skips {
                        let all = skips.entry((name.clone(), known.attached_at)).or_default();
                        all.extend(known.events.keys());
                    }
                }
                if let Entry::Note(Note::Quarantined { name, after_cut, .. }) = &entry {
                    let detached = control.detached.get(name).map(|detached| &detached.attached);
                    if let Some(attached) = control.plan.aggregators.get(name).or(detached) {
                        stopped.insert((name.clone(), attached.attached_at), *after_cut);
                    }
                }
                if let Entry::Barrier(barrier) = entry {
                    barriers.push((frame.number, *barrier));
                }
            }
            control.frame = frame.number;
            opening.get_or_insert_with(|| control.clone());
            report.frames += 1;
            report.events += u64::from(frame.count);
        }
        Ok(Self { truncated: first > 1, opening: opening.unwrap_or_default(), control, barriers, skips, stopped })
    }

    /// Where `name` was attached, and what begins there.
    pub(super) fn attachments(&self, name: &str) -> anyhow::Result<Vec<Stretch>> {
        let mut found = Vec::new();
        for (_, barrier) in &self.barriers {
            let Some(attached) = barrier.plan.as_ref().and_then(|plan| plan.aggregators.get(name)) else { continue };
            if attached.attached_at != barrier.cut {
                continue;
            }
            let from = self.barriers.iter().find(|(_, b)| b.cut == attached.applies_after);
            let position = Position { frame: from.map_or(0, |(frame, _)| *frame), cut: attached.applies_after };
            let meta = Meta::start(name, attached, position, from.map_or(0, |(_, b)| b.last_sequence));
            found.push(Stretch { meta, attached: attached.clone(), presets: self.presets_at(position.cut)? });
        }
        Ok(found)
    }

    /// Whether the log has the cut behind which a stretch begins, or all of its beginning.
    pub(super) fn has(&self, stretch: &Stretch) -> bool {
        stretch.meta.frame > 0 || (stretch.meta.cut == 0 && !self.truncated)
    }

    /// Whether a stretch was attached as something new, and not to go on with what was there.
    pub(super) fn begins_anew(&self, stretch: &Stretch) -> bool {
        let Attached { attached_at, applies_after, line, .. } = &stretch.attached;
        applies_after == attached_at || (line.since == *attached_at && line.from.is_none() && self.has(stretch))
    }

    /// The last cut of what was attached at `attached_at`, as far as the log says.
    pub(super) fn end_of(&self, name: &str, attached_at: u64) -> u64 {
        if let Some(after_cut) = self.stopped.get(&(name.to_owned(), attached_at)) {
            return *after_cut;
        }
        let is_there = |attached: &Attached| attached.attached_at == attached_at;
        let ends = |barrier: &Barrier| {
            let plan = barrier.plan.as_ref().filter(|_| barrier.cut > attached_at);
            plan.is_some_and(|plan| !plan.aggregators.get(name).is_some_and(is_there))
        };
        self.barriers.iter().find(|(_, barrier)| ends(barrier)).map_or(u64::MAX, |(_, barrier)| barrier.cut)
    }

    pub(super) fn presets_at(&self, cut: u64) -> anyhow::Result<Vec<Preset>> {
        let plans = self.barriers.iter().take_while(|(_, b)| b.cut <= cut).filter_map(|(_, b)| b.plan.as_ref());
        presets(plans.last().unwrap_or(&self.opening.plan))
    }
}

/// A stretch of the log over which an aggregator stayed attached.
#[derive(Clone)]
pub(super) struct Stretch {
    pub(super) meta: Meta,
    pub(super) attached: Attached,
    pub(super) presets: Vec<Preset>,
}

/// Everything that an aggregator's name was attached as.
pub(super) struct Past<'n> {
    pub(super) name: &'n str,
    pub(super) stretches: Vec<Stretch>,
    /// What it begins at where the log does not have its beginning, and the runs that are saved.
    pub(super) pinned: Option<(Pinned, Vec<RunInfo>)>,
}

impl Past<'_> {
    /// Leaves out what lies before what is pinned.
    pub(super) fn begin_at(&mut self, pinned: &Pinned, runs: &[RunInfo], presets: Vec<Preset>) {
        self.stretches.retain(|stretch| stretch.attached.attached_at > pinned.meta.cut);
        let (meta, attached) = (pinned.meta.clone(), pinned.meta.attached.clone());
        self.stretches.insert(0, Stretch { meta, attached, presets });
        self.pinned = Some((pinned.clone(), runs.to_vec()));
    }

    /// The stretches on a line.
    pub(super) fn on(&self, line: Line) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().filter(move |stretch| stretch.attached.line == line)
    }

    /// The line that began there.
    pub(super) fn line_since(&self, since: u64) -> Option<Line> {
        self.stretches.iter().map(|stretch| stretch.attached.line).find(|line| line.since == since)
    }

    /// Its lines, oldest first, and where each was attached last.
    pub(super) fn lines(&self) -> Vec<(Line, u64)> {
        let mut lines: Vec<(Line, u64)> = Vec::new();
        for Attached { line, attached_at, .. } in self.stretches.iter().map(|stretch| &stretch.attached) {
            match lines.last_mut().filter(|(last, _)| last == line) {
                Some((_, last)) => *last = *attached_at,
                None => lines.push((*line, *attached_at)),
            }
        }
        lines
    }
}
