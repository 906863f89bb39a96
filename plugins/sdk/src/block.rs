//! The simplest building blocks: counts and sums. Exact, so that they merge in any grouping.

use crate::state::{LoadError, Reader, State};

/// How often something happened.
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
/// overflows it, so a report, which gives 64 bits, says the nearest it can for larger ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sum(pub i128);

impl Sum {
    /// Adds a summand.
    #[inline]
    pub fn add(&mut self, summand: i64) {
        self.0 = self.0.wrapping_add(i128::from(summand));
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
