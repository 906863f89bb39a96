//! Answers questions: finds how fresh an answer has to be, causes a cut when it may, and asks the total thread. Never
//! touches what is applied; a question waits, an event does not.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tally_event::table::Question;
use tally_query::{Ask, Backend, QueryError};
use tokio::sync::oneshot;

use crate::aggregator::thread::{Answer, TotalMessage};
use crate::aggregator::total::{left_out, split};
use crate::context::{Context, Token};
use crate::plugins::Request;
use crate::plugins::controller::Status;
use crate::records::rfc3339;

/// How long the saving of a cut may take before a question gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the query socket asks of the daemon.
pub struct Answers {
    /// The daemon's handles.
    pub context: Arc<Context>,
    /// The controller's door.
    pub controller: mpsc::Sender<Request>,
    /// The controller's newest statuses.
    pub statuses: Arc<Mutex<Vec<Status>>>,
    /// What the sources count.
    pub sources: Arc<tally_ingest::Counters>,
}

impl Answers {
    fn list(&self) -> Vec<Status> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            if arrived && self.may_cut(&published) {
                let (done, durable) = oneshot::channel();
                context.queue.push_control(Token::Cut { reason: "question", flush: false, done });
                return durable.await.map_err(|_| QueryError::unavailable("stopping", "the daemon is stopping"));
            }
            if arrived && published.cut_sequence >= wanted {
                return Ok(published.cut);
            }
            // The event is not here yet, or the next cut is not due yet; the caller's time limit ends this.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn may_cut(&self, published: &crate::sequencer::Published) -> bool {
        let staleness = u64::try_from(self.context.config.query.max_staleness.as_millis()).unwrap_or(u64::MAX);
        published.cut_millis == 0 || self.context.clock.millis() >= published.cut_millis.saturating_add(staleness)
    }

    async fn answer(&self, name: &str, ask: &Ask) -> Result<(Answer, bool), QueryError> {
        let context = self.context.clone();
        let (saved, quarantined) = {
            let facts = context.progress.facts();
            (facts.saved.get(name).map(|meta| meta.last_sequence), facts.quarantined.contains_key(name))
        };
        let door = context.totals.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let Some(door) = door else {
            return Err(match saved {
                Some(_) => QueryError::unavailable(
                    "not_running",
                    format!("aggregator {name} is not running; see `tally plugin list`"),
                ),
                None => QueryError::not_found(
                    "unknown_aggregator",
                    format!("there is no aggregator {name:?}; see `tally plugin list`"),
                ),
            });
        };
        if !quarantined {
            let cut = self.fresh_cut(ask.min_sequence).await?;
            let waiting = (context.clone(), name.to_owned());
            let saved = tokio::task::spawn_blocking(move || {
                let (context, name) = waiting;
                context.progress.wait(PATIENCE, |facts| {
                    let done = facts.saved.get(&name).is_some_and(|meta| meta.cut >= cut);
                    (done || facts.quarantined.contains_key(&name)).then_some(())
                })
            })
            .await;
            if !matches!(saved, Ok(Some(()))) {
                let message =
                    format!("aggregator {name} is catching up and has not reached cut {cut} yet; ask again later");
                return Err(QueryError::timeout("catching_up", message));
            }
        }
        let question = Question {
            tables: ask.tables.clone(),
            parameters: ask.parameters.clone(),
            as_of: 0,
            skip_rows: ask.skip_rows,
            row_limit: ask.row_limit,
        };
        let (reply, answer) = oneshot::channel();
        let sent = tokio::task::spawn_blocking(move || door.send(TotalMessage::Ask(question, reply)).is_ok()).await;
        let gone = || {
            QueryError::unavailable("not_running", format!("aggregator {name} has stopped; see `tally plugin list`"))
        };
        if !matches!(sent, Ok(true)) {
            return Err(gone());
        }
        let answer = answer.await.map_err(|_| gone())?;
        let answer = answer.map_err(|reason| QueryError::bad_request("not_answered", reason))?;
        let quarantined = context.progress.facts().quarantined.contains_key(name);
        Ok((answer, quarantined))
    }
}

impl Backend for Answers {
    async fn status(&self) -> Result<Value, QueryError> {
        let context = &self.context;
        let published = context.published();
        let depth = context.queue.depth();
        let facts = context.progress.facts();
        let aggregators: serde_json::Map<String, Value> = facts
            .saved
            .iter()
            .map(|(name, meta)| {
                let quarantined = facts.quarantined.get(name);
                let value = json!({
                    "cut": meta.cut,
                    "sequence": meta.last_sequence,
                    "lag": published.last_sequence.saturating_sub(meta.last_sequence),
                    "watermark": meta.watermark.map(rfc3339),
                    "complete": meta.complete && quarantined.is_none(),
                    "quarantined": quarantined.map(|(_, reason)| reason),
                    "chain": meta.chain,
                    "ledger": meta.ledger,
                });
                (name.clone(), value)
            })
            .collect();
        let sources = self.sources.snapshot();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": context.clock.elapsed().as_secs(),
            "sequence": published.last_sequence,
            "frame": published.frame,
            "cut": published.cut,
            "cut_sequence": published.cut_sequence,
            "batch_id": published.batch_id,
            "flush_count": published.batch_id,
            "records_written": facts.records_written,
            "records_behind": published.cut.saturating_sub(facts.records_cut),
            "open_events": published.open_events,
            "ledger": published.counts,
            "queue": { "bytes": depth.bytes, "chunks": depth.chunks, "max_bytes": depth.max_bytes },
            "log": { "segments": published.segments, "bytes": published.log_bytes, "tail_bytes": context.tail.bytes() },
            "sources": {
                "unix": {
                    "connections": sources.connections,
                    "total": sources.accepted,
                    "refused": sources.refused,
                    "lines": sources.lines,
                    "bytes": sources.bytes_read,
                },
            },
            "connections": { "now": sources.connections, "total": sources.accepted, "refused": sources.refused },
            "aggregators": aggregators,
        }))
    }

    async fn plugins(&self) -> Result<Value, QueryError> {
        Ok(json!({ "plugins": self.list() }))
    }

    async fn reload(&self) -> Result<Value, QueryError> {
        let (reply, done) = oneshot::channel();
        let stopping = || QueryError::unavailable("stopping", "the daemon is stopping");
        self.controller.send(Request::Reconcile(Some(reply))).map_err(|_| stopping())?;
        let statuses = done.await.map_err(|_| stopping())?;
        Ok(json!({ "plugins": statuses }))
    }

    async fn aggregators(&self) -> Result<Value, QueryError> {
        let facts = self.context.progress.facts();
        let list: Vec<Value> = facts
            .saved
            .iter()
            .map(|(name, meta)| json!({ "name": name, "sequence": meta.last_sequence, "version": meta.attached.version }))
            .collect();
        Ok(json!({ "aggregators": list }))
    }

    async fn ask(&self, name: &str, ask: Ask) -> Result<Value, QueryError> {
        let answer = tokio::time::timeout(ask.wait, self.answer(name, &ask)).await;
        let (answer, quarantined) = answer.map_err(|_| {
            let message = format!("no answer within {:?}; the events asked for may not have arrived", ask.wait);
            QueryError::timeout("timeout", message)
        })??;
        if let Some(unknown) = ask.tables.iter().find(|name| answer.tables.iter().all(|t| t.name != **name)) {
            let message = format!("aggregator {name} has no table {unknown:?}");
            return Err(QueryError::not_found("unknown_table", message));
        }
        let (summary, rest) = split(&answer.tables);
        let rows: serde_json::Map<_, _> = rest.iter().map(|t| (t.name.clone(), json!(t.to_json_rows()))).collect();
        Ok(json!({
            "as_of_sequence": answer.meta.last_sequence,
            "watermark": answer.meta.watermark.map(rfc3339),
            "incomplete": quarantined || !answer.meta.complete,
            "summary": summary,
            "tables": rows,
            "rows_left_out": left_out(rest),
        }))
    }
}
