//! The sequencer's thread: waits for the parsers' jobs and for what is due. Must not decide anything.

use std::sync::mpsc::{Receiver, RecvTimeoutError};

use tally_storage::Storage;

use super::{Sequencer, Settled};
use crate::DISK_FULL_PAUSE;
use crate::parse::Job;
use crate::reorder::Reorder;

/// Runs until the parsers are gone, then writes the closing frame.
pub fn run<S: Storage>(mut sequencer: Sequencer<S>, jobs: &Receiver<Job>) -> anyhow::Result<()> {
    let mut order = Reorder::default();
    loop {
        patiently(|| sequencer.settle())?;
        if order.peek().is_none() {
            match jobs.recv_timeout(sequencer.quiet_for()) {
                Ok(job) => order.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            continue;
        }
        let mut begun = false;
        while !sequencer.is_full() {
            while let Ok(job) = jobs.try_recv() {
                order.take(job);
            }
            match order.peek().map(|work| sequencer.reserve(work)).transpose()? {
                None => break,
                Some(Settled::Done) => {}
                // What has begun is written first.
                Some(Settled::DiskFull) if begun => break,
                Some(Settled::DiskFull) => {
                    std::thread::sleep(DISK_FULL_PAUSE);
                    break;
                }
            }
            let Some(work) = order.pop() else { break };
            sequencer.add(work);
            begun = true;
        }
    }
    patiently(|| sequencer.finish())
}

/// Tries again and again while the disk is full: sources are not read once the queue is full, and work resumes by itself.
fn patiently(mut attempt: impl FnMut() -> anyhow::Result<Settled>) -> anyhow::Result<()> {
    while attempt()? == Settled::DiskFull {
        std::thread::sleep(DISK_FULL_PAUSE);
    }
    Ok(())
}
