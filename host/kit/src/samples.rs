//! Sample events: which lines are events, and what the aggregator reports of them, as golden text.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::{Value, json};
use tally_event::table::Question;

use crate::subject::{Subject, batch, joined, rejected};
use crate::trial::rendered;

/// Lines of a file of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// The lines that are events.
    pub events: Vec<String>,
    /// Number and reason of the others, blank ones aside.
    pub rejected: Vec<(usize, &'static str)>,
}

/// What came of applying samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Events given to the aggregator and counted.
    pub applied: usize,
    /// How many were refused, by reason: by the aggregator, or by the host on its behalf.
    pub refused: BTreeMap<String, usize>,
    /// Events of types it does not ask for.
    pub not_subscribed: usize,
    /// Everything it reports.
    pub report: Value,
}

impl Samples {
    /// Sorts the lines of a file.
    pub fn read(subject: &Subject, bytes: &[u8]) -> Self {
        let mut decoder = subject.decoder();
        let mut samples = Self::default();
        let lines = bytes.split(|byte| *byte == b'\n').enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
            let line = std::str::from_utf8(line).map_err(|_| "invalid_utf8");
            match line.and_then(|line| rejected(&mut decoder, line).map_or(Ok(line), Err)) {
                Ok(line) => samples.events.push(line.to_owned()),
                Err(reason) => samples.rejected.push((index + 1, reason)),
            }
        }
        samples
    }
}

/// Applies the events in one batch each of at most a thousand, and asks for everything.
pub fn apply(subject: &Subject, events: &[String]) -> anyhow::Result<Outcome> {
    let manifest = subject.manifest();
    let mut instance = subject.configured.instantiate()?;
    let accumulator = instance.create()?;
    let mut decoder = subject.decoder();
    let mut outcome = Outcome { applied: 0, refused: BTreeMap::new(), not_subscribed: 0, report: Value::Null };
    let mut as_of = 0;
    for (index, chunk) in events.chunks(1000).enumerate() {
        let batch = batch(&mut decoder, &joined(chunk.iter().map(String::as_str)), 1 + 1000 * index as u64);
        as_of = batch.max_time().map_or(as_of, |time| if index == 0 { time } else { time.max(as_of) });
        let selected = batch.for_subscriber(0);
        let refusals = instance.apply(&accumulator, &selected.rows).context("the samples cannot be applied")?;
        outcome.applied += selected.rows.len() - refusals.len();
        outcome.not_subscribed += selected.not_subscribed as usize;
        let of_host = selected.refused.iter().map(|refused| refused.reason.text(manifest));
        let own = refusals.iter().map(|refusal| manifest.refusals[refusal.reason as usize].clone());
        of_host.chain(own).for_each(|reason| *outcome.refused.entry(reason).or_default() += 1);
    }
    let question = Question { as_of, ..Question::default() };
    let tables = instance.report(&accumulator, &question).context("no report of the samples")?;
    outcome.report = rendered(&tables);
    Ok(outcome)
}

impl Outcome {
    /// As it is kept in a golden file: one row a line.
    pub fn golden(&self, rejected: &[(usize, &'static str)]) -> String {
        let mut text = format!(
            "applied {}, refused {}, not subscribed {}, rejected {}\n",
            self.applied,
            json!(self.refused),
            self.not_subscribed,
            json!(rejected)
        );
        for table in self.report.as_array().into_iter().flatten() {
            text += &format!("\n{}\n", table["table"].as_str().unwrap_or("?"));
            for row in table["rows"].as_array().into_iter().flatten() {
                text += &format!("  {row}\n");
            }
            if let Some(left_out) = table["rows_left_out"].as_u64() {
                text += &format!("  and {left_out} more\n");
            }
        }
        text
    }
}

/// The first line in which two golden texts differ, as `- expected` and `+ found`; none where they are equal.
pub fn difference(expected: &str, found: &str) -> Option<String> {
    let (mut left, mut right) = (expected.lines(), found.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (left, right) if left == right => {}
            (left, right) => {
                let line = |line: Option<&str>| line.unwrap_or("(nothing more)").to_owned();
                return Some(format!("line {number}\n- {}\n+ {}", line(left), line(right)));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n").as_deref(), Some("line 2\n- b\n+ c"));
        assert_eq!(difference("a\n", "a\nc\n").as_deref(), Some("line 2\n- (nothing more)\n+ c"));
    }
}
