//! How many different texts there were: exactly up to a bound, estimated by HyperLogLog beyond it.
//!
//! What is kept is a function of the set of texts alone: their 64-bit hashes while there are at most `EXACT`, HyperLogLog's registers
//! once there are more. A set never shrinks, so if a part was over the bound, the whole is: order, splits and merges leave no trace.
//!
//! HyperLogLog is that of Flajolet, Fusy, Gandouet and Meunier (2007), over 64-bit hashes as in Heule, Nunkesser and Hall (2013). The
//! estimator is the improved one of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017, section 2.4 and
//! algorithm 6): one formula for all sizes, without tables of measured bias, and without logarithms, so that it gives the same bits
//! everywhere. Its relative standard error is 1.04 / sqrt(2^PRECISION), the published one of HyperLogLog.

use crate::distinct::HashSet64;
use crate::state::{LoadError, Reader, State, put_count};
use crate::text::{PerText, Text};

/// A set of texts of which only the size is asked for.
///
/// Exact up to `EXACT` texts (but for two with the same 64-bit hash, see [`crate::Distinct`]); beyond, an estimate with
/// [`ApproxDistinct::standard_error`]: 0.8 % with the default `PRECISION` of 14. Takes at most 18 bytes per text (and 1 KiB) up to the bound,
/// and `2^PRECISION` bytes beyond (16 KiB by default); saves to 8 bytes per text and `2^PRECISION` bytes.
///
/// Both parameters are part of what saved bytes mean: another state version goes with other ones.
///
/// ```
/// use tally_sdk::{ApproxDistinct, testing::with_texts};
///
/// let mut users = ApproxDistinct::<2>::default();
/// with_texts(&["ada", "bob", "ada"], |texts| texts.iter().for_each(|&user| users.insert(user)));
/// assert_eq!((users.len(), users.is_exact(), users.standard_error()), (2, true, 0.0));
/// with_texts(&["eve"], |texts| users.insert(texts[0]));
/// assert_eq!((users.len(), users.is_exact(), users.standard_error()), (3, false, 1.04 / 128.0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ApproxDistinct<const EXACT: usize = 4096, const PRECISION: u32 = 14> {
    /// All of them, while there are no registers.
    hashes: HashSet64,
    /// None, or `2^PRECISION`.
    registers: Vec<u8>,
    /// What this batch has put in already.
    seen: PerText<()>,
}

impl<const EXACT: usize, const PRECISION: u32> ApproxDistinct<EXACT, PRECISION> {
    const REGISTERS: usize = {
        assert!(PRECISION >= 4 && PRECISION <= 18, "precisions from 4 to 18 are useful");
        1 << PRECISION
    };
    /// The bits of a hash that do not name a register; a register is at most one more.
    const BITS: usize = 64 - PRECISION as usize;

    /// Puts a text in.
    #[inline]
    pub fn insert(&mut self, text: Text<'_>) {
        if self.seen.get(text).is_none() {
            self.seen.set(text, ());
            self.put(text.hash());
        }
    }

    /// How many different texts are in: exactly, or about so many, and at least one more than can be counted exactly.
    pub fn len(&self) -> u64 {
        match self.is_exact() {
            true => self.hashes.len() as u64,
            false => ((self.estimate() + 0.5) as u64).max(EXACT as u64 + 1),
        }
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.is_exact() && self.hashes.len() == 0
    }

    /// Whether [`ApproxDistinct::len`] is exact.
    pub fn is_exact(&self) -> bool {
        self.registers.is_empty()
    }

    /// The relative standard error of [`ApproxDistinct::len`]: two thirds of all answers are closer, 19 of 20 closer than twice that.
    /// 0 while it is exact.
    pub fn standard_error(&self) -> f64 {
        if self.is_exact() { 0.0 } else { 1.04 / (Self::REGISTERS as f64).sqrt() }
    }

    #[inline]
    fn put(&mut self, hash: u64) {
        if self.is_exact() {
            self.hashes.insert(hash);
            if self.hashes.len() > EXACT {
                self.give_up_exactness();
            }
        } else {
            self.raise(hash);
        }
    }

    #[cold]
    fn give_up_exactness(&mut self) {
        let hashes = std::mem::take(&mut self.hashes);
        self.registers = vec![0; Self::REGISTERS];
        hashes.iter().for_each(|hash| self.raise(hash));
    }

    /// The register named by the upper bits is at least the place of the first 1 among the others.
    #[inline]
    fn raise(&mut self, hash: u64) {
        let others = hash << PRECISION | 1 << (PRECISION - 1);
        let place = others.leading_zeros() as u8 + 1;
        let register = &mut self.registers[(hash >> Self::BITS) as usize];
        *register = place.max(*register);
    }

    fn estimate(&self) -> f64 {
        let mut counts = [0u32; 64];
        self.registers.iter().for_each(|&register| counts[usize::from(register)] += 1);
        let all = Self::REGISTERS as f64;
        let last = f64::from(counts[Self::BITS + 1]);
        let mut z = all * tau(1.0 - last / all);
        for place in (1..=Self::BITS).rev() {
            z = 0.5 * (z + f64::from(counts[place]));
        }
        z += all * sigma(f64::from(counts[0]) / all);
        ONE_HALF_BY_LN_2 * all * all / z
    }
}

/// The limit of HyperLogLog's alpha: 1 / (2 ln 2).
const ONE_HALF_BY_LN_2: f64 = 0.5 / std::f64::consts::LN_2;

/// x + the sum over k of x^(2^k) 2^(k-1).
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut factor, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * factor;
        factor += factor;
        if sum == before {
            return sum;
        }
    }
}

/// A third of (1 - x - the sum over k of (1 - x^(2^-k))^2 2^-k).
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut factor, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * factor;
        if sum == before {
            return sum / 3.0;
        }
    }
}

const HASHES: u8 = 0;
const REGISTERS: u8 = 1;

impl<const EXACT: usize, const PRECISION: u32> State for ApproxDistinct<EXACT, PRECISION> {
    fn save(&self, out: &mut Vec<u8>) {
        if self.is_exact() {
            out.push(HASHES);
            put_count(out, self.hashes.len());
            self.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
        } else {
            out.push(REGISTERS);
            out.extend_from_slice(&self.registers);
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        match saved.u8()? {
            HASHES => {
                let count = saved.count(8)?;
                if count > EXACT {
                    return Err(LoadError::new(format!("{count} hashes are more than the {EXACT} that are kept")));
                }
                let mut last = None;
                for _ in 0..count {
                    let hash = saved.u64()?;
                    if last.is_some_and(|last| last >= hash) {
                        return Err(LoadError::new("a set of hashes is not in order"));
                    }
                    last = Some(hash);
                    self.hashes.insert(hash);
                }
            }
            REGISTERS => {
                let registers = saved.bytes(Self::REGISTERS)?;
                if registers.iter().any(|&register| usize::from(register) > Self::BITS + 1) {
                    return Err(LoadError::new("a HyperLogLog register is larger than hashes make it"));
                }
                self.registers = registers.to_vec();
            }
            tag => return Err(LoadError::new(format!("a set of texts cannot begin with {tag}"))),
        }
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        if later.is_exact() {
            later.hashes.iter().for_each(|hash| self.put(hash));
            return;
        }
        if self.is_exact() {
            self.give_up_exactness();
        }
        for (register, later) in self.registers.iter_mut().zip(&later.registers) {
            *register = (*later).max(*register);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_laws::check;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The `number`-th of a stream of hashes, by SplitMix64 (Steele, Lea, Flood 2014).
    fn hash(stream: u64, number: u64) -> u64 {
        let mut z = (stream << 40).wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn hashes() -> impl Strategy<Value = Vec<u64>> {
        let few = (0..30u64).prop_map(|number| hash(1, number));
        prop::collection::vec(prop_oneof![few, any::<u64>(), 0..4u64], 0..50)
    }

    proptest! {
        #[test]
        fn the_laws_hold_around_the_bound(hashes in hashes(), dealt in prop::collection::vec(0..4usize, 1..9)) {
            check(ApproxDistinct::<20, 4>::default, |set: &mut ApproxDistinct<20, 4>, &hash| set.put(hash), &hashes, &dealt);
            check(ApproxDistinct::<0, 5>::default, |set: &mut ApproxDistinct<0, 5>, &hash| set.put(hash), &hashes, &dealt);
        }

        #[test]
        fn it_is_exact_up_to_the_bound_and_says_so(hashes in hashes()) {
            let mut set = ApproxDistinct::<20, 10>::default();
            let mut model = BTreeSet::new();
            let mut largest = 0;
            for hash in hashes {
                set.put(hash);
                model.insert(hash);
                prop_assert_eq!(set.is_exact(), model.len() <= 20);
                prop_assert_eq!(set.standard_error() == 0.0, model.len() <= 20);
                prop_assert!(!set.is_exact() || set.len() == model.len() as u64);
                prop_assert!(set.len() >= largest, "it never falls");
                largest = set.len();
            }
        }

        /// A register by the definition, bit for bit.
        #[test]
        fn registers_hold_the_place_of_the_first_one(hash in prop_oneof![any::<u64>(), Just(0), (0..64u32).prop_map(|bit| 1 << bit)]) {
            let mut set = ApproxDistinct::<0, 6>::default();
            set.put(hash);
            let place = (0..58).position(|bit| hash >> (57 - bit) & 1 == 1).map_or(59, |zeros| zeros + 1);
            let expected: Vec<u8> = (0..64).map(|index| if index == hash >> 58 { place as u8 } else { 0 }).collect();
            prop_assert_eq!(&set.registers, &expected);
        }
    }

    #[test]
    fn what_no_texts_give_is_refused() {
        let load =
            |bytes: &[u8]| ApproxDistinct::<1, 4>::default().load(&mut Reader::new(bytes)).map_err(|e| e.to_string());
        let hashes = |count: u32| [vec![HASHES], count.to_le_bytes().to_vec(), (0..16).collect()].concat();
        assert_eq!(load(&hashes(1)), Ok(()));
        assert_eq!(load(&hashes(2)).unwrap_err(), "2 hashes are more than the 1 that are kept");
        let registers = |highest: u8| [vec![REGISTERS, highest], vec![0; 15]].concat();
        assert_eq!(load(&registers(61)), Ok(()));
        assert_eq!(load(&registers(62)).unwrap_err(), "a HyperLogLog register is larger than hashes make it");
    }

    /// Root mean square of the relative errors over many independent sets. It has a standard deviation of its own, about
    /// 1 / sqrt(2 * sets): the bound is three of them above the published error, and the streams never change.
    #[test]
    fn the_error_is_the_published_one() {
        const SETS: u64 = 100;
        for size in [300, 1_000, 3_000, 30_000, 100_000] {
            let errors = (0..SETS).map(|stream| {
                let mut set = ApproxDistinct::<0, 10>::default();
                (0..size).for_each(|number| set.put(hash(stream, number)));
                set.len() as f64 / size as f64 - 1.0
            });
            let errors: Vec<f64> = errors.collect();
            let mean = errors.iter().sum::<f64>() / SETS as f64;
            let error = (errors.iter().map(|error| error * error).sum::<f64>() / SETS as f64).sqrt();
            let published = 1.04 / 32.0;
            assert!(error < published * (1.0 + 3.0 / (2.0 * SETS as f64).sqrt()), "{size} texts: {error}");
            assert!(mean.abs() < 3.0 * published / (SETS as f64).sqrt(), "{size} texts: a bias of {mean}");
        }
    }
}
