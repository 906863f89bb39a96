//! What follows from a failing call on the apply side: begin again at the last cut, spare the aggregator one event, or give
//! it up. Pure: it sees failures and says what to do, and knows neither instances nor the log.
//!
//! A call that traps, runs out of fuel or breaks the contract does so for reasons that are the same everywhere, so they may
//! lie in an event. The store is gone, so everything since the last cut is applied anew in another one, and the events of
//! the failing call get a call each. The one that fails again, alone, is skipped; every round skips one event or passes.
//! The wall-clock backstop and the memory limit tell nothing of an event, nor does a call without one: for those there is
//! one retry from the last cut, and then quarantine.

use tally_plugin::CallError;

use super::apply::{Care, Failed};

/// See the module. Bounded by the strikes that are allowed.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Skips since the aggregator was attached, resumed, or got another plugin, and failures that led to none.
    strikes: u32,
    /// What the next attempt has to take care of.
    care: Care,
    /// Those of `care.alone` of which no event has failed alone so far.
    unexplained: u32,
    /// A failure since the last cut that said nothing of an event.
    failed_since_cut: bool,
}

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Everything since the last cut, with the care that [`Failures::care`] now says.
    BeginAgain,
    /// Have it logged that this event is skipped; then begin again.
    Skip(u64),
    /// Give it up, for this reason.
    Quarantine(String),
}

impl Failures {
    /// Nothing has failed in this life; the log knows of these skips and strikes.
    pub fn new(skips: impl IntoIterator<Item = u64>, strikes: u32) -> Self {
        Self { strikes, care: Care { skips: skips.into_iter().collect(), alone: Vec::new() }, ..Self::default() }
    }

    /// What the next attempt has to take care of.
    pub fn care(&self) -> &Care {
        &self.care
    }

    /// A cut is saved up to this sequence: what lies before it cannot fail any more.
    pub fn saved(&mut self, last_sequence: u64) {
        // Each was a reason to begin again, so a plugin that goes on like this is given up as well.
        self.strikes += std::mem::take(&mut self.unexplained);
        self.care.alone.clear();
        self.care.skips = self.care.skips.split_off(&last_sequence.saturating_add(1));
        self.failed_since_cut = false;
    }

    /// Another plugin goes on.
    pub fn forgive(&mut self) {
        self.strikes = 0;
    }

    /// What to do, when at most so many strikes are allowed.
    pub fn next(&mut self, failed: &Failed, most: u32) -> Next {
        let in_an_event =
            matches!(failed.error, CallError::Trap { .. } | CallError::OutOfFuel { .. } | CallError::Invalid(_));
        match failed.events {
            Some((first, last)) if in_an_event => self.in_events(first, last, &failed.error, most),
            _ if self.failed_since_cut => Next::Quarantine(failed.error.to_string()),
            _ => {
                self.failed_since_cut = true;
                Next::BeginAgain
            }
        }
    }

    fn in_events(&mut self, first: u64, last: u64, error: &CallError, most: u32) -> Next {
        let was_alone = first == last && self.care.alone.iter().any(|range| range.contains(&first));
        if self.strikes + self.unexplained >= most + u32::from(was_alone && self.unexplained > 0) {
            let times = self.strikes + self.unexplained;
            return Next::Quarantine(format!(
                "{error}; it failed on {times} events before, and plugin.strikes allows {most}"
            ));
        }
        if !was_alone {
            self.care.alone.push(first..=last);
            self.unexplained += 1;
            return Next::BeginAgain;
        }
        self.strikes += 1;
        // One failure is explained; a second event of the same call counts for itself.
        self.unexplained = self.unexplained.saturating_sub(1);
        self.care.skips.insert(first);
        Next::Skip(first)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tally_event::columns::Rows;

    use super::*;

    fn trap() -> CallError {
        CallError::Trap { call: "apply", reason: "unreachable".into(), backtrace: String::new() }
    }

    fn memory() -> CallError {
        CallError::Memory { call: "apply", reason: "too much".into() }
    }

    fn failed(error: CallError, events: Option<(u64, u64)>) -> Failed {
        Failed { error, events }
    }

    fn rows(first_sequence: u64, count: u32) -> Rows<'static> {
        Rows {
            first_sequence,
            sequence_offsets: (0..count).collect(),
            times: vec![0; count as usize].into(),
            event_types: vec![0; count as usize].into(),
            columns: vec![],
        }
    }

    /// Applies batches as `Apply` would, on a plugin that traps at each of `bad` and at calls of more than `crowd` rows.
    fn attempt(
        care: &Care,
        batches: &[u32],
        batch_rows: usize,
        bad: &BTreeSet<u64>,
        crowd: usize,
    ) -> Result<Vec<u64>, Failed> {
        let (mut first, mut applied) = (1, Vec::new());
        for &count in batches {
            let rows = rows(first, count);
            let mut next = 0;
            while next < rows.len() {
                let call = care.next_call(&rows, next..rows.len(), batch_rows);
                next = call.end;
                let events: Vec<u64> = call.map(|row| first + row as u64).collect();
                if events.len() > crowd || events.iter().any(|event| bad.contains(event)) {
                    let (Some(first), Some(last)) = (events.first(), events.last()) else { unreachable!("not empty") };
                    return Err(failed(trap(), Some((*first, *last))));
                }
                applied.extend(events);
            }
            first += u64::from(count);
        }
        Ok(applied)
    }

    /// Until all batches are applied; the attempts that it took, or why it was given up.
    fn run(
        failures: &mut Failures,
        batches: &[u32],
        batch_rows: usize,
        bad: &BTreeSet<u64>,
        crowd: usize,
        most: u32,
    ) -> Result<(Vec<u64>, Vec<u64>), String> {
        let mut skipped = Vec::new();
        for _ in 0..3 * most + 3 {
            match attempt(failures.care(), batches, batch_rows, bad, crowd) {
                Ok(applied) => return Ok((applied, skipped)),
                Err(failed) => match failures.next(&failed, most) {
                    Next::BeginAgain => {}
                    Next::Skip(event) => skipped.push(event),
                    Next::Quarantine(reason) => return Err(reason),
                },
            }
        }
        panic!("it goes on for ever");
    }

    proptest! {
        #[test]
        fn exactly_the_events_that_fail_alone_are_skipped(
            batches in proptest::collection::vec(1u32..20, 1..12),
            batch_rows in 1usize..25,
            bad in proptest::collection::btree_set(1u64..120, 0..12),
            most in 12u32..20,
        ) {
            let last: u64 = batches.iter().map(|count| u64::from(*count)).sum();
            let bad: BTreeSet<u64> = bad.into_iter().filter(|event| *event <= last).collect();
            let mut failures = Failures::new([], 0);
            let (applied, skipped) = run(&mut failures, &batches, batch_rows, &bad, usize::MAX, most).unwrap();
            prop_assert!(bad.iter().eq(&skipped), "{skipped:?}");
            prop_assert!((1..=last).filter(|event| !bad.contains(event)).eq(applied.iter().copied()));
            // Whoever knows the skips from the start fails nowhere.
            let known = Failures::new(bad.clone(), 0);
            prop_assert_eq!(attempt(known.care(), &batches, batch_rows, &bad, usize::MAX), Ok(applied));
            failures.saved(last);
            prop_assert_eq!(failures.care(), &Care::default());
            prop_assert_eq!(failures.strikes as usize, bad.len());
        }

        #[test]
        fn one_skip_more_than_allowed_is_quarantine(
            bad in proptest::collection::btree_set(1u64..200, 1..30),
            batch_rows in 1usize..50,
            most in 1u32..30,
        ) {
            let ended = run(&mut Failures::new([], 0), &[50, 50, 50, 50], batch_rows, &bad, usize::MAX, most);
            prop_assert_eq!(ended.is_ok(), bad.len() <= most as usize, "{:?}", ended);
        }
    }

    #[test]
    fn a_call_that_fails_only_as_a_whole_skips_nothing_but_counts() {
        let mut failures = Failures::new([], 0);
        let (applied, skipped) = run(&mut failures, &[8, 8], 8, &BTreeSet::new(), 7, 3).unwrap();
        assert_eq!((applied.len(), skipped.len()), (16, 0));
        failures.saved(16);
        assert_eq!(failures.strikes, 2, "beginning again costs, so it cannot go on for ever");
        let reason = run(&mut failures, &[8, 8], 8, &BTreeSet::new(), 7, 3).unwrap_err();
        assert_eq!(reason, "`apply` trapped: unreachable; it failed on 3 events before, and plugin.strikes allows 3");
    }

    #[test]
    fn what_says_nothing_of_an_event_is_retried_once_between_two_cuts() {
        for fails in [failed(memory(), Some((1, 9))), failed(memory(), Some((4, 4))), failed(trap(), None)] {
            let mut failures = Failures::new([], 0);
            assert_eq!(failures.next(&fails, 5), Next::BeginAgain);
            assert_eq!(failures.care(), &Care::default());
            assert_eq!(failures.next(&fails, 5), Next::Quarantine(fails.to_string()));
            failures.saved(9);
            assert_eq!(failures.next(&fails, 5), Next::BeginAgain);
        }
    }

    #[test]
    fn another_plugin_has_no_strikes() {
        let mut failures = Failures::new([3], 5);
        let fails = failed(trap(), Some((7, 7)));
        assert!(matches!(failures.clone().next(&fails, 5), Next::Quarantine(_)));
        failures.forgive();
        assert_eq!(failures.next(&fails, 5), Next::BeginAgain);
        assert_eq!(failures.next(&fails, 5), Next::Skip(7));
        assert_eq!(failures.care().skips, BTreeSet::from([3, 7]));
    }
}
