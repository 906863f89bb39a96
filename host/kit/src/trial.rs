//! One case on trial: a few events in one instance of the aggregator, applied and merged in whichever way a law asks for.
//! Knows accumulators only by what they save and report.

use std::ops::Range;

use serde_json::{Value, json};
use tally_event::decode::Decoder;
use tally_event::table::{Question, Table};
use tally_plugin::{Accumulator, CallError, Instance};

use crate::subject::{Subject, batch, joined};

/// An event of a case. Which part it belongs to and when it is applied out of order stay with it when others are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) line: String,
    /// 0, 1 or 2; ascending along the case.
    pub(crate) part: u8,
    /// When it comes, where events come out of order.
    pub(crate) order: u64,
}

/// What an accumulator is to the outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) saved: Vec<u8>,
    pub(crate) report: Value,
}

/// How an expectation was not met.
pub(crate) enum Broken {
    /// Two states that should be equal are not.
    Differ(Box<(Snapshot, Snapshot)>),
    /// Something else.
    Says(String),
    /// A call gave no answer.
    Failed(CallError),
}

impl From<CallError> for Broken {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

/// An instance and the events of a case; the first event has sequence number 1.
pub(crate) struct Trial<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) instance: Instance,
    decoder: Decoder,
    pub(crate) items: &'a [Item],
}

impl<'a> Trial<'a> {
    pub(crate) fn new(subject: &'a Subject, items: &'a [Item]) -> Result<Self, CallError> {
        Ok(Self { subject, instance: subject.configured.instantiate()?, decoder: subject.decoder(), items })
    }

    pub(crate) fn all(&self) -> Range<usize> {
        0..self.items.len()
    }

    /// The events of the parts: the first, the second, the third.
    pub(crate) fn parts(&self) -> [Range<usize>; 3] {
        let until = |part| self.items.iter().filter(|item| item.part <= part).count();
        let (first, second) = (until(0), until(1));
        [0..first, first..second, second..self.items.len()]
    }

    /// Every event by itself, in order.
    pub(crate) fn singles(&self) -> Vec<Range<usize>> {
        self.all().map(|at| at..at + 1).collect()
    }

    /// Every event by itself, out of order.
    pub(crate) fn shuffled(&self) -> Vec<Range<usize>> {
        let mut singles = self.singles();
        singles.sort_by_key(|range| self.items[range.start].order);
        singles
    }

    /// An accumulator to which these batches were applied.
    pub(crate) fn state(&mut self, batches: &[Range<usize>]) -> Result<Accumulator, CallError> {
        let accumulator = self.instance.create()?;
        for range in batches {
            self.apply(&accumulator, range.clone())?;
        }
        Ok(accumulator)
    }

    /// Applies some events as one batch, and gives those that were refused and why.
    pub(crate) fn apply(
        &mut self,
        accumulator: &Accumulator,
        range: Range<usize>,
    ) -> Result<Vec<(usize, u32)>, CallError> {
        let lines = self.items[range.clone()].iter().map(|item| item.line.as_str());
        let batch = batch(&mut self.decoder, &joined(lines), 1 + range.start as u64);
        let rows = batch.for_subscriber(0).rows;
        let refusals = self.instance.apply(accumulator, &rows)?;
        let event = |row: u32| range.start + rows.sequence_offsets[row as usize] as usize;
        Ok(refusals.iter().map(|refusal| (event(refusal.row), refusal.reason)).collect())
    }

    pub(crate) fn merge(&mut self, into: Accumulator, later: &Accumulator) -> Result<Accumulator, CallError> {
        self.instance.merge(&into, later)?;
        Ok(into)
    }

    /// What comes of saving and loading.
    pub(crate) fn reload(&mut self, accumulator: &Accumulator) -> Result<Accumulator, CallError> {
        let saved = self.instance.save(accumulator)?;
        self.instance.load(&self.subject.manifest().state_version, &saved)
    }

    pub(crate) fn snapshot(&mut self, accumulator: &Accumulator) -> Result<Snapshot, CallError> {
        let saved = self.instance.save(accumulator)?;
        let report = rendered(&self.instance.report(accumulator, &Question::default())?);
        Ok(Snapshot { saved, report })
    }

    /// Whether both save and report the same.
    pub(crate) fn same(&mut self, one: &Accumulator, other: &Accumulator) -> Result<(), Broken> {
        let (one, other) = (self.snapshot(one)?, self.snapshot(other)?);
        same(one, other)
    }
}

/// Whether both are the same.
pub(crate) fn same(one: Snapshot, other: Snapshot) -> Result<(), Broken> {
    if one == other { Ok(()) } else { Err(Broken::Differ(Box::new((one, other)))) }
}

/// Tables as people read them: rows by table, and how many were left out where any were.
pub(crate) fn rendered(tables: &[Table]) -> Value {
    let rendered = tables.iter().map(|table| match table.rows_left_out {
        0 => json!({"table": table.name, "rows": table.to_json_rows()}),
        left_out => json!({"table": table.name, "rows": table.to_json_rows(), "rows_left_out": left_out}),
    });
    rendered.collect()
}

/// Where two reports differ first, in words; none where they do not.
pub(crate) fn first_difference(one: &Value, other: &Value) -> Option<String> {
    let differs = |at: String, one: &Value, other: &Value| Some(format!("{at} is {one} and {other}"));
    let empty = Vec::new();
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let (left, right) = (one.as_array().unwrap_or(&empty), other.as_array().unwrap_or(&empty));
    if left.len() != right.len() {
        return differs("the number of tables".into(), &left.len().into(), &right.len().into());
    }
    for (left, right) in left.iter().zip(right) {
        let table = left["table"].as_str().unwrap_or("?");
        if left["table"] != right["table"] {
            return differs("a table's name".into(), &left["table"], &right["table"]);
        }
        let (left_rows, right_rows) = (list(&left["rows"]), list(&right["rows"]));
        for (row, (left, right)) in left_rows.iter().zip(&right_rows).enumerate() {
            let mut columns = left.as_object().into_iter().flatten();
            if let Some((column, value)) = columns.find(|(column, value)| right[column.as_str()] != **value) {
                let row = if left_rows.len() == 1 { String::new() } else { format!("[{row}]") };
                return differs(format!("{table}{row}.{column}"), value, &right[column.as_str()]);
            }
        }
        if left_rows.len() != right_rows.len() {
            return differs(
                format!("the number of rows of {table}"),
                &left_rows.len().into(),
                &right_rows.len().into(),
            );
        }
        if left["rows_left_out"] != right["rows_left_out"] {
            return differs(format!("rows_left_out of {table}"), &left["rows_left_out"], &right["rows_left_out"]);
        }
    }
    (one != other).then(|| "the columns differ".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_said_in_words() {
        let of = |n: u64, rows: usize| json!([{"table": "summary", "rows": [{"n": n}]}, {"table": "t", "rows": vec![json!({"k": 1}); rows]}]);
        assert_eq!(first_difference(&of(1, 2), &of(1, 2)), None);
        assert_eq!(first_difference(&of(1, 2), &of(3, 2)).as_deref(), Some("summary.n is 1 and 3"));
        assert_eq!(first_difference(&of(1, 2), &of(1, 3)).as_deref(), Some("the number of rows of t is 2 and 3"));
    }
}
