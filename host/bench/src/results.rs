//! What came out: figures of each run, their medians and spread, as JSON, as a table, and beside an earlier result.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::machine;

/// Changes when a reader of earlier results would misread later ones.
const SCHEMA: u64 = 1;

/// The figures of one run, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Outcome(Vec<(&'static str, f64)>);

impl Outcome {
    /// Adds one. The end of its name says what it is measured in.
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }

    /// One that was added, otherwise not a number.
    pub fn of(&self, name: &str) -> f64 {
        self.0.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
    }

    /// All in one line.
    pub fn line(&self) -> String {
        let figures: Vec<String> = self.0.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        figures.join(", ")
    }
}

/// The result of a scenario.
#[derive(Clone, Debug)]
pub struct Report {
    scenario: &'static str,
    runs: Vec<Outcome>,
    machine: Value,
}

/// A figure over all runs.
struct Figure {
    name: &'static str,
    values: Vec<f64>,
    median: f64,
    min: f64,
    max: f64,
}

impl Report {
    /// Of these runs on this machine.
    pub fn new(scenario: &'static str, runs: Vec<Outcome>) -> Self {
        Self { scenario, runs, machine: machine::description() }
    }

    fn figures(&self) -> Vec<Figure> {
        let names = self.runs.first().map_or(&[][..], |run| &run.0[..]).iter().map(|(name, _)| *name);
        let figure = |name| {
            let of = |run: &Outcome| run.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            let values: Vec<f64> = self.runs.iter().filter_map(of).collect();
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
            Figure { name, median: (low + high) / 2.0, min: sorted[0], max: sorted[sorted.len() - 1], values }
        };
        names.map(figure).collect()
    }

    /// Medians by name, and under `spread` the least, the greatest and all values.
    pub fn json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("schema".into(), SCHEMA.into());
        fields.insert("tally".into(), env!("CARGO_PKG_VERSION").into());
        fields.insert("scenario".into(), self.scenario.into());
        fields.insert("runs".into(), self.runs.len().into());
        fields.insert("machine".into(), self.machine.clone());
        let mut spread = Map::new();
        for figure in self.figures() {
            fields.insert(figure.name.into(), number(figure.median));
            let values: Vec<Value> = figure.values.iter().map(|value| number(*value)).collect();
            let of_one = json!({"min": number(figure.min), "max": number(figure.max), "runs": values});
            spread.insert(figure.name.into(), of_one);
        }
        fields.insert("spread".into(), spread.into());
        fields.into()
    }

    /// For people; with what it was before, if `earlier` has this scenario.
    pub fn table(&self, earlier: Option<&Earlier>) -> String {
        let before = earlier.and_then(|earlier| earlier.of(self.scenario));
        let mut rows = vec![["", "median", "min", "max"].map(str::to_owned).to_vec()];
        if earlier.is_some() {
            rows[0].extend(["before", "min", "max", "change", ""].map(str::to_owned));
        }
        for figure in self.figures() {
            let mut row = vec![figure.name.to_owned(), short(figure.median), short(figure.min), short(figure.max)];
            if let Some(before) = before.and_then(|before| Before::of(before, figure.name)) {
                row.extend([short(before.median), short(before.min), short(before.max)]);
                row.extend(before.change(&figure));
            }
            rows.push(row);
        }
        let times = if self.runs.len() == 1 { "once" } else { &format!("{} runs", self.runs.len()) };
        let mut text = format!("{} ({times})\n", self.scenario);
        if earlier.is_some() && before.is_none() {
            text += "the earlier results do not have this scenario\n";
        }
        text += &aligned(&rows);
        let machine = |name: &str| self.machine[name].as_str().unwrap_or("?").to_owned();
        let gib = self.machine["memory_bytes"].as_u64().unwrap_or(0) >> 30;
        let _ = writeln!(
            text,
            "{}, {} cores, {gib} GiB, Linux {}",
            machine("cpu"),
            self.machine["cores"],
            machine("kernel")
        );
        text
    }
}

/// Results of an earlier time: one object of [`Report::json`] per line.
pub struct Earlier(Vec<Value>);

impl Earlier {
    /// Reads them.
    pub fn read(text: &str) -> Result<Self> {
        let results = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let results = results.collect::<Result<Vec<_>, _>>().context("these are not results of `--output json`")?;
        let known = results.iter().all(|result| result["schema"] == SCHEMA && result["spread"].is_object());
        anyhow::ensure!(
            known && !results.is_empty(),
            "these are not results of `--output json`, or not of this version"
        );
        Ok(Self(results))
    }

    fn of(&self, scenario: &str) -> Option<&Value> {
        self.0.iter().find(|result| result["scenario"] == scenario)
    }
}

struct Before {
    median: f64,
    min: f64,
    max: f64,
}

impl Before {
    fn of(result: &Value, name: &str) -> Option<Self> {
        let spread = &result["spread"][name];
        Some(Self { median: result[name].as_f64()?, min: spread["min"].as_f64()?, max: spread["max"].as_f64()? })
    }

    /// How much the median moved, and whether that is more than runs differ among themselves.
    fn change(&self, now: &Figure) -> [String; 2] {
        let apart = now.min > self.max || now.max < self.min;
        let percent = (now.median / self.median - 1.0) * 100.0;
        [format!("{percent:+.1} %"), if apart { "outside the spread" } else { "within the spread" }.to_owned()]
    }
}

fn number(value: f64) -> Value {
    // Whole numbers stay whole; 2^53 is where a float stops being exact.
    if value.fract() == 0.0 && value.abs() < 9e15 { (value as i64).into() } else { value.into() }
}

/// Three digits that matter, and digits in threes for large numbers.
fn short(value: f64) -> String {
    if value.abs() < 1000.0 {
        return if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") };
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// The first column to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rates: &[f64]) -> Report {
        let run = |rate: &f64| Outcome(vec![("events_per_second", *rate), ("rss_bytes", 4096.0)]);
        Report {
            machine: json!({"cpu": "x", "cores": 4}),
            ..Report::new("w1-one-core", rates.iter().map(run).collect())
        }
    }

    #[test]
    fn medians_and_spread_are_those_of_the_runs() {
        let json = report(&[3.5, 1.0, 2.0]).json();
        assert_eq!(
            [&json["events_per_second"], &json["rss_bytes"], &json["runs"]],
            [&json!(2), &json!(4096), &json!(3)]
        );
        assert_eq!(json["spread"]["events_per_second"], json!({"min": 1, "max": 3.5, "runs": [3.5, 1, 2]}));
        assert_eq!(report(&[1.0, 2.0]).json()["events_per_second"], 1.5);
    }

    #[test]
    fn a_change_is_held_against_the_spread() {
        let earlier = Earlier::read(&format!("{}\n", report(&[100.0, 110.0, 120.0]).json())).unwrap();
        let far = report(&[130.0, 132.0, 140.0]).table(Some(&earlier));
        assert!(far.contains("+20.0 %") && far.contains("outside the spread"), "{far}");
        let near = report(&[90.0, 115.0, 140.0]).table(Some(&earlier));
        assert!(near.contains("+4.5 %") && !near.contains("outside the spread"), "{near}");
        let other = Report { scenario: "idle", ..report(&[1.0]) }.table(Some(&earlier));
        assert!(other.contains("do not have this scenario"), "{other}");
        assert!(Earlier::read("{}").is_err() && Earlier::read("no").is_err() && Earlier::read("").is_err());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 1.5, 999.0, 1000.0, 1234567.8, -4321.0].map(short),
            ["0", "1.500", "999", "1,000", "1,234,568", "-4,321"]
        );
    }
}
