//! The two threads of an aggregator in the daemon, and the channel between them. Must not decide anything.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;

use tally_storage::Storage;

use super::follower::{Follower, Moved, Start};
use super::keeper::{Keeper, TotalMessage};
use crate::DISK_FULL_PAUSE;
use crate::context::Context;
use crate::guarded::guarded;

/// Deltas that may wait for the total side before the apply side does.
pub const WAITING_DELTAS: usize = 4;

/// Deltas that may wait for room on the disk before the total thread listens to nobody, not even to questions.
const MOST_WAITING: usize = 64;

/// The two threads of an aggregator.
pub struct Threads {
    /// Ends when the aggregator is detached, quarantined or the log ends.
    pub apply: JoinHandle<()>,
    /// Ends after it, once nobody can ask any more.
    pub total: JoinHandle<()>,
}

/// Starts both threads.
pub fn spawn<S: Storage>(context: &Arc<Context<S>>, start: Start) -> anyhow::Result<Threads> {
    let (to_total, inbox) = mpsc::sync_channel(WAITING_DELTAS);
    let mut totals = context.totals.lock().unwrap_or_else(PoisonError::into_inner);
    totals.insert(start.name.clone(), to_total.clone());
    drop(totals);
    let (name, begin) = (start.name.clone(), start.clone());
    let total = guarded(context, &format!("total-{name}"), move |context| run_total(context, begin, &inbox))?;
    let apply = guarded(context, &format!("apply-{name}"), move |context| run_apply(context, start, &to_total))?;
    Ok(Threads { apply, total })
}

/// Sends fail only when the total thread is gone: it has failed itself and said so.
fn run_apply<S: Storage>(
    context: &Arc<Context<S>>,
    start: Start,
    to_total: &mpsc::SyncSender<TotalMessage>,
) -> anyhow::Result<()> {
    let mut follower = match Follower::new(context.clone(), start) {
        Ok(follower) => follower,
        Err(error) => {
            let _ = to_total.send(TotalMessage::Quarantine(format!("{error:#}")));
            return Ok(());
        }
    };
    loop {
        match follower.step()? {
            Moved::On => {}
            Moved::Waiting => follower.wait(),
            Moved::Cut(saved) => {
                if to_total.send(TotalMessage::Cut(saved)).is_err() {
                    return Ok(());
                }
            }
            Moved::Failed(reason) => {
                let _ = to_total.send(TotalMessage::Quarantine(reason));
                return Ok(());
            }
            Moved::Ended => return Ok(()),
        }
    }
}

fn run_total<S: Storage>(
    context: &Arc<Context<S>>,
    start: Start,
    inbox: &mpsc::Receiver<TotalMessage>,
) -> anyhow::Result<()> {
    let mut keeper = Keeper::new(context.clone(), start)?;
    while keeper.works() {
        let message = match keeper.waiting() {
            None => inbox.recv().ok(),
            Some(waiting) => {
                keeper.go_on()?;
                if waiting > MOST_WAITING {
                    std::thread::sleep(DISK_FULL_PAUSE);
                    continue;
                }
                match inbox.recv_timeout(DISK_FULL_PAUSE) {
                    Err(RecvTimeoutError::Timeout) => continue,
                    received => received.ok(),
                }
            }
        };
        // Nobody is left who could ask. What waits for room is made up for by the next start.
        let Some(message) = message else { return Ok(()) };
        keeper.take(message)?;
    }
    Ok(())
}
