//! What was sent, for people and for programs.

use std::collections::BTreeMap;

use serde_json::json;

use super::http::Wait;
use super::session::Progress;

/// Rejected lines that are shown.
const SHOWN: usize = 10;

/// By what the lines went, and so what is known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// A socket without acknowledgements: only that they were written.
    #[default]
    Plain,
    /// UDP: not even that anybody was there.
    Datagrams,
    /// A socket with acknowledgements.
    Acknowledged,
    /// HTTP, each answer waiting for this.
    Requests(Wait),
}

/// See the module. Counts are of lines of the stream, which begins at `--from-line`.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// By what they went.
    pub way: Way,
    /// Lines read, those that were durable before included.
    pub lines: u64,
    /// Lines known to be durable (or what else [`Summary::level`] says), those before included.
    pub durable: u64,
    /// Lines that were durable before the first connection.
    pub resumed: Option<u64>,
    /// Connections, the first included.
    pub connections: u64,
    /// Datagrams or requests.
    pub pieces: u64,
    /// Events accepted, where an answer says so.
    pub accepted: u64,
    /// Rejected lines this run was told of (after a lost connection there may be more).
    pub rejected: u64,
    /// Events the daemon had already.
    pub duplicates: u64,
    /// Rejected lines by reason.
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
    pub fn new(way: Way) -> Summary {
        Summary { way, ..Summary::default() }
    }

    /// What the lines counted in `durable` are.
    pub fn level(&self) -> &'static str {
        match self.way {
            Way::Requests(wait) => wait.name(),
            _ => Wait::Durable.name(),
        }
    }

    /// A connection that begins after `resume` lines.
    pub fn connected(&mut self, resume: u64) {
        self.resumed.get_or_insert(resume);
        self.connections += 1;
    }

    /// What a connection's answers said; `first_line` is the file's line that its first line was.
    pub fn add(&mut self, progress: &Progress, first_line: u64) {
        self.rejected += progress.rejected;
        self.duplicates += progress.duplicates;
        self.sequence = self.sequence.max(progress.sequence);
        for (reason, count) in &progress.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        let room = SHOWN.saturating_sub(self.examples.len());
        let examples = progress.examples.iter().take(room);
        self.examples.extend(examples.map(|(line, reason)| (first_line + line - 1, reason.clone())));
    }

    /// A line of the file that was rejected; `why` is empty or says more than the reason.
    pub fn reject(&mut self, line: u64, reason: &str, why: &str) {
        *self.reasons.entry(reason.to_string()).or_default() += 1;
        if self.examples.len() < SHOWN {
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            self.examples.push((line, format!("{reason}{why}")));
        }
    }

    /// More rejected lines, whose numbers and reasons were not told.
    pub fn not_named(&mut self, lines: u64) {
        if lines > 0 {
            *self.reasons.entry("not_named".to_string()).or_default() += lines;
        }
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
        match self.way {
            Way::Plain => {}
            Way::Datagrams => value["datagrams"] = self.pieces.into(),
            Way::Acknowledged => {
                value["resumed"] = self.resumed.unwrap_or(0).into();
                value["connections"] = self.connections.into();
            }
            Way::Requests(_) => value["requests"] = self.pieces.into(),
        }
        if matches!(self.way, Way::Acknowledged | Way::Requests(_)) {
            value[self.level()] = self.durable.into();
            if self.way != Way::Requests(Wait::Accepted) {
                value["rejected"] = self.rejected.into();
                value["rejected_by_reason"] = json!(self.reasons);
                value["duplicates"] = self.duplicates.into();
                value["sequence"] = self.sequence.into();
            }
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
        match self.way {
            Way::Plain => return text + &format!("{} lines sent in {rate}; nothing was acknowledged\n", self.lines),
            Way::Datagrams => {
                let Self { lines, pieces, .. } = self;
                return text
                    + &format!("{lines} lines sent in {pieces} datagrams in {rate}; UDP acknowledges nothing\n");
            }
            Way::Requests(Wait::Accepted) => {
                let Self { durable, lines, .. } = self;
                return text + &format!("{durable} of {lines} lines accepted, their fate not awaited; {rate}\n");
            }
            Way::Acknowledged | Way::Requests(_) => {}
        }
        let resumed = match self.resumed {
            Some(resumed) if resumed > 0 => format!(", {resumed} of them before this run"),
            _ => String::new(),
        };
        let reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        let duplicates = match self.duplicates {
            0 => String::new(),
            duplicates => format!("; {duplicates} duplicates"),
        };
        text + &format!(
            "{} of {} lines {}{resumed}; {} rejected{reasons}{duplicates}; sequence {}; {rate}\n",
            self.durable,
            self.lines,
            self.level(),
            self.rejected,
            self.sequence
        )
    }
}
