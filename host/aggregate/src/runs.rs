//! Which saved runs to merge: size-tiered by level, in log order, so that n cuts leave O(log n) runs and each delta is
//! merged O(log n) times, however many runs come at once.

use std::ops::Range;

/// Runs of one level that are merged into one of the next.
pub const FAN_IN: usize = 4;

/// The runs to merge next and the level of what they become, given the levels of all runs in log order: the first
/// [`FAN_IN`] neighbours that share a level. A run before one of a higher level counts as of that level, or it would have
/// no neighbours for good. Runs of level `u8::MAX` are merged with nothing.
pub fn to_merge(levels: &[u8]) -> Option<(Range<usize>, u8)> {
    let free = levels.iter().rposition(|level| *level == u8::MAX).map_or(0, |pinned| pinned + 1);
    let (mut end, mut level) = (levels.len(), 0);
    let mut found = None;
    // From the end: the highest level so far is that of the run, and `end` is where runs of that level end.
    for start in (free..levels.len()).rev() {
        if levels[start] > level {
            (end, level) = (start + 1, levels[start]);
        }
        if end - start >= FAN_IN {
            found = Some((start..start + FAN_IN, level + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges while there is something to merge.
    fn compact(levels: &mut Vec<u8>, covered: &mut Vec<u64>) {
        while let Some((range, level)) = to_merge(levels) {
            let sum = covered[range.clone()].iter().sum();
            levels.splice(range.clone(), [level]);
            covered.splice(range, [sum]);
        }
    }

    #[test]
    fn n_cuts_leave_logarithmically_many_runs_however_many_come_at_once() {
        for at_once in [1, 2, 3, 4, 5, 6, 7, 8, 13, 100] {
            let (mut levels, mut covered) = (Vec::new(), Vec::new());
            while covered.iter().sum::<u64>() < 10_000 {
                levels.extend(vec![0; at_once]);
                covered.extend(vec![1; at_once]);
                compact(&mut levels, &mut covered);
                assert!(levels.windows(2).all(|w| w[0] >= w[1]), "{levels:?}");
                assert!(levels.len() <= 3 * 7 + 1, "{} runs of {at_once} at once", levels.len());
            }
            assert!(levels.iter().zip(&covered).all(|(level, cuts)| *cuts == 4_u64.pow(u32::from(*level))));
        }
    }

    #[test]
    fn runs_left_behind_by_higher_levels_are_merged_too() {
        let mut levels = [0, 0, 1].repeat(300);
        let mut covered = vec![1; levels.len()];
        compact(&mut levels, &mut covered);
        assert!(levels.len() <= 3 * 6, "{levels:?}");
        assert!(levels.windows(2).all(|w| w[0] >= w[1]), "{levels:?}");
        assert_eq!(covered.iter().sum::<u64>(), 900);
    }

    #[test]
    fn a_pinned_run_stays() {
        assert_eq!(to_merge(&[u8::MAX, 0, 0, 0]), None);
        assert_eq!(to_merge(&[u8::MAX, 0, 0, 0, 0]), Some((1..5, 1)));
        assert_eq!(to_merge(&[u8::MAX, 1, 0, 0, 0, 0, 0]), Some((2..6, 1)));
    }
}
