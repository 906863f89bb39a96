//! A shadow's thread: follows the log with its replica, says how far it is, and compares it with what runs when it is asked to. Must not
//! know: the table of shadows, how one begins.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError, TrySendError};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use anyhow::bail;
use tally_event::table::Question;
use tally_storage::RealStorage;
use tokio::sync::oneshot;

use super::{Ask, Shared, Uncompared};
use crate::aggregator::{Answer, Meta, TotalMessage};
use crate::context::Context;
use crate::plugins::diff::{Comparison, compare};
use crate::plugins::planner::VersionFacts;
use crate::plugins::replica::{Moved, Replica};

/// How long a comparison may take until both sides stand at the same cut.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at the log by a shadow that has nothing to do: doubled with each, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A shadow's thread.
pub(super) struct Runner {
    pub(super) context: Arc<Context>,
    pub(super) name: String,
    pub(super) replica: Replica<RealStorage>,
    pub(super) asked: mpsc::Receiver<Ask>,
    pub(super) shared: Arc<Shared>,
}

impl Runner {
    /// Until it is stopped, fails, or the daemon ends.
    pub(super) fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.follow()));
        let reason = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "its thread panicked; this is a bug".to_owned(),
        };
        tracing::error!(aggregator = self.name, reason, "the shadow has failed; nothing else is affected");
        self.shared.stand().failed = Some(reason);
    }

    fn follow(&mut self) -> anyhow::Result<()> {
        let mut pause = SHORTEST_PAUSE;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let asked = match self.step()? {
                Moved::Ended => return Ok(()),
                Moved::On => {
                    pause = SHORTEST_PAUSE;
                    self.asked.try_recv().map_err(|error| error == TryRecvError::Disconnected)
                }
                Moved::Waiting => {
                    let asked = self.asked.recv_timeout(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    asked.map_err(|error| error == RecvTimeoutError::Disconnected)
                }
            };
            match asked {
                Ok(Ask { rows, reply }) => {
                    let compared = self.compare(rows);
                    let failed =
                        compared.as_ref().err().filter(|error| matches!(error, Uncompared::Failed(_))).cloned();
                    // Whoever asked may have hung up.
                    let _ = reply.send(compared);
                    if let Some(Uncompared::Failed(reason)) = failed {
                        bail!(reason);
                    }
                }
                Err(nobody_is_left) if nobody_is_left => return Ok(()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn step(&mut self) -> anyhow::Result<Moved> {
        let moved = self.replica.step()?;
        if moved == Moved::On {
            self.publish();
        }
        Ok(moved)
    }

    /// Says how far it is.
    pub(super) fn publish(&self) {
        let mut stand = self.shared.stand();
        (stand.cut, stand.applied) = (self.replica.meta().cut, self.replica.applied());
    }

    /// While it stands behind a cut, what runs says how it is; if that is further, it goes on to exactly there.
    fn compare(&mut self, rows: usize) -> Result<Comparison, Uncompared> {
        let until = self.context.clock.elapsed() + PATIENCE;
        let running = loop {
            let answer = self.ask_running(until)?;
            if answer.meta.cut >= self.replica.meta().cut {
                break answer;
            }
            self.go_on_waiting(until, Some(&answer.meta))?;
        };
        let failed = |error: anyhow::Error| Uncompared::Failed(format!("{error:#}"));
        while self.replica.meta().cut < running.meta.cut {
            let moved = self.step().map_err(failed)?;
            if moved == Moved::Ended {
                return Err(Uncompared::NotRunning("the daemon is stopping".to_owned()));
            }
            if moved == Moved::Waiting || self.context.clock.elapsed() >= until {
                self.go_on_waiting(until, Some(&running.meta))?;
            }
        }
        let tables = compare(&running.tables, &self.replica.report().map_err(failed)?, rows);
        let new = self.replica.meta();
        Ok(Comparison {
            name: self.name.clone(),
            running: VersionFacts::of(&running.meta.attached),
            new: VersionFacts::of(&new.attached),
            cut: new.cut,
            sequence: new.last_sequence,
            equal: tables.iter().all(|table| table.is_equal()),
            tables,
        })
    }

    /// The whole report of what runs.
    fn ask_running(&self, until: Duration) -> Result<Answer, Uncompared> {
        let name = &self.name;
        let not_running =
            |why: &str| Uncompared::NotRunning(format!("aggregator {name} {why}; see `tally plugin list`"));
        if self.context.progress.facts().quarantined.contains_key(name) {
            return Err(not_running("is in quarantine"));
        }
        let door = self.context.totals.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let door = door.ok_or_else(|| not_running("is not running"))?;
        let (reply, mut answer) = oneshot::channel();
        let mut message = TotalMessage::Ask(Question::default(), reply);
        while let Err(error) = door.try_send(message) {
            message = match error {
                TrySendError::Full(message) => message,
                TrySendError::Disconnected(_) => return Err(not_running("has stopped")),
            };
            self.go_on_waiting(until, None)?;
        }
        loop {
            match answer.try_recv() {
                Ok(answer) => return answer.map_err(|why| not_running(&format!("does not report: {why}"))),
                Err(oneshot::error::TryRecvError::Closed) => return Err(not_running("has stopped")),
                Err(oneshot::error::TryRecvError::Empty) => self.go_on_waiting(until, None)?,
            }
        }
    }

    /// Waits a moment, unless that is no use any more.
    fn go_on_waiting(&self, until: Duration, running: Option<&Meta>) -> Result<(), Uncompared> {
        if self.shared.stop.load(Ordering::Relaxed) {
            return Err(Uncompared::NoShadow(self.name.clone()));
        }
        if self.context.clock.elapsed() < until {
            std::thread::sleep(SHORTEST_PAUSE);
            return Ok(());
        }
        let new = self.replica.meta();
        let (cut, sequence) = (new.cut, new.last_sequence);
        let other = match running {
            Some(running) => format!("the running one at cut {}, event {}", running.cut, running.last_sequence),
            None => "the running one gave no answer".to_owned(),
        };
        Err(Uncompared::CatchingUp(format!(
            "not at the same cut within {} s: the new version stands at cut {cut}, event {sequence}, {other}; ask again later",
            PATIENCE.as_secs()
        )))
    }
}
