//! What the decoder gave, in the oracle's terms.

use crate::oracle::{Expected, Reason, Share};
use crate::view;
use tally_event::batch::Batch;
use tally_event::decode::Pushed;

/// Sequence of the first event.
pub const FIRST: u64 = 1000;
/// When events without a time arrive.
pub const ARRIVAL: i64 = 1_769_508_000_000_000;

/// A batch in the oracle's terms.
pub fn seen(pushed: &[(u32, Pushed)], mut batch: Batch) -> Expected {
    batch.stamp(FIRST, ARRIVAL);
    let rejects = pushed.iter().flat_map(|(before, pushed)| {
        pushed.rejects.iter().map(move |reject| (before + reject.line, Reason::Exactly(reject.reason)))
    });
    let ids = pushed.iter().flat_map(|(before, pushed)| pushed.ids.iter().map(move |id| (before + id.line, id.hash)));
    let subscribers = batch.plan().subscribers();
    let shares = subscribers.iter().enumerate().map(|(index, subscriber)| {
        let selected = batch.for_subscriber(index);
        let refused = selected
            .refused
            .iter()
            .map(|refused| (FIRST + u64::from(refused.sequence_offset), refused.reason.text(&subscriber.manifest)));
        Share { rows: view::rows(&selected.rows), refused: refused.collect(), not_subscribed: selected.not_subscribed }
    });
    let shares = shares.collect();
    let (rejects, ids) = (rejects.collect(), ids.collect());
    Expected { rejects, accepted: batch.accepted(), ids, max_time: batch.max_time(), shares }
}
