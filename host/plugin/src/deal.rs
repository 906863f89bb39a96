//! Which shard gets which row: those of one text go to one shard, so that what an aggregator keeps per text is kept once;
//! those of a text that is very frequent go to all shards, so that none waits for another. Knows codes and hashes only.

/// A text is frequent when its rows are more than one in so many of what a shard gets if all get the same.
const FREQUENT: usize = 8;

/// See the module. Kept from batch to batch for its memory.
pub(crate) struct Dealer {
    /// Rows of each dictionary entry.
    counts: Vec<u32>,
    /// Rows of each shard, ascending.
    shares: Vec<Vec<u32>>,
}

impl Dealer {
    pub(crate) fn new(shards: usize) -> Self {
        Self { counts: Vec::new(), shares: vec![Vec::new(); shards] }
    }

    /// Deals rows `0..codes.len()`, whose texts are entries `codes` of a dictionary with these hashes, and calls each row what
    /// `number` calls it. The same rows are always dealt in the same way.
    pub(crate) fn deal(&mut self, codes: &[u32], hashes: &[u64], number: impl Fn(usize) -> u32) -> &mut [Vec<u32>] {
        let shards = self.shares.len();
        self.counts.clear();
        // A column without any value has no entries, and code 0 in each row.
        self.counts.resize(hashes.len().max(1), 0);
        codes.iter().for_each(|&code| self.counts[code as usize] += 1);
        let frequent = codes.len() / (shards * FREQUENT);
        self.shares.iter_mut().for_each(Vec::clear);
        for (row, &code) in codes.iter().enumerate() {
            let shard = if self.counts[code as usize] as usize > frequent {
                least(&self.shares)
            } else {
                home(hashes.get(code as usize).copied().unwrap_or(0), shards)
            };
            self.shares[shard].push(number(row));
        }
        &mut self.shares
    }
}

/// The shard with the fewest rows, the first of them.
fn least(shares: &[Vec<u32>]) -> usize {
    (0..shares.len()).min_by_key(|&shard| shares[shard].len()).unwrap_or(0)
}

/// The shard of a hash. Guests have hash tables that go by its highest bits or by its lowest, so a shard's hashes must not have any
/// of them in common: they are mixed first.
fn home(hash: u64, shards: usize) -> usize {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (((mixed >> 32) * shards as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(code: usize) -> u64 {
        xxhash_rust::xxh3::xxh3_64(format!("u{code}").as_bytes())
    }

    /// Deals rows of `keys` texts, of which the first has `hot` rows in a hundred; the others take turns.
    fn dealt(shards: usize, rows: usize, keys: usize, hot: usize) -> (Vec<u32>, Vec<Vec<u32>>) {
        let cold = |row: usize| 1 + (row * 7919) % (keys - 1);
        let codes: Vec<u32> = (0..rows).map(|row| if row * 61 % 100 < hot { 0 } else { cold(row) as u32 }).collect();
        let hashes: Vec<u64> = (0..keys).map(hash).collect();
        let mut dealer = Dealer::new(shards);
        let shares = dealer.deal(&codes, &hashes, |row| row as u32).to_vec();
        (codes, shares)
    }

    #[test]
    fn every_row_is_dealt_once() {
        for (shards, hot) in [(1, 0), (2, 50), (3, 90), (5, 99), (5, 0)] {
            let (_, shares) = dealt(shards, 3000, 700, hot);
            assert!(shares.iter().all(|share| share.is_sorted()));
            let mut all: Vec<u32> = shares.concat();
            all.sort_unstable();
            assert_eq!(all, (0..3000).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn no_shard_gets_much_more_than_another_however_hot_a_text_is() {
        for shards in 2..=5 {
            for hot in [0, 10, 30, 45, 60, 90, 100] {
                let (_, shares) = dealt(shards, 4096, 1500, hot);
                let most = shares.iter().map(Vec::len).max().unwrap();
                let fair = 4096_usize.div_ceil(shards);
                assert!(most <= fair + fair / 8, "{hot} in 100, {shards} shards: {most} rows where {fair} are fair");
            }
        }
    }

    #[test]
    fn rows_of_a_rare_text_stay_together_beside_a_hot_one() {
        let (codes, shares) = dealt(3, 4096, 1500, 90);
        let mut homes = vec![None; 1500];
        let mut of_the_hot = [0; 3];
        for (shard, share) in shares.iter().enumerate() {
            for &row in share {
                match codes[row as usize] {
                    0 => of_the_hot[shard] += 1,
                    code => assert_eq!(*homes[code as usize].get_or_insert(shard), shard, "text {code}"),
                }
            }
        }
        assert!(of_the_hot.iter().all(|rows| (1000..1500).contains(rows)), "{of_the_hot:?}");
    }

    #[test]
    fn the_hashes_of_a_shard_have_no_bits_in_common() {
        for shards in [2, 3, 4, 8] {
            for shard in 0..shards {
                let own: Vec<u64> = (0..20_000).map(hash).filter(|&hash| home(hash, shards) == shard).collect();
                for bit in 0..64 {
                    let ones = own.iter().filter(|&&hash| hash >> bit & 1 == 1).count();
                    let half = own.len() / 2;
                    assert!(ones.abs_diff(half) < half / 8, "bit {bit} is 1 in {ones} of {} hashes", own.len());
                }
            }
        }
    }

    #[test]
    fn a_column_without_values_is_dealt_evenly() {
        let mut dealer = Dealer::new(4);
        let shares = dealer.deal(&[0; 400], &[], |row| row as u32);
        assert!(shares.iter().all(|share| share.len() == 100));
    }
}
