//! Testing an aggregator natively: events come as JSON lines, no Wasm and no daemon are involved.
//!
//! ```
//! # use tally_sdk::{Aggregator, Count, Event, NoSettings, Question, Refusal, Report, State, Text};
//! # #[derive(Event)]
//! # #[event(type = "signup")]
//! # pub struct Signup<'a> { #[field("/user_id")] user: Text<'a> }
//! # #[derive(State)]
//! # pub struct Signups { signups: Count }
//! # impl Aggregator for Signups {
//! #     const NAME: &'static str = "signups";
//! #     const VERSION: &'static str = "1";
//! #     const SUMMARY: &'static str = "Counts sign-ups";
//! #     const STATE_VERSION: &'static str = "1";
//! #     const REFUSALS: &'static [&'static str] = &["bot"];
//! #     type Settings = NoSettings;
//! #     type Event<'a> = Signup<'a>;
//! #     fn new(_: &NoSettings) -> Result<Self, String> { Ok(Self { signups: Count::default() }) }
//! #     fn apply(&mut self, event: &Signup<'_>) -> Result<(), Refusal> {
//! #         if event.user == *"bot" { return Err(Refusal("bot")); }
//! #         self.signups.add(1);
//! #         Ok(())
//! #     }
//! #     fn report(&self, _: &Question, report: &mut Report) -> Result<(), String> {
//! #         report.summary().counter("signups", [self.signups]);
//! #         Ok(())
//! #     }
//! # }
//! use tally_sdk::testing::{Harness, check_laws};
//!
//! let lines = [
//!     r#"{"type":"signup","user_id":"ada"}"#.to_owned(),
//!     r#"{"type":"signup","user_id":"bot"}"#.to_owned(),
//!     r#"{"type":"signup"}"#.to_owned(),
//! ];
//! let mut harness = Harness::<Signups>::new("{}");
//! assert_eq!(harness.apply(&lines), [(1, "bot".to_owned()), (2, "missing:/user_id".to_owned())]);
//! assert_eq!(harness.summary("signups"), "1");
//! check_laws::<Signups>("{}", &lines);
//! ```

mod decode;
mod laws;

use crate::aggregator::Aggregator;
use crate::guest::Configured;
use crate::question::Question;
use crate::text::{Dictionary, Text};
use crate::wire::tally::aggregator::columns::{Column, Values};
use crate::wire::tally::aggregator::types::Table;
pub use laws::check_laws;

/// Texts as a batch brings them, to try out a building block by itself: see [`crate::Distinct`].
pub fn with_texts<T>(texts: &[&str], look: impl FnOnce(&[Text<'_>]) -> T) -> T {
    let column = decode::texts(texts);
    let dictionary = Dictionary::new(texts.len(), &column.ends, &column.bytes, &column.hashes);
    let texts: Vec<Text<'_>> = column.codes.iter().map(|&code| Text::new(&dictionary, code)).collect();
    look(&texts)
}

/// An aggregator with its state.
pub struct Harness<A: Aggregator> {
    configured: Configured<A>,
    state: A,
    sequence: u64,
}

impl<A: Aggregator> Harness<A> {
    /// An empty state.
    ///
    /// # Panics
    /// When the settings are refused.
    pub fn new(settings: &str) -> Self {
        let configured = Configured::<A>::new(settings).unwrap_or_else(|error| panic!("{error}"));
        let state = configured.empty();
        Self { configured, state, sequence: 1 }
    }

    /// The state that was saved under this version; the error is what the host would show.
    ///
    /// # Panics
    /// When the settings are refused.
    pub fn load(settings: &str, state_version: &str, saved: &[u8]) -> Result<Self, String> {
        let mut harness = Self::new(settings);
        harness.state = harness.configured.load(state_version, saved)?;
        Ok(harness)
    }

    /// The state.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// The version under which the state is saved.
    pub fn state_version(&self) -> &str {
        &self.configured.state_version
    }

    /// Applies the lines as one batch. Gives the index and reason of each line that was refused: by the aggregator, or on
    /// its behalf as the host does (`missing:/user_id`). Events of other types are left out. A line's `timestamp`, if it
    /// has one, is its time. The lines are numbered on from those applied before.
    ///
    /// # Panics
    /// When a line is no JSON object with a `type`, or its timestamp is no RFC 3339.
    pub fn apply<L: AsRef<str>>(&mut self, lines: &[L]) -> Vec<(usize, String)> {
        let manifest = self.configured.manifest();
        let decoded = decode::decode(&manifest, lines, self.sequence);
        self.sequence += lines.len() as u64;
        let refused = self.configured.apply(&mut self.state, &decoded.batch);
        let mut all = decoded.refused;
        all.extend(refused.into_iter().map(|refusal| {
            let line = decoded.batch.sequence_offsets[refusal.row as usize] as usize;
            (line, manifest.refusals[refusal.reason as usize].clone())
        }));
        all.sort();
        all
    }

    /// Merges the state of `later` in, and numbers lines on from there.
    pub fn merge(&mut self, later: &Self) {
        self.configured.merge(&mut self.state, &later.state);
        self.sequence = self.sequence.max(later.sequence);
    }

    /// The saved state.
    pub fn save(&self) -> Vec<u8> {
        self.configured.save(&self.state)
    }

    /// A column of the summary, as text; `-` where it is absent.
    ///
    /// # Panics
    /// When there is no such column.
    pub fn summary(&self, column: &str) -> String {
        let summary = &self.report(&Question::default())[0];
        let named = summary.columns.iter().find(|named| named.name == column);
        cell(&named.unwrap_or_else(|| panic!("the summary has no column {column:?}")).column, 0)
    }

    /// The rows of a table as asked for, each a list of its cells as text; and how many were left out.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn table(&self, name: &str, skip_rows: u64, row_limit: u32) -> (Vec<Vec<String>>, u64) {
        let question = Question { tables: vec![name.to_owned()], skip_rows, row_limit, ..Question::default() };
        let tables = self.report(&question);
        let table = tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name:?}"));
        let rows = table.columns.first().map_or(0, |named| named.column.values.len());
        let row = |row| table.columns.iter().map(|named| cell(&named.column, row)).collect();
        ((0..rows).map(row).collect(), table.rows_left_out)
    }

    fn report(&self, question: &Question) -> Vec<Table> {
        self.configured.report(&self.state, question).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn cell(column: &Column, row: usize) -> String {
    if column.present.get(row) == Some(&0) {
        return "-".to_owned();
    }
    match &column.values {
        Values::Text(text) => {
            let code = text.codes[row] as usize;
            let start = if code == 0 { 0 } else { text.ends[code - 1] as usize };
            String::from_utf8_lossy(&text.bytes[start..text.ends[code] as usize]).into_owned()
        }
        Values::Integers(values) => values[row].to_string(),
        Values::Floats(values) => values[row].to_string(),
        Values::Booleans(values) => (values[row] != 0).to_string(),
    }
}
