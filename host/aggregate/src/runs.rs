//! Which saved runs to merge: size-tiered by level, in log order, so that n cuts leave O(log n) runs and each delta is
//! merged O(log n) times.

use std::ops::Range;

/// Runs of one level that are merged into one of the next.
pub const FAN_IN: usize = 4;

/// The runs to merge next, given the levels of all runs in log order: the last [`FAN_IN`] when they share a level.
pub fn to_merge(levels: &[u8]) -> Option<Range<usize>> {
    let start = levels.len().checked_sub(FAN_IN)?;
    let level = levels[start];
    (level < u8::MAX && levels[start..].iter().all(|l| *l == level)).then_some(start..levels.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n_cuts_leave_logarithmically_many_runs() {
        let mut levels: Vec<u8> = Vec::new();
        let mut covered: Vec<u64> = Vec::new();
        for _ in 0..10_000 {
            levels.push(0);
            covered.push(1);
            while let Some(range) = to_merge(&levels) {
                let level = levels[range.start] + 1;
                let sum = covered[range.clone()].iter().sum();
                levels.splice(range.clone(), [level]);
                covered.splice(range, [sum]);
            }
            assert!(levels.windows(2).all(|w| w[0] >= w[1]));
        }
        assert_eq!(covered.iter().sum::<u64>(), 10_000);
        assert!(levels.len() <= 3 * 7 + 1, "{} runs", levels.len());
    }
}
