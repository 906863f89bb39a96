//! Answers that stand in files: flushes, rejected lines, dead letters. Read in threads for what blocks, never as a whole.

use std::sync::Arc;

use serde_json::{Value, json};
use tally_query::{Batch, QueryError};
use tally_storage::RealStorage;

use crate::context::Context;
use crate::dead_letters;

/// How a record begins; its number follows.
const KEY: &[u8] = b"{\"batch_id\":";

/// A flush as the analytics file has it.
pub(super) async fn batch(context: Arc<Context>, batch: Batch) -> Result<Vec<u8>, QueryError> {
    let Some(end) = context.progress.facts().records_end else {
        let message = "nothing has been flushed yet; a flush comes with flush.events events or after flush.interval";
        return Err(QueryError::not_found("no_batch", message));
    };
    let files = RealStorage::read_only(&context.config.data_dir).map_err(|error| {
        QueryError::internal("unreadable_files", format!("cannot open {}: {error}", context.config.data_dir.display()))
    })?;
    let found = blocking(move || match batch {
        Batch::Last => tally_sink::last_record(&files, end).map(Some),
        Batch::Number(number) => tally_sink::find_record(&files, end, number, batch_id),
    });
    found.await?.ok_or_else(|| {
        let number = match batch {
            Batch::Last => String::new(),
            Batch::Number(number) => format!(" {number}"),
        };
        let message = format!(
            "there is no batch{number}: it has not been flushed, or its file is gone; the newest is at /v1/batches/last"
        );
        QueryError::not_found("no_batch", message)
    })
}

/// The newest rejected lines that are kept, and counts by reason since the log began.
pub(super) async fn rejected(context: Arc<Context>, rows: u32, reason: Option<String>) -> Result<Value, QueryError> {
    let counts = context.published().counts.rejected.clone();
    let dir = context.config.data_dir.clone();
    let lines = blocking(move || {
        let wanted = |line: &[u8]| match (&reason, serde_json::from_slice::<Value>(line)) {
            (None, parsed) => parsed.is_ok(),
            (Some(reason), Ok(line)) => line["reason"] == **reason,
            (Some(_), Err(_)) => false,
        };
        tally_sink::newest_rejected(&dir, rows as usize, wanted)
    });
    let lines: Vec<Value> = lines.await?.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    Ok(json!({ "counts": counts, "rejected": lines }))
}

/// The newest dead letters that are kept, without what is long.
pub(super) async fn dead_letters(
    context: Arc<Context>,
    rows: u32,
    aggregator: Option<String>,
) -> Result<Value, QueryError> {
    let letters = blocking(move || dead_letters::newest(&context.store)).await?;
    Ok(dead_letters::list(&letters, rows as usize, aggregator.as_deref()))
}

/// One dead letter, with the event.
pub(super) async fn dead_letter(context: Arc<Context>, id: String) -> Result<Value, QueryError> {
    let letters = blocking(move || dead_letters::newest(&context.store)).await?;
    let found = letters.into_iter().find(|letter| letter.id == id);
    found.map(|letter| json!(letter)).ok_or_else(|| {
        let message = format!("there is no dead letter {id:?}; see /v1/dead-letters for those that are kept");
        QueryError::not_found("no_dead_letter", message)
    })
}

async fn blocking<T: Send + 'static, E: Into<anyhow::Error> + Send + 'static>(
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, QueryError> {
    let error = match tokio::task::spawn_blocking(read).await {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(error)) => format!("{:#}", error.into()),
        Err(error) => error.to_string(),
    };
    tracing::error!(error, "cannot read what was written");
    Err(QueryError::internal("unreadable_files", error))
}

/// The number at the beginning of a record.
fn batch_id(record: &[u8]) -> Option<u64> {
    let digits = record.strip_prefix(KEY)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use tally_aggregate::{Counts, Flush};

    #[test]
    fn records_begin_with_their_number() {
        let flush = Flush {
            batch_id: 1234,
            from: 0,
            to: 0,
            first_sequence: 1,
            last_sequence: 2,
            window: Counts::default(),
            total: Counts::default(),
            expected: Default::default(),
            quarantined: BTreeMap::new(),
            table_rows: 1,
        };
        let record = crate::records::render(&flush, &BTreeMap::new(), &BTreeMap::new());
        assert_eq!(batch_id(&record), Some(1234));
        assert_eq!(batch_id(b"{\"batch_id\":}"), None);
        assert_eq!(batch_id(b"{\"batch_id\":12"), None, "cut off in its number");
    }
}
