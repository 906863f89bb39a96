//! Takes out of a job the events that were seen before, by their ids. Part of the sequencer: only it knows the order.
//! Must not know: the log, acknowledgements.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tally_aggregate::IdWindow;
use tally_aggregate::ids::GROUP_MICROS;
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::Plan;

use crate::parse::Decoded;

/// The ids of the recent past, and those of the frame being filled.
pub struct Duplicates {
    window: IdWindow,
    /// The newest time that the log has for an id, and the monotonic time at which this life goes on from there.
    begun: (i64, Duration),
    /// Of the frame being filled, in order.
    fresh: Vec<u128>,
    /// When the last of them arrived.
    at: i64,
    decoder: Option<(Arc<Plan>, Decoder)>,
}

impl Duplicates {
    /// Goes on from what the log remembers; it is `elapsed` by the monotonic clock.
    pub fn new(window: IdWindow, elapsed: Duration) -> Self {
        let at = window.newest();
        Self { window, begun: (at, elapsed), fresh: Vec::new(), at, decoder: None }
    }

    /// Takes the duplicates out of a job that arrived at `elapsed`, by the monotonic clock: what is left is as if they had not been sent.
    pub fn take_out(&mut self, decoded: &mut Decoded, elapsed: Duration) {
        if !self.window.is_on() || decoded.chunks.iter().all(|chunk| chunk.ids.is_empty()) {
            return;
        }
        self.at = self.now(elapsed);
        self.window.expire(self.at);
        let mut found = false;
        for chunk in &mut decoded.chunks {
            let mut again = Vec::new();
            for id in chunk.ids.drain(..) {
                if self.window.offer(id.hash) {
                    self.fresh.push(id.hash);
                } else {
                    again.push(id.span);
                }
            }
            if !again.is_empty() {
                found = true;
                let count = u32::try_from(again.len()).expect("a chunk has fewer lines");
                chunk.accepted -= count;
                chunk.duplicates += count;
                chunk.removed.append(&mut again);
                join(&mut chunk.removed);
            }
        }
        if found {
            self.decode_again(decoded);
        }
    }

    /// Rare, so the price is a second decoding rather than a batch from which rows can be deleted.
    fn decode_again(&mut self, decoded: &mut Decoded) {
        if !self.decoder.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &decoded.plan)) {
            self.decoder = Some((decoded.plan.clone(), Decoder::new(decoded.plan.clone())));
        }
        let Some((_, decoder)) = &mut self.decoder else { unreachable!("made above") };
        for chunk in &decoded.chunks {
            let kept: u32 = chunk.kept().map(|span| decoder.push(decoded.preset, span, Mode::Replay).accepted).sum();
            assert_eq!(kept, chunk.accepted, "what was accepted once is accepted again");
        }
        decoded.batch = decoder.finish();
    }

    /// The ids' own clock.
    fn now(&self, elapsed: Duration) -> i64 {
        let (newest, since) = self.begun;
        let age = i64::try_from(elapsed.saturating_sub(since).as_micros()).unwrap_or(i64::MAX);
        newest.saturating_add(age)
    }

    /// Ids of the frame being filled, which ends at `elapsed`, and when they arrived by their own clock. Without any, from time to time how
    /// late it is, as long as ids are remembered: they go on ageing from there after a restart.
    pub fn to_log(&mut self, elapsed: Duration) -> Option<(i64, &[u128])> {
        if self.fresh.is_empty() {
            let now = self.now(elapsed);
            if self.window.is_empty() || now.saturating_sub(self.window.newest()) < GROUP_MICROS {
                return None;
            }
            self.at = now;
        }
        Some((self.at, &self.fresh))
    }

    /// The frame is durable.
    pub fn remember(&mut self) {
        self.window.remember(self.at, self.fresh.drain(..));
    }

    /// What durable frames had, as far as it is remembered.
    pub fn window(&self) -> &IdWindow {
        &self.window
    }
}

/// Sorts ranges and joins those that touch.
fn join(ranges: &mut Vec<Range<usize>>) {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touch = next.start <= last.end;
        if touch {
            last.end = last.end.max(next.end);
        }
        touch
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_on_ageing_after_a_restart_from_where_the_log_says() {
        let second = |seconds: i64| seconds * 1_000_000;
        let mut window = IdWindow::new(10, second(600));
        window.restore(second(100), [7]);
        let mut duplicates = Duplicates::new(window, Duration::from_secs(5));
        assert_eq!(duplicates.to_log(Duration::from_millis(5900)), None, "as good as nothing has passed");
        let said = duplicates.to_log(Duration::from_secs(405)).map(|(at, ids)| (at, ids.to_vec()));
        assert_eq!(said, Some((second(500), Vec::new())));
        duplicates.remember();
        assert_eq!(duplicates.to_log(Duration::from_secs(405)), None);
        // The next life has read that.
        let mut window = IdWindow::new(10, second(600));
        window.restore(second(100), [7]);
        window.restore(second(500), []);
        let mut duplicates = Duplicates::new(window, Duration::ZERO);
        assert!(!duplicates.window().is_empty());
        assert!(duplicates.to_log(Duration::from_secs(202)).is_some());
        duplicates.remember();
        assert!(duplicates.window().is_empty() && duplicates.to_log(Duration::from_secs(900)).is_none());
    }

    #[test]
    fn ranges_are_joined_where_they_touch() {
        let mut ranges = vec![10..20, 0..5, 5..7, 30..31, 20..30];
        join(&mut ranges);
        assert_eq!(ranges, [0..7, 10..31]);
    }
}
