//! Sending by HTTP: one request after the other, so that lines stay in order. A daemon that is full or stopping is asked
//! again; a request that may have been taken is not, since nothing would tell that its events are the same.

use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;

use super::encoding::{Encoding, write_maps};
use super::source::{self, Source};
use super::summary::Summary;
use crate::connect;
use crate::http::{Answer, Client, Failure};
use crate::progress::{Meter, Stopwatch};

/// What an answer may take: a full log or a slow disk holds it up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before asking again when the daemon names none; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// The lines are queued; nothing is known of them yet.
    Accepted,
    /// The lines are decided and on disk.
    Durable,
    /// The aggregators have them as well.
    Applied,
}

impl Wait {
    /// As the daemon calls it.
    pub fn name(self) -> &'static str {
        match self {
            Wait::Accepted => "accepted",
            Wait::Durable => "durable",
            Wait::Applied => "applied",
        }
    }
}

/// How lines become requests.
#[derive(Debug)]
pub struct Plan {
    /// Path and parameters of each.
    pub path: String,
    /// Most lines of each.
    pub batch: u64,
    /// How events are written.
    pub encoding: Encoding,
    /// The line of the file that comes first.
    pub from_line: u64,
    /// How long to try again without any progress.
    pub retry_for: Duration,
}

/// What the daemon did with a request's lines; keys it may have that are not listed do not matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taken {
    accepted: u64,
    rejected: u64,
    duplicates: u64,
    last_sequence: u64,
    rejects: Vec<Reject>,
    rejects_left_out: u64,
}

#[derive(Debug, Deserialize)]
struct Reject {
    index: u64,
    reason: String,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    detail: String,
}

/// Sends everything.
pub(super) async fn post(
    client: &mut Client,
    plan: &Plan,
    source: &mut Source,
    meter: &mut Meter,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut block = Vec::new();
    while source.next(&mut block)? {
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let end = source::nth_line(rest, plan.batch).unwrap_or(rest.len());
            let (batch, after) = rest.split_at(end);
            let first = plan.from_line + summary.lines;
            let lines = source::count_lines(batch);
            summary.lines += lines;
            rest = after;
            if source::lines(batch).all(source::is_blank) {
                // Nothing to decide, and a request of nothing is a mistake.
                summary.durable += lines;
                continue;
            }
            let body = body(plan, batch, first)?;
            let taken = match insist(client, plan, body, meter).await {
                Ok(answer) => take(&answer, batch, first, summary),
                Err(error) => Err(error),
            };
            taken.map_err(|error| where_it_stopped(error, plan, first, summary))?;
        }
        let sent = summary.durable;
        meter.show(source.consumed(), |seconds| {
            format!("{sent} lines {}, {:.0} lines/s", summary.level(), sent as f64 / seconds)
        });
    }
    Ok(())
}

fn where_it_stopped(error: anyhow::Error, plan: &Plan, first: u64, summary: &Summary) -> anyhow::Error {
    match first == plan.from_line {
        true => error,
        false => error.context(format!("stopped at line {first}, those before are {}", summary.level())),
    }
}

fn body(plan: &Plan, batch: &[u8], first_line: u64) -> anyhow::Result<Bytes> {
    match plan.encoding {
        Encoding::Json => Ok(Bytes::copy_from_slice(batch)),
        Encoding::Msgpack => {
            let mut maps = Vec::with_capacity(batch.len());
            write_maps(batch, first_line, false, &mut maps)?;
            Ok(maps.into())
        }
    }
}

/// One request, again and again while the daemon is full, stopping or not there.
async fn insist(client: &mut Client, plan: &Plan, body: Bytes, meter: &mut Meter) -> anyhow::Result<Answer> {
    let kind = match plan.encoding {
        Encoding::Json => "application/x-ndjson",
        Encoding::Msgpack => "application/msgpack",
    };
    let outage = Stopwatch::start();
    let mut pause = FIRST_PAUSE;
    loop {
        let asked = client.ask(Method::POST, &plan.path, &[(CONTENT_TYPE.as_str(), kind)], body.clone()).await;
        let (error, wait) = match asked {
            Ok(answer) if !is_passing(&answer) => return Ok(answer),
            Ok(answer) => (anyhow!("{}", answer.problem()), answer.retry_after()),
            Err(Failure::Unsent(error)) if connect::is_passing(&error) => (error, None),
            Err(Failure::Unsent(error)) => return Err(error),
            Err(Failure::Unknown(error)) => return Err(error.context("the last request may have been taken or not")),
        };
        let wait = wait.unwrap_or(pause);
        if outage.elapsed() + wait > plan.retry_for {
            return Err(error.context(format!("gave up after {:?}", plan.retry_for)));
        }
        meter.say(&format!("{error:#}; trying again"));
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Full, stopping or out of order for the moment. Some routes answer as their clients expect it, with 500.
fn is_passing(answer: &Answer) -> bool {
    let status = answer.status.as_u16();
    matches!(status, 429 | 503) || status == 500 && answer.retry_after().is_some()
}

/// Adds what an answer says of a batch that began with line `first`. The daemon counts events, which blank lines are not.
fn take(answer: &Answer, batch: &[u8], first: u64, summary: &mut Summary) -> anyhow::Result<()> {
    let status = answer.status.as_u16();
    let taken: Option<Taken> = answer
        .json()
        .ok()
        .filter(|value| value["rejected"].is_u64())
        .and_then(|value| serde_json::from_value(value).ok());
    match (status, taken) {
        (202, _) => {}
        (200..=299 | 400, Some(taken)) => {
            summary.accepted += taken.accepted;
            summary.rejected += taken.rejected;
            summary.duplicates += taken.duplicates;
            summary.sequence = summary.sequence.max(taken.last_sequence);
            let events = source::lines(batch).zip(first..).filter(|(line, _)| !source::is_blank(line));
            let numbers: Vec<u64> = match taken.rejects.is_empty() {
                true => Vec::new(),
                false => events.map(|(_, number)| number).collect(),
            };
            for reject in &taken.rejects {
                let number = usize::try_from(reject.index).ok().and_then(|index| numbers.get(index));
                summary.reject(*number.unwrap_or(&first), &reject.reason, &why(reject));
            }
            summary.not_named(taken.rejects_left_out);
        }
        (413, _) => bail!("{}; give a smaller --batch", answer.problem()),
        (200..=299, None) => {
            bail!("the answer ({status}) does not say what became of the lines; is that a door for events?")
        }
        _ => bail!("{}", answer.problem()),
    }
    summary.pieces += 1;
    summary.durable += source::count_lines(batch);
    Ok(())
}

fn why(reject: &Reject) -> String {
    match (&reject.field, reject.detail.as_str()) {
        (Some(field), detail) if !detail.is_empty() => format!("{field}: {detail}"),
        (Some(field), _) => field.clone(),
        (None, detail) => detail.to_string(),
    }
}
