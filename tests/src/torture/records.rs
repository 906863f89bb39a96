//! The analytics files as a reader finds them: no gap, no duplicate, no half line, and what was once there stays as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::books::balanced;

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub struct Records {
    lines: Vec<String>,
}

impl Records {
    /// Reads everything anew and compares. A daemon at work may be in the middle of its last line.
    pub fn check(&mut self, data: &Path, is_at_rest: bool) {
        let lines = read(data, is_at_rest);
        assert!(lines.len() >= self.lines.len(), "{} records were there, {} are", self.lines.len(), lines.len());
        for (number, (old, new)) in self.lines.iter().zip(&lines).enumerate() {
            assert_eq!(old, new, "record {} has changed", number + 1);
        }
        self.lines = lines;
        self.check_contents();
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The last sequence that a record covers.
    pub fn last_sequence(&self) -> u64 {
        self.lines.last().map_or(0, |line| number(&parsed(line), "last_sequence"))
    }

    fn check_contents(&self) {
        let mut next = 1;
        let mut before: Option<String> = None;
        let mut sums = BTreeMap::<String, u64>::new();
        for (line, id) in self.lines.iter().zip(1u64..) {
            let record = parsed(line);
            assert_eq!(record["batch_id"], id, "records are numbered one by one: {line}");
            assert_eq!(record["first_sequence"], next, "records follow one another: {line}");
            let last = number(&record, "last_sequence");
            assert!(last >= next, "a record has events: {line}");
            let terms = balanced(&record["ledger"]);
            assert_eq!(terms.accepted, last + 1 - next, "a record counts its events: {line}");
            let (from, to) = (text(&record, "from"), text(&record, "to"));
            assert!(from <= to, "time goes forward: {line}");
            assert!(before.as_ref().is_none_or(|before| *before == from), "periods follow one another: {line}");
            if let Some(actions) = record["aggregates"]["video-actions"].as_object() {
                let total = &record["totals"]["video-actions"];
                for column in ["views", "plays", "pauses", "unmutes", "carousel_left", "carousel_right"] {
                    let sum = sums.entry(column.to_owned()).or_default();
                    *sum +=
                        actions.get(column).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {column}: {line}"));
                    assert_eq!(total[column], *sum, "{column}: the total is the sum of all records: {line}");
                }
            }
            next = last + 1;
            before = Some(to);
        }
    }
}

fn read(data: &Path, is_at_rest: bool) -> Vec<String> {
    let mut files: Vec<(u64, PathBuf)> = std::fs::read_dir(data)
        .expect("the data directory")
        .filter_map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name.strip_prefix("analytics_")?.strip_suffix(".log")?.parse().ok()?, path))
        })
        .collect();
    files.sort();
    let mut lines = Vec::new();
    let last = files.len();
    for (number, (name, path)) in files.into_iter().enumerate() {
        assert_eq!(name, number as u64 + 1, "analytics files are numbered one by one");
        let text = std::fs::read_to_string(&path).expect("records");
        let (whole, partial) = text.rsplit_once('\n').unwrap_or(("", &text));
        let may_be_partial = !is_at_rest && number + 1 == last;
        assert!(partial.is_empty() || may_be_partial, "{} ends in half a line: {partial:?}", path.display());
        lines.extend(whole.lines().map(str::to_owned));
    }
    lines
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("a record is JSON: {error}: {line:?}"))
}

fn number(record: &Value, name: &str) -> u64 {
    record[name].as_u64().unwrap_or_else(|| panic!("no {name}: {record}"))
}

fn text(record: &Value, name: &str) -> String {
    record[name].as_str().unwrap_or_else(|| panic!("no {name}: {record}")).to_owned()
}
