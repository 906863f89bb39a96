//! A tournament over numbered players whose leader is found without looking at all of them again: each inner node holds
//! the winner below it, and only the paths above players that changed since the last question are played anew. Changes
//! cost O(1), a question O(changed · log n). It knows neither scores nor posts; it is derived state and never saved.

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Leaderboard {
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

impl Leaderboard {
    /// The player's standing has changed.
    #[inline]
    pub fn touch(&mut self, player: usize) {
        if player >= self.is_changed.len() {
            self.is_changed.resize((player + 1).next_power_of_two(), false);
        }
        if !self.is_changed[player] {
            self.is_changed[player] = true;
            self.changed.push(player as u32);
        }
    }

    /// The standing of all of `players` has changed.
    pub fn touch_all(&mut self, players: usize) {
        (0..players).for_each(|player| self.touch(player));
    }

    /// The best of `players`; `beats(a, b)` says whether a stands before b. Every change must have been told.
    pub fn leader(&mut self, players: usize, beats: impl Fn(usize, usize) -> bool) -> Option<usize> {
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
