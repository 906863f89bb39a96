//! What was sent, for people and for programs.

use std::collections::BTreeMap;

use serde_json::json;

use super::session::Progress;

/// Rejected lines that are shown.
const SHOWN: usize = 10;

/// See the module. Counts are of lines of the stream, which begins at `--from-line`.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Whether the daemon was asked to acknowledge.
    pub acknowledged: bool,
    /// Lines read, those that were durable before included.
    pub lines: u64,
    /// Lines known to be durable, those before included.
    pub durable: u64,
    /// Lines that were durable before the first connection.
    pub resumed: Option<u64>,
    /// Connections, the first included.
    pub connections: u64,
    /// Rejected lines this run was told of (after a lost connection there may be more).
    pub rejected: u64,
    /// The same by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Line of the file and reason of the first ones.
    pub examples: Vec<(u64, String)>,
    /// The last sequence number the daemon named.
    pub sequence: u64,
    /// How long it took.
    pub seconds: f64,
    /// Everything arrived.
    pub complete: bool,
}

impl Summary {
    /// Nothing sent yet.
    pub fn new(acknowledged: bool) -> Summary {
        Summary { acknowledged, ..Summary::default() }
    }

    /// A connection that begins after `resume` lines.
    pub fn connected(&mut self, resume: u64) {
        self.resumed.get_or_insert(resume);
        self.connections += 1;
    }

    /// What a connection's answers said; `first_line` is the file's line that its first line was.
    pub fn add(&mut self, progress: &Progress, first_line: u64) {
        self.rejected += progress.rejected;
        self.sequence = self.sequence.max(progress.sequence);
        for (reason, count) in &progress.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        let room = SHOWN.saturating_sub(self.examples.len());
        let examples = progress.examples.iter().take(room);
        self.examples.extend(examples.map(|(line, reason)| (first_line + line - 1, reason.clone())));
    }

    /// Lines per second of this run.
    fn rate(&self) -> f64 {
        let sent = self.lines - self.resumed.unwrap_or(0).min(self.lines);
        sent as f64 / self.seconds.max(1e-9)
    }

    /// For programs: one JSON object and a newline.
    pub fn json(&self) -> String {
        let mut value = json!({
            "lines": self.lines,
            "complete": self.complete,
            "seconds": (self.seconds * 1e6).round() / 1e6,
            "rate": self.rate().round() as u64,
        });
        if self.acknowledged {
            value["durable"] = self.durable.into();
            value["resumed"] = self.resumed.unwrap_or(0).into();
            value["connections"] = self.connections.into();
            value["rejected"] = self.rejected.into();
            value["rejected_by_reason"] = json!(self.reasons);
            value["sequence"] = self.sequence.into();
        }
        format!("{value}\n")
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (line, reason) in &self.examples {
            text += &format!("line {line} was rejected: {reason}\n");
        }
        if self.rejected > self.examples.len() as u64 && !self.examples.is_empty() {
            text += "...\n";
        }
        let rate = format!("{:.3} s, {:.0} lines/s", self.seconds, self.rate());
        if !self.acknowledged {
            return text + &format!("{} lines sent in {rate}; nothing was acknowledged\n", self.lines);
        }
        let resumed = match self.resumed {
            Some(resumed) if resumed > 0 => format!(", {resumed} of them before this run"),
            _ => String::new(),
        };
        let reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        text + &format!(
            "{} of {} lines durable{resumed}; {} rejected{reasons}; sequence {}; {rate}\n",
            self.durable, self.lines, self.rejected, self.sequence
        )
    }
}
