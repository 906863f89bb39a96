//! The simplest building blocks: counts and sums. Exact, so that they merge in any grouping.

use crate::number::Decimal;
use crate::state::{LoadError, Reader, State};

/// How often something happened. Exact; 8 bytes, in memory and saved.
///
/// ```
/// # use tally_sdk::Count;
/// let mut views = Count::default();
/// views.add(1);
/// views.add(2);
/// assert_eq!(views.0, 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

impl Count {
    /// Counts `more` of it.
    #[inline]
    pub fn add(&mut self, more: u64) {
        self.0 = self.0.wrapping_add(more);
    }
}

impl State for Count {
    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        self.0 = saved.u64()?;
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        self.add(later.0);
    }
}

/// An exact sum of integers (or of decimals of one scale). 128 bits: no number of 64-bit summands that a log can hold
/// overflows it, so a report, which gives 64 bits, says the nearest it can for larger ones. Exact; 16 bytes, in memory and saved.
///
/// ```
/// # use tally_sdk::{Decimal, Sum};
/// let mut revenue = Sum::default();
/// let prices = [Decimal::<2> { scaled: 19_99 }, Decimal { scaled: -50 }];
/// prices.into_iter().for_each(|price| revenue.add(price.scaled));
/// assert_eq!((revenue.0, revenue.decimal()), (1949, Decimal::<2> { scaled: 19_49 }));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sum(pub i128);

impl Sum {
    /// Adds a summand.
    #[inline]
    pub fn add(&mut self, summand: i64) {
        self.0 = self.0.wrapping_add(i128::from(summand));
    }

    /// The sum of decimals of this scale, for a report; the nearest there is for larger ones.
    pub fn decimal<const SCALE: u8>(self) -> Decimal<SCALE> {
        Decimal { scaled: self.0.clamp(i64::MIN.into(), i64::MAX.into()) as i64 }
    }
}

impl State for Sum {
    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        self.0 = saved.i128()?;
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        self.0 = self.0.wrapping_add(later.0);
    }
}
