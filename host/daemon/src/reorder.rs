//! Puts the parsers' jobs back in the order of the queue. Knows nothing of what they hold.

use std::collections::HashMap;

use crate::parse::{Job, Work};

/// Puts the parsers' jobs back in order. What waits here is bounded by the queue's bytes.
#[derive(Default)]
pub struct Reorder {
    waiting: HashMap<u64, Work>,
    taken: u64,
}

impl Reorder {
    /// Takes a job that has come.
    pub fn take(&mut self, job: Job) {
        self.waiting.insert(job.number, job.work);
    }

    /// The number of the next job in order.
    pub fn next(&self) -> u64 {
        self.taken + 1
    }

    /// The next job in order, if it has come.
    pub fn peek(&self) -> Option<&Work> {
        self.waiting.get(&(self.taken + 1))
    }

    /// Takes the next job in order out, if it has come.
    pub fn pop(&mut self) -> Option<Work> {
        let work = self.waiting.remove(&(self.taken + 1))?;
        self.taken += 1;
        Some(work)
    }
}
