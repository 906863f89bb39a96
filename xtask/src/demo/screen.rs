//! What the demo prints. Knows the shape of an answer; must not know where it came from.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Instant;

use serde_json::Value;

/// A terminal is redrawn; a file gets one block after the other.
pub struct Screen {
    terminal: bool,
    last: Option<(Instant, u64)>,
}

impl Screen {
    /// `terminal` says whether the output can be redrawn.
    pub fn new(terminal: bool) -> Self {
        Screen { terminal, last: None }
    }

    /// Shows the daemon's status, an answer as a table, and a hint.
    pub fn show(&mut self, status: &Value, answer: &Value, hint: &str, to: &mut impl Write) -> io::Result<()> {
        let mut text = String::new();
        if self.terminal {
            text.push_str("\x1b[2J\x1b[H");
        }
        let now = Instant::now();
        let sequence = answer["as_of_sequence"].as_u64().unwrap_or(0);
        let before = self.last.replace((now, sequence));
        let rate = before.map_or(0.0, |(then, old)| {
            sequence.saturating_sub(old) as f64 / now.duration_since(then).as_secs_f64().max(0.001)
        });
        // Writing to a string cannot fail.
        text.push_str("the daemon\n");
        text.push_str(&pairs(state(status)));
        text.push('\n');
        let _ = writeln!(text, "video-actions as of event {sequence} ({rate:.0} events/s)");
        text.push_str(&pairs(summary(answer)));
        text.push('\n');
        text.push_str(&table(answer["tables"]["posts"].as_array().map_or(&[], Vec::as_slice)));
        let _ = writeln!(text, "\n{hint}");
        to.write_all(text.as_bytes())?;
        to.flush()
    }
}

/// What of the status is worth a look every second: where it stands, and its name.
const STATUS: [(&str, &str); 9] = [
    ("/sequence", "sequence"),
    ("/ledger/received", "received"),
    ("/ledger/accepted", "accepted"),
    ("/ledger/rejected", "rejected"),
    ("/queue/bytes", "queued bytes"),
    ("/log/segments", "log segments"),
    ("/flush_count", "flushes"),
    ("/records_written", "records"),
    ("/uptime_seconds", "seconds"),
];

fn state(status: &Value) -> Vec<(String, String)> {
    let found = STATUS.iter().filter_map(|(pointer, name)| Some((name, status.pointer(pointer)?)));
    found.map(|(name, value)| ((*name).to_owned(), plain(value))).collect()
}

fn summary(answer: &Value) -> Vec<(String, String)> {
    let values = answer["summary"].as_object().into_iter().flatten();
    values.map(|(name, value)| (name.clone(), plain(value))).collect()
}

/// `name value` pairs, four to a line.
fn pairs(values: Vec<(String, String)>) -> String {
    let cells: Vec<String> = values.into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0) + 3;
    cells.chunks(4).map(|line| line_of(line, &vec![width; line.len()])).collect()
}

/// Rows with a heading, columns as wide as they need.
fn table(rows: &[Value]) -> String {
    let Some(first) = rows.first().and_then(Value::as_object) else {
        return "(no rows yet)\n".into();
    };
    // JSON has no column order; what a row is about is text and comes first.
    let (texts, numbers): (Vec<_>, Vec<_>) = first.iter().partition(|(_, value)| value.is_string());
    let names: Vec<String> = texts.into_iter().chain(numbers).map(|(name, _)| name.clone()).collect();
    let mut lines = vec![names.clone()];
    lines.extend(rows.iter().map(|row| names.iter().map(|name| plain(&row[name])).collect()));
    let width =
        |column: usize| lines.iter().map(|line: &Vec<String>| line[column].chars().count()).max().unwrap_or(0) + 2;
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    lines.iter().map(|line| line_of(line, &widths)).collect()
}

fn line_of(cells: &[String], widths: &[usize]) -> String {
    let line: String = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("  {}\n", line.trim_end())
}

/// Text as it is, counts by reason as their sum, everything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(counts) => counts.values().filter_map(Value::as_u64).sum::<u64>().to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_block_for_a_file_has_no_control_characters() {
        let answer = json!({"as_of_sequence": 7, "summary": {"total_events": 7, "hot_post": "post_12345"},
            "tables": {"posts": [{"post_id": "12345", "plays": 2}, {"post_id": "9", "plays": 1}]}});
        let status = json!({"sequence": 9, "ledger": {"rejected": {"too_deep": 1, "invalid_json": 2}}, "frame": 3});
        let mut shown = Vec::new();
        Screen::new(false).show(&status, &answer, "hint", &mut shown).unwrap();
        let expected = "the daemon\n  sequence 9   rejected 3\n\nvideo-actions as of event 7 (0 events/s)\n  hot_post post_12345   total_events 7\n\n  \
                        post_id  plays\n  12345    2\n  9        1\n\nhint\n";
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
    }

    #[test]
    fn nothing_to_show_is_said() {
        let mut shown = Vec::new();
        Screen::new(true).show(&json!({}), &json!({}), "", &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with("\x1b[2J") && shown.contains("(no rows yet)"), "{shown}");
    }
}
