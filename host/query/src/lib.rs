//! Questions from outside: the HTTP routes of the query door and of the admin door.
//!
//! This crate knows paths, parameters, formats and problem documents. It knows nothing of logs, aggregators or plugins: what
//! is asked it passes to a [`Backend`], which the daemon implements. Questions never travel the way of events, so asking
//! never delays ingestion. Connections are somebody else's too: [`router`] is served by whoever has the sockets.
//!
//! | Route | Answer |
//! |---|---|
//! | `GET /health` | `{"status":"ok"}` while the daemon answers at all |
//! | `GET /ready` | `{"status":"ready"}` while events are accepted, otherwise a problem that says why not |
//! | `GET /metrics` | Prometheus text |
//! | `GET /openapi.json` | all of this for programs |
//! | `GET /v1/status` | sequences, queue, flushes, ledger, lag |
//! | `GET /v1/plugins` | wanted and running digests |
//! | `POST /v1/plugins/reload` | looks at the plugins directory now; admin door only |
//! | `POST /v1/plugins/{name}/plan` | what would change if that plugin were the component in the body; admin door only |
//! | `POST /v1/plugins/{name}/shadow` | runs the component in the body beside that aggregator; admin door only |
//! | `DELETE /v1/plugins/{name}/shadow` | ends that and forgets it; admin door only |
//! | `GET /v1/plugins/{name}/diff` | where the reports of the two differ |
//! | `POST /v1/plugins/{name}/promote` | has what runs beside that aggregator take its place; admin door only |
//! | `POST /v1/plugins/{name}/pause`, `resume` | has an aggregator stop, or go on that is paused or in quarantine; admin door only |
//! | `POST /v1/plugins/{name}/rebuild`, `reset`, `rollback` | has it begin anew from the log, from now on, or go back; admin door only |
//! | `POST /v1/plugins/{name}/remove` | forgets the state of one that does not run; admin door only |
//! | `GET /v1/aggregators` | the aggregators that can be asked |
//! | `GET /v1/aggregators/{name}` | a report |
//! | `GET /v1/aggregators/{name}/{table}` | one table of it |
//! | `GET /v1/aggregators/{name}/{table}/{column}` | one value of a table of one row |
//! | `GET /v1/batches/last`, `GET /v1/batches/{id}` | a flush as the analytics file has it |
//! | `GET /v1/rejected` | the newest rejected lines that are kept, and counts by reason |
//! | `GET /v1/dead-letters`, `GET /v1/dead-letters/{id}` | events that aggregators are spared, as far as they are kept |
//!
//! Whatever goes wrong is answered with `application/problem+json` (RFC 9457) and a stable `code`.
//!
//! Answers about an aggregator say how old they are: the age is 0 when every accepted event is in the answer; otherwise it
//! is the time since the cut that the answer shows, so that every event accepted that long ago or earlier is in it.

mod error;
mod format;
mod parameters;
mod render;
mod routes;

use std::pin::Pin;
use std::time::Duration;

pub use error::QueryError;
pub use routes::router;
use serde_json::Value;
use tally_event::table::Table;
use tally_event::time;

/// Rows per table that an answer has when the question does not say.
pub const DEFAULT_ROWS: u32 = 100;

/// Most rows per table that an answer may have, unless configured.
pub const DEFAULT_MAX_ROWS: u32 = 10_000;

/// Rejected lines or dead letters that an answer has when the question does not say.
pub const DEFAULT_REJECTED: u32 = 20;

/// Most rejected lines or dead letters that an answer may have.
pub const MAX_REJECTED: u32 = 1000;

/// Rows of each kind of difference in a table that a comparison shows when the question does not say.
pub const DEFAULT_DIFFERENCES: u32 = 20;

/// Most rows of each kind of difference in a table that a comparison may show.
pub const MAX_DIFFERENCES: u32 = 1000;

/// Time that a question waits for its `min_sequence` when it does not say.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// Longest time that a question may wait for its `min_sequence`.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Which door the routes stand behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// Changes nothing; who tries is told where the admin socket is.
    Query {
        /// Path of the admin socket.
        admin: String,
    },
    /// Takes changes too.
    Admin,
}

/// What is asked of one aggregator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Names of the tables wanted; empty for all.
    pub tables: Vec<String>,
    /// Most rows per table; 0 for all.
    pub row_limit: u32,
    /// Rows to skip in each table.
    pub skip_rows: u64,
    /// Parameters for the aggregator, in the order given.
    pub parameters: Vec<(String, String)>,
    /// The answer must cover this sequence number; answer with [`QueryError::timeout`] when it does not within `wait`.
    pub min_sequence: Option<u64>,
    /// How long to wait for `min_sequence`.
    pub wait: Duration,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            row_limit: DEFAULT_ROWS,
            skip_rows: 0,
            parameters: Vec::new(),
            min_sequence: None,
            wait: DEFAULT_WAIT,
        }
    }
}

/// What an aggregator answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Sequence of the last event in it.
    pub as_of_sequence: u64,
    /// Greatest event time in it, as RFC 3339.
    pub watermark: Option<String>,
    /// How old it is; see the module.
    pub age: Duration,
    /// Whether every event up to `as_of_sequence` went into it.
    pub complete: bool,
    /// The tables asked for, each checked; the first of all is the summary.
    pub tables: Vec<Table>,
}

impl Report {
    /// The age in seconds, to the millisecond.
    pub(crate) fn age_seconds(&self) -> f64 {
        self.age.as_millis() as f64 / 1000.0
    }
}

/// Which flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// The last one.
    Last,
    /// The one of this number, from 1.
    Number(u64),
}

/// An answer that is on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueryError>> + Send + 'a>>;

/// What operators ask for of one aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stops, and goes on where it stopped when it is resumed.
    Pause,
    /// It goes on, though it is paused or in quarantine.
    Resume,
    /// It goes back to the version and the state before the last change of either, and catches up.
    Rollback,
    /// The version that runs beside it takes its place, with the state that it has.
    Promote,
    /// It begins with nothing, and applies what the log has.
    Rebuild {
        /// Where it begins; none: where what it has began.
        from: Option<Since>,
        /// Whether it may give up what it has and the log does not give again.
        discard_state: bool,
    },
    /// It begins with nothing and the next event.
    Reset {
        /// Whether it may give up what it has.
        discard_state: bool,
    },
    /// What it has is forgotten.
    Remove {
        /// Whether it may give up what it has.
        discard_state: bool,
    },
}

impl Change {
    /// The code of the problem that says why it is not done.
    pub fn refused(&self) -> &'static str {
        match self {
            Self::Pause => "not_paused",
            Self::Resume => "not_resumed",
            Self::Rollback => "not_rolled_back",
            Self::Promote => "not_promoted",
            Self::Rebuild { .. } => "not_rebuilt",
            Self::Reset { .. } => "not_reset",
            Self::Remove { .. } => "not_removed",
        }
    }
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Before everything.
    Beginning,
    /// A time, microseconds since the Unix epoch.
    Time(i64),
}

impl std::str::FromStr for Since {
    type Err = String;

    /// `beginning`, or a time in RFC 3339.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => Ok(Self::Beginning),
            _ => time::parse(text).map(Self::Time).ok_or_else(|| {
                format!("{text:?} is neither `beginning` nor a time in RFC 3339, such as 2026-01-27T10:00:00Z")
            }),
        }
    }
}

/// Whoever can answer. Every method may be called from many connections at once.
pub trait Backend: Send + Sync + 'static {
    /// Most rows per table that an answer may have now.
    fn max_rows(&self) -> u32;
    /// Nothing while events are accepted, otherwise why not, as [`QueryError::unavailable`].
    fn ready(&self) -> Result<(), QueryError>;
    /// Where the daemon stands.
    fn status(&self) -> Answer<'_, Value>;
    /// Everything that is counted, in Prometheus' text format 0.0.4.
    fn metrics(&self) -> Answer<'_, String>;
    /// Wanted and running plugins.
    fn plugins(&self) -> Answer<'_, Value>;
    /// Looks at the plugins directory now and answers when every change has been taken or refused. Runs in a task of its
    /// own: a client that hangs up does not cancel it.
    fn reload(&self) -> Answer<'_, Value>;
    /// Changes what becomes of an aggregator, and answers when that is so; [`QueryError`] says why it is not. Runs in a task of its own
    /// like `reload`.
    fn change<'a>(&'a self, name: &'a str, change: Change) -> Answer<'a, Value>;
    /// What would change if the plugin of this name had these bytes; nothing does.
    fn plan<'a>(&'a self, plugin: &'a str, component: Vec<u8>) -> Answer<'a, Value>;
    /// Runs a component beside the aggregator of this name, on live traffic and on state of its own: from what the aggregator has saved, or
    /// counting anew `from` a time (RFC 3339) or the `beginning` of the log. Runs in a task of its own like `reload`.
    fn shadow<'a>(&'a self, name: &'a str, component: Vec<u8>, from: Option<Since>) -> Answer<'a, Value>;
    /// Where the reports of an aggregator and of what runs beside it differ, as of the same cut.
    fn diff<'a>(&'a self, name: &'a str, rows: u32) -> Answer<'a, Value>;
    /// Ends what runs beside the aggregator, and forgets it. Runs in a task of its own like `reload`.
    fn drop_shadow<'a>(&'a self, name: &'a str) -> Answer<'a, Value>;
    /// The aggregators that can be asked.
    fn aggregators(&self) -> Answer<'_, Value>;
    /// Asks one aggregator.
    fn ask<'a>(&'a self, name: &'a str, ask: Ask) -> Answer<'a, Report>;
    /// A flush as one line of JSON without its newline.
    fn batch(&self, batch: Batch) -> Answer<'_, Vec<u8>>;
    /// The newest rejected lines that are kept, newest first, and counts by reason.
    fn rejected(&self, rows: u32, reason: Option<String>) -> Answer<'_, Value>;
    /// Events that aggregators are spared, as far as they are kept, newest first, of one aggregator or of all.
    fn dead_letters(&self, rows: u32, aggregator: Option<String>) -> Answer<'_, Value>;
    /// One of them by its id, with the event.
    fn dead_letter<'a>(&'a self, id: &'a str) -> Answer<'a, Value>;
}
