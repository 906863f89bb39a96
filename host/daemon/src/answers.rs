//! Answers questions: finds how fresh an answer has to be, causes a cut when it may, and asks the total thread. Never
//! touches what is applied; a question waits, an event does not.

mod cost;
mod files;
mod shadows;
mod status;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tally_event::table::Question;
use tally_query::{Answer, Ask, Backend, Batch, Change, QueryError, Report, Since};
use tokio::sync::oneshot;

use crate::aggregator::Meta;
use crate::aggregator::{self, TotalMessage};
use crate::context::{Context, Token};
use crate::doors::DoorCounters;
use crate::metrics;
use crate::plugins::controller::Status;
use crate::plugins::{Request, Shadows};
use crate::records::rfc3339;
use crate::sequencer::Published;

/// How long the saving of a cut may take before a question gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the doors for questions ask of the daemon.
pub struct Answers {
    /// The daemon's handles.
    pub context: Arc<Context>,
    /// The controller's door.
    pub controller: mpsc::Sender<Request>,
    /// The controller's newest statuses.
    pub statuses: Arc<Mutex<Vec<Status>>>,
    /// Versions that run beside others.
    pub shadows: Arc<Shadows>,
    /// What each door counts.
    pub counters: DoorCounters,
}

impl Answers {
    /// The plugins as they are shown: with what has become known since, and with what each costs; null where it never ran.
    fn list(&self, statuses: Vec<Status>) -> Value {
        let last_sequence = self.context.published().last_sequence;
        let facts = self.context.progress.facts();
        let updated: Vec<Status> = statuses.into_iter().map(|status| status.updated(&facts, last_sequence)).collect();
        let costs: Vec<_> = updated
            .iter()
            .map(|status| facts.meters.get(&status.name).map(|meter| cost::cost(&meter.snapshot())))
            .collect();
        drop(facts);
        let shown = |(status, cost): (Status, Option<_>)| {
            let mut shown = json!(status);
            shown["cost"] = json!(cost);
            shown
        };
        json!({ "plugins": self.with_shadows(updated).into_iter().zip(costs).map(shown).collect::<Vec<_>>() })
    }

    /// The cut to wait for so that the answer is fresh enough; takes one if it may.
    async fn fresh_cut(&self, min_sequence: Option<u64>) -> Result<u64, QueryError> {
        let context = &self.context;
        let wanted = min_sequence.unwrap_or(0);
        loop {
            let published = context.published();
            let arrived = published.last_sequence >= wanted;
            if arrived && published.cut_sequence == published.last_sequence {
                return Ok(published.cut);
            }
            let is_disk_full = context.progress.facts().is_disk_full();
            if arrived && !is_disk_full && self.may_cut(&published) {
                let (done, durable) = oneshot::channel();
                context.queue.push_control(Token::Cut { reason: "question", flush: false, done });
                // On a full disk it may take long; what is saved is answered meanwhile.
                tokio::select! {
                    cut = durable => return cut.map_err(|_| stopping()),
                    () = self.disk_full() => {}
                }
            }
            if arrived && published.cut_sequence >= wanted {
                return Ok(published.cut);
            }
            // The event is not here yet, or the next cut is not due yet; the caller's time limit ends this.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every aggregator that runs has applied and saved the events up to this sequence number. False when
    /// one has not in 30 seconds, or is in quarantine.
    pub async fn applied(&self, sequence: u64) -> bool {
        let Ok(cut) = self.fresh_cut(Some(sequence)).await else { return false };
        let names: Vec<String> =
            self.context.totals.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let saved = |name: &String| {
            let facts = self.context.progress.facts();
            facts.quarantined.contains_key(name) || facts.saved.get(name).is_some_and(|meta| meta.cut >= cut)
        };
        // Many may wait at a time, so none of them in a thread.
        let all_saved = async {
            while !names.iter().all(saved) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let all_saved = tokio::time::timeout(PATIENCE, all_saved).await.is_ok();
        all_saved && self.context.progress.facts().quarantined.is_empty()
    }

    /// Waits until somebody waits for room on the disk.
    async fn disk_full(&self) {
        while !self.context.progress.facts().is_disk_full() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn may_cut(&self, published: &Published) -> bool {
        let staleness = u64::try_from(self.context.config().query.max_staleness.as_millis()).unwrap_or(u64::MAX);
        published.cut_millis == 0 || self.context.clock.millis() >= published.cut_millis.saturating_add(staleness)
    }

    /// How old an answer is that shows what is saved: nothing when all events are in it, otherwise the time since its cut.
    fn age(&self, meta: &Meta, published: &Published) -> Duration {
        if meta.last_sequence >= published.last_sequence {
            return Duration::ZERO;
        }
        let clock = &self.context.clock;
        age_of((meta.cut, meta.cut_at), (published.cut, published.cut_millis), clock.elapsed(), clock.wall_micros())
    }

    async fn report(&self, name: &str, ask: &Ask) -> Result<Report, QueryError> {
        let context = self.context.clone();
        let (saved, quarantined) = {
            let facts = context.progress.facts();
            let saved = facts.saved.get(name).is_some_and(|meta| !meta.is_forgotten);
            (saved, facts.quarantined.contains_key(name))
        };
        let door = context.totals.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let Some(door) = door else {
            return Err(match saved {
                true => QueryError::unavailable(
                    "not_running",
                    format!("aggregator {name} is not running; see `tally plugin list`"),
                ),
                false => QueryError::not_found(
                    "unknown_aggregator",
                    format!("there is no aggregator {name:?}; see `tally plugin list`"),
                ),
            });
        };
        if !quarantined {
            self.wait_until_saved(name, self.fresh_cut(ask.min_sequence).await?, ask.min_sequence).await?;
        }
        let question = Question {
            tables: ask.tables.clone(),
            parameters: ask.parameters.clone(),
            as_of: 0,
            skip_rows: ask.skip_rows,
            row_limit: ask.row_limit,
        };
        let (reply, answer) = oneshot::channel();
        let gone = || {
            QueryError::unavailable("not_running", format!("aggregator {name} has stopped; see `tally plugin list`"))
        };
        let (mut message, mut pause) = (TotalMessage::Ask(question, reply), Pause::default());
        while let Err(error) = door.try_send(message) {
            message = match error {
                mpsc::TrySendError::Full(message) => message,
                mpsc::TrySendError::Disconnected(_) => return Err(gone()),
            };
            pause.wait().await;
        }
        let answer = answer.await.map_err(|_| gone())?;
        let aggregator::Answer { meta, tables } =
            answer.map_err(|reason| QueryError::bad_request("not_answered", reason))?;
        let quarantined = context.progress.facts().quarantined.contains_key(name);
        Ok(Report {
            as_of_sequence: meta.last_sequence,
            watermark: meta.watermark.map(rfc3339),
            age: self.age(&meta, &context.published()),
            complete: meta.complete && !quarantined,
            tables,
        })
    }

    /// Waits until the aggregator has saved the cut, or is quarantined; or has saved something, where nothing more is asked of it and
    /// the disk is full.
    async fn wait_until_saved(&self, name: &str, cut: u64, wanted: Option<u64>) -> Result<(), QueryError> {
        let saved = || {
            let facts = self.context.progress.facts();
            let done = facts.saved.get(name).is_some_and(|meta| meta.cut >= cut);
            let stuck = wanted.is_none() && facts.is_disk_full() && facts.saved.contains_key(name);
            done || stuck || facts.quarantined.contains_key(name)
        };
        let waiting = async {
            let mut pause = Pause::default();
            while !saved() {
                pause.wait().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| {
            let message =
                format!("aggregator {name} is catching up and has not reached cut {cut} yet; ask again later");
            QueryError::timeout("catching_up", message)
        })
    }
}

/// Between two looks at something that others change, longer each time. Waiting so takes no thread: whoever asks a plugin that is
/// slow must not keep those waiting who ask another.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pause {
    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_millis(50));
    }
}

/// The time since the cut `cut`, taken at `at` by the wall clock (0: nobody knows), at the monotonic time `elapsed` and the wall time `wall`.
/// The last cut was `last`, taken `last_millis` after the start, or before it (0). The wall clock is asked only of a cut whose monotonic time
/// is not known, and never makes it newer than the last one. At least a millisecond, which is what is shown.
fn age_of((cut, at): (u64, i64), (last, last_millis): (u64, u64), elapsed: Duration, wall: i64) -> Duration {
    let since_last = elapsed.saturating_sub(Duration::from_millis(last_millis)).max(Duration::from_millis(1));
    match at {
        // No cut of it is known: everything since the start may be missing.
        0 => elapsed.max(since_last),
        _ if cut == last && last_millis > 0 => since_last,
        at => Duration::from_micros(u64::try_from(wall - at).unwrap_or(0)).max(since_last),
    }
}

fn stopping() -> QueryError {
    QueryError::unavailable("stopping", "the daemon is stopping")
}

impl Backend for Answers {
    fn max_rows(&self) -> u32 {
        u32::try_from(self.context.config().query.max_rows).unwrap_or(u32::MAX)
    }

    fn ready(&self) -> Result<(), QueryError> {
        let Some(code) = self.context.progress.facts().not_ready() else { return Ok(()) };
        Err(QueryError::unavailable(
            code,
            match code {
                "starting" => "the daemon is starting: it recovers, and takes over the plugins; ask again",
                "stopping" => "the daemon is stopping",
                _ => "the disk is full: nothing is accepted until there is room",
            },
        ))
    }

    fn status(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(self.whole_status()) })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async { Ok(metrics::text(&self.figures())) })
    }

    fn plugins(&self) -> Answer<'_, Value> {
        Box::pin(async {
            let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Ok(self.list(statuses))
        })
    }

    fn reload(&self) -> Answer<'_, Value> {
        Box::pin(async {
            let (reply, done) = oneshot::channel();
            self.controller.send(Request::Reconcile(Some(reply))).map_err(|_| stopping())?;
            Ok(self.list(done.await.map_err(|_| stopping())?))
        })
    }

    fn change<'a>(&'a self, name: &'a str, change: Change) -> Answer<'a, Value> {
        Box::pin(async move {
            let (code, (reply, done)) = (change.refused(), oneshot::channel());
            self.controller.send(Request::Change(name.to_owned(), change, reply)).map_err(|_| stopping())?;
            match done.await.map_err(|_| stopping())? {
                Ok(changed) => Ok(self.list(changed)),
                Err(reason) => {
                    self.ensure_known(name)?;
                    Err(QueryError::new(409, code, reason))
                }
            }
        })
    }

    fn plan<'a>(&'a self, plugin: &'a str, component: Vec<u8>) -> Answer<'a, Value> {
        Box::pin(async move {
            let (reply, done) = oneshot::channel();
            self.controller.send(Request::Plan(plugin.to_owned(), component, reply)).map_err(|_| stopping())?;
            let previews = done.await.map_err(|_| stopping())?;
            let previews = previews.map_err(|reason| QueryError::internal("not_planned", reason))?;
            Ok(json!({ "plan": previews }))
        })
    }

    fn shadow<'a>(&'a self, name: &'a str, component: Vec<u8>, from: Option<Since>) -> Answer<'a, Value> {
        Box::pin(self.start_shadow(name, component, from))
    }

    fn diff<'a>(&'a self, name: &'a str, rows: u32) -> Answer<'a, Value> {
        Box::pin(self.compare_shadow(name, rows))
    }

    fn drop_shadow<'a>(&'a self, name: &'a str) -> Answer<'a, Value> {
        Box::pin(self.stop_shadow(name))
    }

    fn aggregators(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(self.list_of_aggregators()) })
    }

    fn ask<'a>(&'a self, name: &'a str, ask: Ask) -> Answer<'a, Report> {
        Box::pin(async move {
            let answer = tokio::time::timeout(ask.wait, self.report(name, &ask)).await;
            answer.map_err(|_| {
                let message = format!("no answer within {:?}; the events asked for may not have arrived", ask.wait);
                QueryError::timeout("timeout", message)
            })?
        })
    }

    fn batch(&self, batch: Batch) -> Answer<'_, Vec<u8>> {
        Box::pin(files::batch(self.context.clone(), batch))
    }

    fn dead_letters(&self, rows: u32, aggregator: Option<String>) -> Answer<'_, Value> {
        Box::pin(files::dead_letters(self.context.clone(), rows, aggregator))
    }

    fn dead_letter<'a>(&'a self, id: &'a str) -> Answer<'a, Value> {
        Box::pin(files::dead_letter(self.context.clone(), id.to_owned()))
    }

    fn rejected(&self, rows: u32, reason: Option<String>) -> Answer<'_, Value> {
        Box::pin(files::rejected(self.context.clone(), rows, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_events_is_never_new_whatever_the_wall_clock_says() {
        const HOUR: i64 = 3_600_000_000;
        let cut_at = 100 * HOUR;
        let seconds = |cut, last, wall| age_of((cut, cut_at), last, Duration::from_secs(10), wall).as_secs_f64();
        for wall in [cut_at - HOUR, cut_at + 2_000_000, cut_at + HOUR] {
            assert_eq!(seconds(7, (7, 8000), wall), 2.0, "its cut is the last one, and of this life");
            assert_eq!(seconds(7, (7, 10_000), wall), 0.001, "it was taken this moment");
        }
        let by_wall = |last| [-HOUR, 2_000_000, HOUR].map(|later| seconds(7, last, cut_at + later));
        assert_eq!(by_wall((9, 5000)), [5.0, 5.0, 3600.0], "it is older than the last cut");
        assert_eq!(by_wall((7, 0)), [10.0, 10.0, 3600.0], "it is from before the start");
        assert_eq!(age_of((0, 0), (0, 0), Duration::from_secs(10), cut_at), Duration::from_secs(10), "there is no cut");
    }
}
