//! Who leads, without looking at all of them again: a tournament over numbered players. Each inner node holds the winner below it, and
//! only the paths above players that changed since the last question are played anew. Changes cost O(1), a question O(changed · log n).
//! It knows neither scores nor texts.

use std::cell::RefCell;

/// The best of the entries of a [`crate::Groups`] (or of anything that is numbered), by an order in which scores may rise and fall.
///
/// It follows from what it is a board of, so it is no state: mark it `#[state(skip)]`, tell it of every change, and of all
/// in [`crate::Aggregator::rebuild`]. No two players may be equal in the order, or the leader would show how they came to be
/// numbered. Exact; 4 to 12 bytes per player, none saved.
///
/// ```
/// use tally_sdk::{Count, Groups, Leaderboard, testing::with_texts};
///
/// let (mut posts, mut board) = (Groups::<Count>::default(), Leaderboard::default());
/// with_texts(&["b", "a", "c", "a", "b"], |texts| {
///     for &text in texts {
///         let post = posts.number(text);
///         posts.values_mut()[post].add(1);
///         board.touch(post);
///     }
/// });
/// // More first, then the smaller text.
/// let order = |a: usize, b: usize| {
///     posts.values()[b].cmp(&posts.values()[a]).then_with(|| posts.key_bytes(a).cmp(posts.key_bytes(b)))
/// };
/// let leader = board.leader(posts.len(), |a, b| order(a, b).is_lt());
/// assert_eq!(leader.map(|post| posts.key(post)), Some("a"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Leaderboard {
    tournament: RefCell<Tournament>,
}

impl Leaderboard {
    /// The player's standing has changed.
    #[inline]
    pub fn touch(&mut self, player: usize) {
        self.tournament.get_mut().touch(player);
    }

    /// The standing of all of `players` has changed.
    pub fn touch_all(&mut self, players: usize) {
        (0..players).for_each(|player| self.touch(player));
    }

    /// The best of `players`; `beats(a, b)` says whether a stands before b. Every change must have been told.
    pub fn leader(&self, players: usize, beats: impl Fn(usize, usize) -> bool) -> Option<usize> {
        self.tournament.borrow_mut().leader(players, beats)
    }
}

#[derive(Clone, Debug, Default)]
struct Tournament {
    /// Players that changed, each once.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
    /// A heap-shaped tree over `width` leaves: node i has children 2i and 2i+1, leaves start at `width`. Winner per inner
    /// node; `NOBODY` where there is no player below.
    winners: Vec<u32>,
    width: usize,
    players: usize,
}

const NOBODY: u32 = u32::MAX;

impl Tournament {
    #[inline]
    fn touch(&mut self, player: usize) {
        if player >= self.is_changed.len() {
            self.is_changed.resize((player + 1).next_power_of_two(), false);
        }
        if !self.is_changed[player] {
            self.is_changed[player] = true;
            self.changed.push(player as u32);
        }
    }

    fn leader(&mut self, players: usize, beats: impl Fn(usize, usize) -> bool) -> Option<usize> {
        if players == 0 {
            return None;
        }
        if players > self.width {
            self.width = players.next_power_of_two();
            self.winners = vec![NOBODY; self.width];
            (0..self.players).for_each(|player| self.touch(player));
        }
        self.players = players;
        let mut nodes: Vec<usize> = Vec::with_capacity(self.changed.len());
        for player in std::mem::take(&mut self.changed) {
            self.is_changed[player as usize] = false;
            nodes.push((self.width + player as usize) / 2);
        }
        // Level by level, each changed node once.
        while nodes.first().is_some_and(|node| *node >= 1) {
            nodes.sort_unstable();
            nodes.dedup();
            for node in &nodes {
                self.winners[*node] = self.play(2 * node, 2 * node + 1, &beats);
            }
            nodes.iter_mut().for_each(|node| *node /= 2);
        }
        let winner = if self.width == 1 { 0 } else { self.winners[1] };
        (winner != NOBODY).then_some(winner as usize)
    }

    fn winner(&self, node: usize) -> u32 {
        match node.checked_sub(self.width) {
            None => self.winners[node],
            Some(player) if player < self.players => player as u32,
            Some(_) => NOBODY,
        }
    }

    fn play(&self, left: usize, right: usize, beats: &impl Fn(usize, usize) -> bool) -> u32 {
        match (self.winner(left), self.winner(right)) {
            (NOBODY, other) | (other, NOBODY) => other,
            (a, b) if beats(b as usize, a as usize) => b,
            (a, _) => a,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_leader_is_the_best_after_any_changes(
            changes in prop::collection::vec((0usize..40, -3i64..4, any::<bool>()), 1..200)
        ) {
            let mut scores: Vec<i64> = Vec::new();
            let mut board = Leaderboard::default();
            for (player, change, ask) in changes {
                let player = player.min(scores.len());
                if player == scores.len() {
                    scores.push(0);
                }
                scores[player] += change;
                board.touch(player);
                if ask {
                    let best = (0..scores.len()).min_by_key(|p| (-scores[*p], *p));
                    let leader = board.leader(scores.len(), |a, b| (-scores[a], a) < (-scores[b], b));
                    prop_assert_eq!(leader, best);
                }
            }
        }
    }
}
