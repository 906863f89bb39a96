//! What is sent: Wikipedia's edits where the shared data is there, else as many generated lines; and what they add up to,
//! counted independently. Must not know: doors.

use std::io::Write;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tally_tests::{Work, component, plugin, root, succeed};

/// Lines, and what makes a daemon count them.
pub struct Input {
    /// The lines as they are.
    pub text: Vec<u8>,
    /// The same with an `event_id` each: the line's number.
    pub with_ids: Vec<u8>,
    /// How many.
    pub lines: u64,
    /// The aggregator that is asked.
    pub aggregator: &'static str,
    /// What reads the lines.
    pub preset: &'static str,
    /// True for the real data.
    pub is_published: bool,
    /// The independent count: `summary` and `tables`.
    pub counted: Value,
    /// What the daemon answers after all lines came over the Unix socket.
    pub answer: OnceLock<String>,
}

impl Input {
    /// The edits, or what stands in for them.
    pub fn edits() -> &'static Self {
        static EDITS: OnceLock<Input> = OnceLock::new();
        EDITS.get_or_init(|| Self::published().unwrap_or_else(|| Self::generate("--events 39244 --seed 2015")))
    }

    /// Generated lines, whatever is there.
    pub fn generated() -> &'static Self {
        static GENERATED: OnceLock<Input> = OnceLock::new();
        GENERATED.get_or_init(|| Self::generate("--events 8000 --seed 9"))
    }

    /// A folder whose daemons can count these lines.
    pub fn work(&self) -> Work {
        Work::new(&[if self.is_published {
            component("TALLY_EXAMPLE_PLUGINS_DIR", "example-plugins", self.aggregator)
        } else {
            plugin(self.aggregator)
        }])
    }

    fn published() -> Option<Self> {
        let data = root().join("../shared/data/wikipedia-edits.ndjson.gz");
        if !data.exists() {
            // Past the test harness, which keeps to itself what a test prints that passes.
            let what = format!("SKIPPED Wikipedia's edits, generated lines instead: {} is not here", data.display());
            writeln!(std::io::stderr(), "{what}").expect("writing to stderr");
            return None;
        }
        let text = succeed(Command::new("gzip").arg("-dc").arg(&data));
        let counted = succeed(Command::new("python3").arg(root().join("tests/oracle/edits.py")).arg(&data));
        let counted = serde_json::from_str(&counted).expect("a count in JSON");
        Some(Self::new(text, "wikipedia-edits", "wikipedia", true, counted))
    }

    fn generate(arguments: &str) -> Self {
        let work = Work::new(&[]);
        let events = work.generate("events", arguments);
        let counted = work.count(&events, &[]);
        let counted = &counted["count"]["aggregators"]["video-actions"];
        let counted = serde_json::json!({"summary": counted["summary"], "tables": {"posts": counted["posts"]}});
        let text = std::fs::read_to_string(events).expect("events");
        Self::new(text, "video-actions", "default", false, counted)
    }

    fn new(text: String, aggregator: &'static str, preset: &'static str, is_published: bool, counted: Value) -> Self {
        let with_ids = text.lines().zip(1..).map(|(line, number)| {
            let rest = line.strip_prefix('{').expect("an object");
            format!("{{\"event_id\":{number},{rest}\n")
        });
        let (with_ids, lines) = (with_ids.collect::<String>().into_bytes(), text.lines().count() as u64);
        let (text, answer) = (text.into_bytes(), OnceLock::new());
        Self { text, with_ids, lines, aggregator, preset, is_published, counted, answer }
    }
}
