//! Questions from outside: plain HTTP over a Unix socket, so that `curl --unix-socket` works.
//!
//! This crate knows paths, parameters and problem documents. It knows nothing of logs, aggregators or plugins: what is
//! asked it passes to a [`Backend`], which the daemon implements. Questions never travel the way of events, so asking
//! never delays ingestion.
//!
//! | Route | Answer |
//! |---|---|
//! | `GET /health` | `{"status":"ok"}` while the daemon answers at all |
//! | `GET /v1/status` | sequences, queue, flushes, ledger, lag |
//! | `GET /v1/plugins` | wanted and running digests |
//! | `POST /v1/plugins/reload` | looks at the plugins directory now |
//! | `GET /v1/aggregators` | the names that can be asked |
//! | `GET /v1/aggregators/{name}` | a report; parameters `table` (repeatable), `rows`, `skip`, `min_sequence`, `wait`, `param.NAME` |
//!
//! Whatever goes wrong is answered with `application/problem+json` (RFC 9457) and a stable `code`.

mod error;
mod parameters;
mod routes;
mod server;

use std::future::Future;
use std::time::Duration;

pub use error::{BindError, QueryError};
use serde_json::Value;
pub use server::{bind, serve};

/// Rows per table that an answer has when the question does not say.
pub const DEFAULT_ROWS: u32 = 100;

/// Time that a question waits for its `min_sequence` when it does not say.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// Longest time that a question may wait for its `min_sequence`.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

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

/// Whoever can answer. Every method may be called from many connections at once.
pub trait Backend: Send + Sync + 'static {
    /// Where the daemon stands.
    fn status(&self) -> impl Future<Output = Result<Value, QueryError>> + Send;
    /// Wanted and running plugins.
    fn plugins(&self) -> impl Future<Output = Result<Value, QueryError>> + Send;
    /// Looks at the plugins directory now and answers when every change has been taken or refused. Runs in a task of its
    /// own: a client that hangs up does not cancel it.
    fn reload(&self) -> impl Future<Output = Result<Value, QueryError>> + Send;
    /// The aggregators that can be asked.
    fn aggregators(&self) -> impl Future<Output = Result<Value, QueryError>> + Send;
    /// Asks one aggregator.
    fn ask(&self, name: &str, ask: Ask) -> impl Future<Output = Result<Value, QueryError>> + Send;
}
