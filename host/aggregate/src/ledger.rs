//! The ledger: every event received ends in exactly one place, each term counted where it happens, none by subtraction.
//!
//! - for everyone: received = accepted + rejected(reason) + duplicate + dropped(reason);
//! - per aggregator: accepted = applied + refused(reason) + late-not-applied + skipped + not-subscribed + pending + expired.
//!
//! All terms are cumulative; a window's ledger is the difference of two, which balances because both ends do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts by reason, in the order of the reasons' names.
pub type Reasons = BTreeMap<String, u64>;

fn add(into: &mut Reasons, other: &Reasons) {
    for (reason, n) in other {
        *into.entry(reason.clone()).or_default() += n;
    }
}

fn since(now: &Reasons, before: &Reasons) -> Reasons {
    now.iter()
        .map(|(reason, n)| (reason.clone(), n - before.get(reason).copied().unwrap_or(0)))
        .filter(|(_, n)| *n > 0)
        .collect()
}

/// What came in at the doors and what was decided of it. Cumulative since the log began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events received: lines that are not blank.
    pub received: u64,
    /// Events that have a sequence number.
    pub accepted: u64,
    /// Events that are wrong for everyone, by reason.
    pub rejected: Reasons,
    /// Events seen before, recognised by the producer's identification of them.
    pub duplicate: u64,
    /// Events given up for want of room, by reason.
    pub dropped: Reasons,
}

impl Counts {
    /// True when every received event is accounted for.
    pub fn balances(&self) -> bool {
        self.received
            == self.accepted + self.rejected.values().sum::<u64>() + self.duplicate + self.dropped.values().sum::<u64>()
    }

    /// Adds one rejected event.
    pub fn reject(&mut self, reason: &str) {
        match self.rejected.get_mut(reason) {
            Some(n) => *n += 1,
            None => {
                self.rejected.insert(reason.to_owned(), 1);
            }
        }
    }

    /// Adds events that were given up before they were looked at.
    pub fn drop_unread(&mut self, reason: &str, events: u64) {
        if events > 0 {
            self.received += events;
            *self.dropped.entry(reason.to_owned()).or_default() += events;
        }
    }

    /// What was counted after `before`.
    pub fn since(&self, before: &Counts) -> Counts {
        Counts {
            received: self.received - before.received,
            accepted: self.accepted - before.accepted,
            rejected: since(&self.rejected, &before.rejected),
            duplicate: self.duplicate - before.duplicate,
            dropped: since(&self.dropped, &before.dropped),
        }
    }
}

/// What became of the accepted events at one aggregator. Cumulative since it was attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregatorLedger {
    /// Accepted events that passed by this aggregator.
    pub accepted: u64,
    /// Applied to its state.
    pub applied: u64,
    /// Refused for it alone, by the host (a field missing or ill-typed) or by the plugin, by reason.
    pub refused: Reasons,
    /// Too late for the window they belong to.
    pub late_not_applied: u64,
    /// Skipped by a logged decision.
    pub skipped: u64,
    /// Of a type that it does not subscribe to.
    pub not_subscribed: u64,
    /// Accepted but not yet seen by it; zero at a cut.
    pub pending: u64,
    /// Deleted from the log before it saw them.
    pub expired: u64,
}

impl AggregatorLedger {
    /// True when every accepted event is accounted for.
    pub fn balances(&self) -> bool {
        self.accepted
            == self.applied
                + self.refused.values().sum::<u64>()
                + self.late_not_applied
                + self.skipped
                + self.not_subscribed
                + self.pending
                + self.expired
    }

    /// Counts `n` refused events.
    pub fn refuse(&mut self, reason: &str, n: u64) {
        match self.refused.get_mut(reason) {
            Some(count) => *count += n,
            None => {
                self.refused.insert(reason.to_owned(), n);
            }
        }
    }

    /// Adds all terms of `other`.
    pub fn add(&mut self, other: &AggregatorLedger) {
        self.accepted += other.accepted;
        self.applied += other.applied;
        add(&mut self.refused, &other.refused);
        self.late_not_applied += other.late_not_applied;
        self.skipped += other.skipped;
        self.not_subscribed += other.not_subscribed;
        self.pending += other.pending;
        self.expired += other.expired;
    }

    /// What was counted after `before`.
    pub fn since(&self, before: &AggregatorLedger) -> AggregatorLedger {
        AggregatorLedger {
            accepted: self.accepted - before.accepted,
            applied: self.applied - before.applied,
            refused: since(&self.refused, &before.refused),
            late_not_applied: self.late_not_applied - before.late_not_applied,
            skipped: self.skipped - before.skipped,
            not_subscribed: self.not_subscribed - before.not_subscribed,
            pending: self.pending,
            expired: self.expired - before.expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_window_of_two_balanced_ledgers_balances(steps in proptest::collection::vec((0u8..6, 1u64..5), 1..40), split in 0usize..40) {
            let mut ledger = AggregatorLedger::default();
            let mut middle = ledger.clone();
            for (i, (what, n)) in steps.iter().enumerate() {
                if i == split { middle = ledger.clone(); }
                ledger.accepted += n;
                match what {
                    0 => ledger.applied += n,
                    1 => ledger.refuse("unknown_action", *n),
                    2 => ledger.refuse("missing:/user_id", *n),
                    3 => ledger.not_subscribed += n,
                    4 => ledger.expired += n,
                    _ => ledger.skipped += n,
                }
            }
            let window = ledger.since(&middle);
            prop_assert!(ledger.balances() && middle.balances() && window.balances());
            middle.add(&window);
            prop_assert_eq!(middle, ledger);
        }
    }

    #[test]
    fn an_uncounted_event_is_seen() {
        let counts = Counts { received: 3, accepted: 2, ..Counts::default() };
        assert!(!counts.balances());
        let mut counts = counts;
        counts.reject("invalid_json");
        assert!(counts.balances());
    }

    /// Nothing is zero, and every number another.
    fn counts() -> Counts {
        let mut counts = Counts { received: 40, accepted: 10, duplicate: 7, ..Counts::default() };
        for reason in ["invalid_json", "too_deep", "invalid_json"] {
            counts.reject(reason);
        }
        counts.drop_unread("disk_full", 20);
        counts.drop_unread("disk_full", 5);
        counts.drop_unread("idle", 0);
        counts
    }

    #[test]
    fn what_is_dropped_unread_counts_as_received() {
        let counts = counts();
        assert_eq!((counts.received, counts.dropped.get("disk_full")), (65, Some(&25)));
        assert_eq!(counts.dropped.len(), 1, "nothing is no reason");
        assert_eq!(counts.rejected, Reasons::from([("invalid_json".into(), 2), ("too_deep".into(), 1)]));
    }

    #[test]
    fn every_term_of_the_counts_weighs() {
        let whole = Counts { received: 10 + 3 + 7 + 25, ..counts() };
        assert!(whole.balances());
        let changes: &[fn(&mut Counts)] = &[
            |counts| counts.received += 1,
            |counts| counts.accepted += 1,
            |counts| counts.duplicate += 1,
            |counts| counts.reject("too_deep"),
            |counts| *counts.dropped.entry("disk_full".into()).or_default() += 1,
        ];
        for change in changes {
            let mut changed = whole.clone();
            change(&mut changed);
            assert!(!changed.balances(), "{changed:?}");
        }
    }

    #[test]
    fn a_window_holds_what_was_counted_in_it() {
        let before = counts();
        let mut now = before.clone();
        now.received += 9;
        now.accepted += 4;
        now.duplicate += 3;
        now.reject("too_deep");
        now.drop_unread("queue_full", 1);
        let expected = Counts {
            received: 10,
            accepted: 4,
            duplicate: 3,
            rejected: Reasons::from([("too_deep".into(), 1)]),
            dropped: Reasons::from([("queue_full".into(), 1)]),
        };
        assert_eq!(now.since(&before), expected);
    }

    /// Nothing is zero, and every number another.
    fn ledger(refused: u64) -> AggregatorLedger {
        AggregatorLedger {
            accepted: 2 + refused + 3 + 5 + 7 + 11 + 13,
            applied: 2,
            refused: Reasons::from([("missing:/n".into(), refused)]),
            late_not_applied: 3,
            skipped: 5,
            not_subscribed: 7,
            pending: 11,
            expired: 13,
        }
    }

    #[test]
    fn every_term_of_an_aggregators_ledger_weighs() {
        let whole = ledger(17);
        assert!(whole.balances());
        let changes: &[fn(&mut AggregatorLedger)] = &[
            |ledger| ledger.accepted += 1,
            |ledger| ledger.applied += 1,
            |ledger| ledger.refuse("missing:/n", 1),
            |ledger| ledger.refuse("trap", 1),
            |ledger| ledger.late_not_applied += 1,
            |ledger| ledger.skipped += 1,
            |ledger| ledger.not_subscribed += 1,
            |ledger| ledger.pending += 1,
            |ledger| ledger.expired += 1,
        ];
        for change in changes {
            let mut changed = whole.clone();
            change(&mut changed);
            assert!(!changed.balances(), "{changed:?}");
        }
    }

    #[test]
    fn ledgers_add_up_and_windows_take_apart_but_for_what_is_pending_now() {
        let (one, other) = (ledger(17), ledger(19));
        let mut both = one.clone();
        both.add(&other);
        let expected = AggregatorLedger {
            accepted: one.accepted + other.accepted,
            applied: 4,
            refused: Reasons::from([("missing:/n".into(), 36)]),
            late_not_applied: 6,
            skipped: 10,
            not_subscribed: 14,
            pending: 22,
            expired: 26,
        };
        assert_eq!(both, expected);
        assert_eq!(both.since(&one), AggregatorLedger { pending: 22, ..other });
        assert_eq!(one.since(&one), AggregatorLedger { pending: 11, ..AggregatorLedger::default() });
    }
}
