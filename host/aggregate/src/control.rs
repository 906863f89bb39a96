//! The control state: everything that the log's decisions add up to at one point. It is a fold over entries, the same
//! for the daemon that takes the decisions, for recovery and for `verify`; each segment opens with a copy of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::entry::{Barrier, Entry, Note};
use crate::ledger::Counts;

/// Which aggregators exist, and how lines are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Presets by index; the shape is the decoder's own.
    pub presets: Vec<serde_json::Value>,
    /// Aggregators by name.
    pub aggregators: BTreeMap<String, Attached>,
}

/// An aggregator that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// Name of the plugin file, without its ending.
    pub plugin: String,
    /// The plugin's own version, for people.
    pub version: String,
    /// Digest of the plugin's bytes.
    pub digest: String,
    /// Settings, as canonical JSON text.
    pub settings: String,
    /// What the saved bytes mean.
    pub state_version: String,
    /// The cut at which it was attached; while it catches up on older ones, their plans do not concern it.
    pub attached_at: u64,
    /// It has seen everything up to this cut when it is attached: it applies what comes after.
    pub applies_after: u64,
    /// Set where what its name has saved is not gone on with.
    #[serde(default, skip_serializing_if = "Line::is_first")]
    pub line: Line,
}

/// A history of an aggregator's state. Swapped, paused and attached again, an aggregator stays on its line; another one begins where it
/// is rebuilt, reset, rolled back or replaced by a shadow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The cut at which the line was attached first; 0 for the first line of a name.
    pub since: u64,
    /// The line with whose state, as of the cut that it applies what comes after, it begins; none when it begins with nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

impl Line {
    /// Whether it is the first line of its name.
    pub fn is_first(&self) -> bool {
        *self == Self::default()
    }
}

impl Attached {
    /// What a wanted place in the log stands for, in an activation that is not logged yet.
    pub const HERE: u64 = u64::MAX;

    /// Puts the cut of the activation where it says [`Attached::HERE`].
    pub fn settle(&mut self, cut: u64) {
        for place in [&mut self.attached_at, &mut self.applies_after, &mut self.line.since] {
            if *place == Self::HERE {
                *place = cut;
            }
        }
    }
}

/// Why an aggregator does not take part although it is attached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The last cut that it saved.
    pub after_cut: u64,
    /// Why.
    pub reason: String,
}

/// An aggregator that takes part no more, but may still have to see what came before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detached {
    /// As it was attached.
    pub attached: Attached,
    /// The cut at which it was detached: its last one.
    pub at: u64,
    /// Set if it will never get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

/// The events that an aggregator is spared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skips {
    /// The cut at which it was attached: what it was spared before concerns nobody any more.
    pub attached_at: u64,
    /// How many there were since it was attached, resumed, or got another plugin.
    pub strikes: u32,
    /// Sequence of each event, and the last cut before it; without those that an anchor covers.
    pub events: BTreeMap<u64, u64>,
}

/// Totals proved as of a cut; `verify` starts at the newest one whose cut is still in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anchor {
    /// The cut.
    pub cut: u64,
    /// The frame that holds the cut.
    pub frame: u64,
    /// Sequence of the last event before it.
    pub last_sequence: u64,
    /// Per aggregator: its chain, and BLAKE3 of its saved total.
    pub totals: BTreeMap<String, (Chain, String)>,
}

/// An anchor that was asked for by a barrier and is not logged yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedAnchor {
    /// The cut.
    pub cut: u64,
    /// The frame that holds the cut.
    pub frame: u64,
    /// Sequence of the last event before it.
    pub last_sequence: u64,
    /// Aggregators that have to save their totals.
    pub expected: Vec<String>,
}

/// The fold over all entries so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The last frame folded in.
    pub frame: u64,
    /// The last sequence given.
    pub last_sequence: u64,
    /// The last arrival time given, microseconds since the Unix epoch; never goes backwards.
    pub arrival: i64,
    /// Number of the last cut.
    pub cut: u64,
    /// Arrival time of the last cut.
    pub cut_at: i64,
    /// Sequence of the last event before the last cut.
    pub cut_sequence: u64,
    /// Number of the last flush.
    pub batch_id: u64,
    /// Arrival time of the last flush, or of the log's first event.
    pub flushed_at: i64,
    /// Last sequence covered by the last flush.
    pub flushed_sequence: u64,
    /// Counts as of the last flush.
    pub flushed_counts: Counts,
    /// Cumulative counts.
    pub counts: Counts,
    /// Lines decided of each remembered producer, least recently touched first.
    pub producers: Vec<(String, u64)>,
    /// The plan in force.
    pub plan: Plan,
    /// Aggregators in quarantine.
    #[serde(default)]
    pub quarantined: BTreeMap<String, Quarantine>,
    /// Aggregators that were detached since the newest anchor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detached: BTreeMap<String, Detached>,
    /// What aggregators are spared; bounded by the strikes that lead to quarantine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skips: BTreeMap<String, Skips>,
    /// The newest anchor.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// An anchor that is being made.
    #[serde(default)]
    pub asked_anchor: Option<AskedAnchor>,
    /// Version of the decoder of the daemon that wrote last.
    #[serde(default)]
    pub decoder: u32,
    /// Engine fingerprint of the daemon that wrote last.
    #[serde(default)]
    pub engine: String,
}

impl Control {
    /// A copy that goes on with what `old`, an earlier one, has the same: of frame after frame most is, and to compare it costs far less
    /// than to copy it.
    #[must_use]
    pub fn copy_over(&self, old: Self) -> Self {
        fn same<T: Clone + PartialEq>(old: T, new: &T) -> T {
            if old == *new { old } else { new.clone() }
        }
        Self {
            flushed_counts: same(old.flushed_counts, &self.flushed_counts),
            counts: same(old.counts, &self.counts),
            producers: same(old.producers, &self.producers),
            plan: same(old.plan, &self.plan),
            quarantined: same(old.quarantined, &self.quarantined),
            detached: same(old.detached, &self.detached),
            skips: same(old.skips, &self.skips),
            anchor: same(old.anchor, &self.anchor),
            asked_anchor: same(old.asked_anchor, &self.asked_anchor),
            engine: same(old.engine, &self.engine),
            ..*self
        }
    }

    /// Folds in one entry of frame `frame`.
    pub fn apply(&mut self, frame: u64, entry: &Entry<'_>) {
        self.frame = frame;
        match entry {
            Entry::Events { arrival, count, .. } => self.events(*arrival, *count),
            Entry::Producers(touched) => self.touch_producers(touched.iter().copied()),
            Entry::Counts(counts) => self.counts = counts.clone(),
            Entry::Barrier(barrier) => self.barrier(frame, barrier),
            Entry::Note(note) => self.note(note),
            // Remembered apart: they are many, and concern nobody but the daemon that decides.
            Entry::Ids { .. } => {}
            Entry::Opening(control) => {
                *self = (**control).clone();
                self.frame = frame;
            }
        }
    }

    /// Folds in accepted events.
    pub fn events(&mut self, arrival: i64, count: u32) {
        if self.flushed_at == 0 {
            self.flushed_at = arrival;
        }
        self.arrival = self.arrival.max(arrival);
        self.last_sequence += u64::from(count);
    }

    /// Folds in the lines decided of producers.
    pub fn touch_producers<'p>(&mut self, touched: impl Iterator<Item = (&'p str, u64)>) {
        let touched: BTreeMap<&str, u64> = touched.collect();
        self.producers.retain(|(id, _)| !touched.contains_key(id.as_str()));
        self.producers.extend(touched.into_iter().map(|(id, lines)| (id.to_owned(), lines)));
    }

    /// Folds in a barrier.
    pub fn barrier(&mut self, frame: u64, barrier: &Barrier) {
        if barrier.anchor {
            self.asked_anchor = Some(AskedAnchor {
                cut: barrier.cut,
                frame,
                last_sequence: barrier.last_sequence,
                expected: self.expected(),
            });
        }
        self.arrival = self.arrival.max(barrier.at);
        self.cut = barrier.cut;
        self.cut_at = barrier.at;
        self.cut_sequence = barrier.last_sequence;
        if let Some(flush) = &barrier.flush {
            self.batch_id = flush.batch_id;
            self.flushed_at = flush.to;
            self.flushed_sequence = flush.last_sequence;
            self.flushed_counts = flush.total.clone();
        }
        if let Some(plan) = &barrier.plan {
            self.detach(barrier.cut, plan);
            // A quarantine ends when the aggregator is attached anew or is gone.
            self.quarantined.retain(|name, _| plan.aggregators.get(name).is_some_and(|a| a.attached_at != barrier.cut));
            self.carry_skips(barrier.cut, plan);
            self.plan = plan.clone();
        }
    }

    /// Folds in a note.
    pub fn note(&mut self, note: &Note) {
        match note {
            Note::Started { decoder, engine, .. } => {
                self.decoder = *decoder;
                self.engine.clone_from(engine);
            }
            Note::Quarantined { name, after_cut, reason } => {
                let quarantine = Quarantine { after_cut: *after_cut, reason: reason.clone() };
                match self.detached.get_mut(name) {
                    Some(detached) => detached.quarantine = Some(quarantine),
                    None => {
                        self.quarantined.insert(name.clone(), quarantine);
                    }
                }
            }
            Note::Skipped(skip) => {
                let skips = self.skips.entry(skip.name.clone()).or_default();
                if skips.attached_at != skip.attached_at {
                    *skips = Skips { attached_at: skip.attached_at, ..Skips::default() };
                }
                if skips.events.insert(skip.sequence, skip.after_cut).is_none() {
                    skips.strikes += 1;
                }
            }
            Note::Anchored(anchor) => {
                // Everything up to the anchor is written: no record waits for those who were detached before.
                self.detached.retain(|_, detached| detached.at > anchor.cut);
                // Whoever is not there and does not run out either begins again behind what it saved, if ever.
                let runs = |name: &String| self.plan.aggregators.contains_key(name) || self.detached.contains_key(name);
                let covered = |name: &String| anchor.totals.contains_key(name) || !runs(name);
                for (_, skips) in self.skips.iter_mut().filter(|(name, _)| covered(name)) {
                    skips.events.retain(|_, after_cut| *after_cut >= anchor.cut);
                }
                self.skips.retain(|name, skips| !skips.events.is_empty() || self.plan.aggregators.contains_key(name));
                self.anchor = Some(anchor.clone());
                self.asked_anchor = None;
            }
        }
    }

    /// Who is no longer in the plan from `cut` on.
    fn detach(&mut self, cut: u64, plan: &Plan) {
        self.detached.retain(|name, _| !plan.aggregators.contains_key(name));
        for (name, attached) in &self.plan.aggregators {
            if !plan.aggregators.contains_key(name) {
                let quarantine = self.quarantined.get(name).cloned();
                self.detached.insert(name.clone(), Detached { attached: attached.clone(), at: cut, quarantine });
            }
        }
    }

    /// What becomes of skips when the plan changes at `cut`: whoever goes on unchanged behind a quarantine is spared what
    /// still lies before it, with its strikes forgiven; another plugin or other settings may take those events.
    fn carry_skips(&mut self, cut: u64, plan: &Plan) {
        for (name, next) in &plan.aggregators {
            let Some(skips) = self.skips.get_mut(name) else { continue };
            let before = self.plan.aggregators.get(name);
            let same = before.is_some_and(|before| before.digest == next.digest && before.settings == next.settings);
            if next.attached_at == cut {
                skips.events.retain(|_, after_cut| same && *after_cut >= next.applies_after);
                skips.attached_at = cut;
            }
            if next.attached_at == cut || !same {
                skips.strikes = 0;
            }
        }
        self.skips.retain(|_, skips| !skips.events.is_empty() || skips.strikes > 0);
    }

    /// Aggregators whose part belongs into the next record: attached and not in quarantine.
    pub fn expected(&self) -> Vec<String> {
        self.plan.aggregators.keys().filter(|name| !self.quarantined.contains_key(*name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Flush, Skip};

    fn attached(attached_at: u64) -> Attached {
        Attached {
            plugin: "p".into(),
            version: "1".into(),
            digest: "d".into(),
            settings: "{}".into(),
            state_version: "1".into(),
            attached_at,
            applies_after: attached_at,
            line: Line::default(),
        }
    }

    fn activation(cut: u64, names: &[(&str, u64)]) -> Barrier {
        let aggregators = names.iter().map(|(name, at)| ((*name).to_owned(), attached(*at))).collect();
        let plan = Plan { presets: vec![], aggregators };
        Barrier {
            cut,
            reason: "activation".into(),
            at: 1,
            last_sequence: 0,
            flush: None,
            plan: Some(plan),
            anchor: false,
        }
    }

    #[test]
    fn quarantine_lasts_until_the_aggregator_is_attached_anew() {
        let mut control = Control::default();
        control.barrier(9, &activation(1, &[("a", 1), ("b", 1)]));
        control.note(&Note::Quarantined { name: "a".into(), after_cut: 1, reason: "trap".into() });
        assert_eq!(control.expected(), ["b"]);
        control.barrier(9, &activation(2, &[("a", 1), ("b", 1)]));
        assert_eq!(control.expected(), ["b"]);
        control.barrier(9, &activation(3, &[("a", 3), ("b", 1)]));
        assert_eq!(control.expected(), ["a", "b"]);
    }

    #[test]
    fn a_copy_over_another_is_a_copy() {
        let mut old = Control::default();
        old.barrier(9, &activation(1, &[("a", 1), ("b", 1)]));
        old.note(&skip("a", 1, 3, 1));
        old.producers.push(("p".into(), 1));
        let mut control = old.clone();
        control.events(5, 3);
        control.counts.reject("json");
        control.barrier(10, &activation(2, &[("a", 1)]));
        control.note(&Note::Quarantined { name: "a".into(), after_cut: 1, reason: "trap".into() });
        control.note(&skip("a", 1, 4, 2));
        control.note(&Note::Started { version: "2".into(), decoder: 2, engine: "e".into() });
        control.producers.clear();
        assert_eq!(control.copy_over(old), control);
        assert_eq!(control.copy_over(Control::default()), control);
        assert_eq!(control.copy_over(control.clone()), control);
    }

    fn skip(name: &str, attached_at: u64, sequence: u64, after_cut: u64) -> Note {
        Note::Skipped(Skip { name: name.into(), attached_at, sequence, after_cut, ..Skip::default() })
    }

    fn skipped(control: &Control, name: &str) -> (u32, Vec<u64>) {
        let skips = control.skips.get(name).cloned().unwrap_or_default();
        (skips.strikes, skips.events.into_keys().collect())
    }

    #[test]
    fn each_skipped_event_is_a_strike_once() {
        let mut control = Control::default();
        control.barrier(9, &activation(1, &[("a", 1)]));
        for sequence in [5, 7, 5] {
            control.note(&skip("a", 1, sequence, 1));
        }
        assert_eq!(skipped(&control, "a"), (2, vec![5, 7]));
        assert_eq!(skipped(&control, "b"), (0, vec![]));
    }

    #[test]
    fn who_is_resumed_is_spared_what_still_lies_before_it() {
        let mut control = Control::default();
        control.barrier(9, &activation(1, &[("a", 1)]));
        control.note(&skip("a", 1, 5, 1));
        control.note(&skip("a", 1, 15, 2));
        control.note(&Note::Quarantined { name: "a".into(), after_cut: 2, reason: "strikes".into() });
        let mut resumed = activation(4, &[("a", 4)]);
        let plan = resumed.plan.as_mut().unwrap();
        plan.aggregators.get_mut("a").unwrap().applies_after = 2;
        let mut other = control.clone();
        control.barrier(9, &resumed);
        assert_eq!(skipped(&control, "a"), (0, vec![15]));
        control.note(&skip("a", 4, 16, 2));
        assert_eq!(skipped(&control, "a"), (1, vec![15, 16]));

        let plan = resumed.plan.as_mut().unwrap();
        plan.aggregators.get_mut("a").unwrap().digest = "another".into();
        other.barrier(9, &resumed);
        assert_eq!(skipped(&other, "a"), (0, vec![]), "another plugin may take them");
    }

    #[test]
    fn a_new_version_in_place_has_its_strikes_forgiven() {
        let mut control = Control::default();
        control.barrier(9, &activation(1, &[("a", 1)]));
        control.note(&skip("a", 1, 5, 1));
        let mut swap = activation(2, &[("a", 1)]);
        swap.plan.as_mut().unwrap().aggregators.get_mut("a").unwrap().digest = "another".into();
        control.barrier(9, &swap);
        assert_eq!(skipped(&control, "a"), (0, vec![5]), "the event lies before the swap, whoever gets there when");
    }

    #[test]
    fn what_an_anchor_covers_is_forgotten() {
        let mut control = Control::default();
        control.barrier(9, &activation(1, &[("a", 1), ("late", 1)]));
        for name in ["a", "late"] {
            control.note(&skip(name, 1, 5, 1));
            control.note(&skip(name, 1, 25, 3));
        }
        let chain = Chain::start("a", "d", "{}", 1);
        let totals = BTreeMap::from([("a".to_owned(), (chain, String::new()))]);
        control.note(&Note::Anchored(Anchor { cut: 3, frame: 8, last_sequence: 20, totals }));
        assert_eq!(skipped(&control, "a"), (2, vec![25]));
        assert_eq!(skipped(&control, "late"), (2, vec![5, 25]), "it has not saved the anchor's cut");
    }

    #[test]
    fn a_change_of_plan_keeps_strikes_without_events_and_forgets_whom_nothing_is_held_against() {
        let mut control = Control::default();
        control.barrier(9, &activation(1, &[("struck", 1), ("swapped", 1)]));
        for name in ["struck", "swapped"] {
            control.note(&skip(name, 1, 5, 1));
        }
        let chain = Chain::start("x", "d", "{}", 1);
        let totals = ["struck", "swapped"].map(|name| (name.to_owned(), (chain, String::new())));
        control.note(&Note::Anchored(Anchor { cut: 3, frame: 8, last_sequence: 20, totals: totals.into() }));
        assert_eq!((skipped(&control, "struck"), skipped(&control, "swapped")), ((1, vec![]), (1, vec![])));
        let mut swap = activation(4, &[("struck", 1), ("swapped", 1)]);
        swap.plan.as_mut().unwrap().aggregators.get_mut("swapped").unwrap().digest = "another".into();
        control.barrier(9, &swap);
        assert_eq!(control.skips.keys().collect::<Vec<_>>(), ["struck"]);
        assert_eq!(skipped(&control, "struck"), (1, vec![]));
    }

    #[test]
    fn events_give_sequences_and_the_latest_arrival_and_the_first_begins_the_window() {
        let mut control = Control::default();
        control.events(10, 5);
        assert_eq!((control.flushed_at, control.arrival, control.last_sequence), (10, 10, 5));
        control.events(7, 2);
        control.events(30, 1);
        assert_eq!((control.flushed_at, control.arrival, control.last_sequence), (10, 30, 8));
    }

    #[test]
    fn a_barrier_is_the_last_cut_and_its_flush_the_last_flush() {
        let mut control = Control::default();
        control.events(10, 5);
        let cut = Barrier { at: 20, last_sequence: 5, plan: None, ..activation(4, &[]) };
        control.barrier(9, &cut);
        assert_eq!((control.cut, control.cut_at, control.cut_sequence, control.arrival), (4, 20, 5, 20));
        assert_eq!((control.batch_id, control.flushed_at, &control.asked_anchor), (0, 10, &None));
        let total = Counts { received: 5, accepted: 5, ..Counts::default() };
        let flush = Flush {
            batch_id: 3,
            from: 10,
            to: 30,
            first_sequence: 1,
            last_sequence: 5,
            window: total.clone(),
            total: total.clone(),
            expected: vec![],
            quarantined: BTreeMap::new(),
            table_rows: 1,
        };
        control.barrier(11, &Barrier { cut: 5, at: 15, flush: Some(flush), anchor: true, ..cut });
        assert_eq!((control.batch_id, control.flushed_at, control.flushed_sequence), (3, 30, 5));
        assert_eq!((control.flushed_counts, control.arrival, control.cut_at), (total, 20, 15));
        let asked = AskedAnchor { cut: 5, frame: 11, last_sequence: 5, expected: vec![] };
        assert_eq!(control.asked_anchor, Some(asked));
    }

    #[test]
    fn who_leaves_the_plan_is_remembered_until_it_returns_or_an_anchor_covers_its_leaving() {
        let leaving = || {
            let mut control = Control::default();
            control.barrier(9, &activation(1, &[("a", 1), ("b", 1), ("c", 1)]));
            control.note(&Note::Quarantined { name: "a".into(), after_cut: 1, reason: "trap".into() });
            control.barrier(9, &activation(2, &[("b", 1), ("c", 1)]));
            control.barrier(9, &activation(3, &[("c", 1)]));
            control
        };
        let shown = |control: &Control| -> Vec<(String, u64, bool)> {
            let detached = control.detached.iter();
            detached.map(|(name, one)| (name.clone(), one.at, one.quarantine.is_some())).collect()
        };
        let mut control = leaving();
        assert_eq!(shown(&control), [("a".into(), 2, true), ("b".into(), 3, false)]);
        control.note(&Note::Quarantined { name: "b".into(), after_cut: 2, reason: "late".into() });
        assert_eq!(shown(&control), [("a".into(), 2, true), ("b".into(), 3, true)]);
        assert!(control.quarantined.is_empty(), "it is no longer in the plan");
        control.barrier(9, &activation(4, &[("a", 4), ("c", 1)]));
        assert_eq!(shown(&control), [("b".into(), 3, true)]);

        for (cut, left) in [(1, 2), (2, 1), (3, 0)] {
            let mut control = leaving();
            control.note(&Note::Anchored(Anchor { cut, frame: 8, last_sequence: 0, totals: BTreeMap::new() }));
            assert_eq!(control.detached.len(), left, "anchored at cut {cut}");
        }
    }

    #[test]
    fn skips_of_who_is_gone_go_with_the_anchor_and_strikes_of_who_stays_do_not() {
        let mut control = Control::default();
        control.barrier(9, &activation(1, &[("gone", 1), ("leaves", 1), ("stays", 1)]));
        for name in ["gone", "leaves", "stays"] {
            control.note(&skip(name, 1, 5, 1));
        }
        control.barrier(9, &activation(2, &[("leaves", 1), ("stays", 1)]));
        assert_eq!(skipped(&control, "gone"), (1, vec![5]), "it may still be about to apply them");
        control.barrier(9, &activation(4, &[("stays", 1)]));
        let chain = Chain::start("stays", "d", "{}", 1);
        let totals = BTreeMap::from([("stays".to_owned(), (chain, String::new()))]);
        control.note(&Note::Anchored(Anchor { cut: 3, frame: 8, last_sequence: 20, totals }));
        assert_eq!(control.skips.keys().collect::<Vec<_>>(), ["leaves", "stays"]);
        assert_eq!(skipped(&control, "leaves"), (1, vec![5]), "it runs out up to cut 4");
        assert_eq!(skipped(&control, "stays"), (1, vec![]));
    }

    #[test]
    fn producers_stand_in_the_order_of_their_last_touch() {
        let mut control = Control::default();
        control.touch_producers([("a", 1), ("b", 2)].into_iter());
        control.touch_producers([("a", 5)].into_iter());
        assert_eq!(control.producers, [("b".to_owned(), 2), ("a".to_owned(), 5)]);
    }

    #[test]
    fn an_opening_replaces_everything_before_it() {
        let mut control = Control::default();
        control.events(10, 5);
        let copy = control.clone();
        let mut other = Control::default();
        other.apply(9, &Entry::Opening(Box::new(copy)));
        assert_eq!(other, Control { frame: 9, ..control });
    }
}
