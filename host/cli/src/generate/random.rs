//! Random numbers that are a pure function of seed, line and purpose. No state, no machine.

use std::fmt;
use std::str::FromStr;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser: every bit of the result depends on every bit of `x`.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Where a line's random numbers come from.
#[derive(Clone, Copy)]
pub struct Draws(u64);

/// What a number is drawn for. Purposes are independent: adding one leaves the others as they were.
#[derive(Clone, Copy)]
pub enum Purpose {
    /// The kind of line (high half) and the action (low half).
    Kind,
    /// The user.
    User,
    /// The post.
    Post,
    /// Whether (low half) and how far (high half) a timestamp is moved.
    Time,
    /// Everything that only some lines have.
    Detail,
}

impl Draws {
    /// The numbers of line `line` (from 0) under `seed`.
    pub fn new(seed: u64, line: u64) -> Self {
        Draws(mixed(seed.wrapping_add(GAMMA)).wrapping_add(line.wrapping_mul(GAMMA.wrapping_mul(8))))
    }

    /// The number for `purpose`.
    pub fn get(self, purpose: Purpose) -> u64 {
        mixed(self.0.wrapping_add(GAMMA.wrapping_mul(purpose as u64 + 1)))
    }
}

/// A number below `bound` from 32 random bits, by multiplication: no division, no loop.
pub fn below(bits: u32, bound: u32) -> u32 {
    ((u64::from(bits) * u64::from(bound)) >> 32) as u32
}

/// A part of all lines, in 2^-32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share(u64);

/// One as a [`Share`].
const WHOLE: u64 = 1 << 32;

impl Share {
    /// 0 for none up to 2^32 for all.
    pub fn parts(self) -> u64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = match text.strip_suffix('%') {
            Some(digits) => (digits, 100.0),
            None => (text, 1.0),
        };
        let share = digits.trim().parse::<f64>().map_err(|error| format!("{error}; write 0.01 or 1%"))? / unit;
        if !(0.0..=1.0).contains(&share) {
            return Err("a share lies between 0 and 1 (or 0% and 100%)".into());
        }
        // Exact on every machine: one correctly rounded product, cut to an integer.
        Ok(Share((share * WHOLE as f64) as u64))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 as f64 / WHOLE as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_is_the_published_one() {
        // The first outputs of SplitMix64 seeded with 1234567.
        let outputs: Vec<u64> = (1..=3).map(|n| mixed(1_234_567u64.wrapping_add(GAMMA.wrapping_mul(n)))).collect();
        assert_eq!(outputs, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn lines_and_purposes_do_not_share_numbers() {
        let purposes = [Purpose::Kind, Purpose::User, Purpose::Post, Purpose::Time, Purpose::Detail];
        let numbers = (0..1000).flat_map(|line| purposes.map(|purpose| Draws::new(1, line).get(purpose)));
        assert_eq!(numbers.collect::<std::collections::HashSet<_>>().len(), 5000);
    }

    #[test]
    fn shares_are_read() {
        assert_eq!("0".parse(), Ok(Share(0)));
        assert_eq!("1".parse(), Ok(Share(WHOLE)));
        assert_eq!("25%".parse::<Share>(), "0.25".parse());
        for bad in ["-0.1", "1.01", "101%", "NaN", "", "half", "inf"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
