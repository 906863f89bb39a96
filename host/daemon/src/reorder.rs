//! Puts the parsers' jobs back in the order of the queue. Knows nothing of what they hold.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use crate::parse::{Job, Work};

/// What came.
pub enum Received {
    /// The next job in order.
    Job(Work),
    /// Nothing, for as long as was waited.
    Timeout,
    /// The parsers are gone and everything was given out.
    Ended,
}

/// Puts the parsers' jobs back in order. What waits here is bounded by the queue's bytes.
#[derive(Default)]
pub struct Reorder {
    waiting: HashMap<u64, Work>,
    taken: u64,
}

impl Reorder {
    fn ready(&mut self) -> Option<Work> {
        let work = self.waiting.remove(&(self.taken + 1))?;
        self.taken += 1;
        Some(work)
    }

    /// The next job, waiting for it at most `timeout` at a time.
    pub fn receive(&mut self, jobs: &mpsc::Receiver<Job>, timeout: Duration) -> Received {
        loop {
            if let Some(work) = self.ready() {
                return Received::Job(work);
            }
            match jobs.recv_timeout(timeout) {
                Ok(job) => self.waiting.insert(job.number, job.work),
                Err(mpsc::RecvTimeoutError::Timeout) => return Received::Timeout,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Received::Ended,
            };
        }
    }

    /// The next job if it is here.
    pub fn try_receive(&mut self, jobs: &mpsc::Receiver<Job>) -> Option<Work> {
        while let Ok(job) = jobs.try_recv() {
            self.waiting.insert(job.number, job.work);
        }
        self.ready()
    }
}
