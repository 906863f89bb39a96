//! The sequencer's thread: waits for what comes, parsed or to be parsed, and for what is due. Must not decide anything.

use tally_storage::Storage;

use super::{Sequencer, Settled};
use crate::DISK_FULL_PAUSE;
use crate::parse::Intake;

/// Runs until the parsers are gone, then writes the closing frame.
pub fn run<S: Storage>(mut sequencer: Sequencer<S>, mut intake: Intake) -> anyhow::Result<()> {
    loop {
        patiently(|| sequencer.settle())?;
        if intake.peek().is_none() {
            if intake.wait(sequencer.quiet_for()) {
                continue;
            }
            break;
        }
        let mut begun = false;
        while !sequencer.is_full() {
            match intake.peek().map(|work| sequencer.reserve(work)).transpose()? {
                None => break,
                Some(Settled::Done) => {}
                // What has begun is written first.
                Some(Settled::DiskFull) if begun => break,
                Some(Settled::DiskFull) => {
                    std::thread::sleep(DISK_FULL_PAUSE);
                    break;
                }
            }
            let Some(work) = intake.pop() else { break };
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
