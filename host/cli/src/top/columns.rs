//! The columns of the table of aggregators: what each shows, and how it orders the rows.

use std::cmp::Ordering;

use super::sample::Aggregator;
use super::screen::Speed;
use crate::units::{average, grouped, percent, size};

/// What is known of one aggregator, by its name.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its name.
    pub name: &'a str,
    /// The newest sample.
    pub aggregator: &'a Aggregator,
    /// What moved since the one before.
    pub speed: Option<&'a Speed>,
}

impl Row<'_> {
    /// Time per event of late, nanoseconds; without an event of late, since the daemon started.
    fn nanos(&self) -> Option<f64> {
        self.speed.and_then(|speed| speed.nanos).or(self.aggregator.cost.nanos_per_event())
    }

    /// Instructions per event, in the same way.
    fn instructions(&self) -> Option<f64> {
        self.speed.and_then(|speed| speed.instructions).or(self.aggregator.cost.instructions_per_event())
    }

    /// What its state is, in a word.
    pub fn state(&self) -> &str {
        match self.aggregator.state.as_str() {
            "running" if !self.aggregator.complete => "incomplete",
            "running" if self.aggregator.replaying => "replaying",
            state => state,
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Name,
    State,
    Events,
    Behind,
    Nanos,
    Instructions,
    Budget,
    Memory,
    Saved,
    Refused,
    Age,
    Version,
}

impl Column {
    /// All of them; where there is little room, the last ones are not shown.
    pub const ALL: [Column; 12] = [
        Column::Name,
        Column::State,
        Column::Events,
        Column::Behind,
        Column::Nanos,
        Column::Instructions,
        Column::Budget,
        Column::Memory,
        Column::Saved,
        Column::Refused,
        Column::Age,
        Column::Version,
    ];

    /// Its header and its width.
    pub fn head(self) -> (&'static str, u16) {
        match self {
            Column::Name => ("aggregator", 20),
            Column::State => ("state", 12),
            Column::Events => ("events/s", 11),
            Column::Behind => ("behind", 11),
            Column::Nanos => ("ns/event", 9),
            Column::Instructions => ("ins/event", 10),
            Column::Budget => ("budget", 8),
            Column::Memory => ("memory", 11),
            Column::Saved => ("saved", 11),
            Column::Refused => ("refused", 10),
            Column::Age => ("age", 9),
            Column::Version => ("version", 10),
        }
    }

    /// What it shows of an aggregator.
    pub fn cell(self, row: &Row) -> String {
        let Row { name, aggregator, speed } = row;
        let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
        match self {
            Column::Name => (*name).to_string(),
            Column::State => row.state().to_string(),
            Column::Events => shown(speed.map(|speed| grouped(speed.events))),
            Column::Behind => grouped(aggregator.behind),
            Column::Nanos => shown(row.nanos().map(average)),
            Column::Instructions => shown(row.instructions().map(average)),
            Column::Budget => shown(aggregator.cost.budget.map(percent)),
            Column::Memory => shown(aggregator.memory.map(size)),
            Column::Saved => shown(aggregator.saved.map(size)),
            Column::Refused => grouped(aggregator.refusals()),
            Column::Age => shown(aggregator.age.map(|age| format!("{age:.1} s"))),
            Column::Version => aggregator.version.clone(),
        }
    }

    /// Text in its order, numbers with the largest first.
    pub fn order(self, one: &Row, other: &Row) -> Ordering {
        let text = |row: &Row| match self {
            Column::State => row.state().to_string(),
            Column::Version => row.aggregator.version.clone(),
            _ => row.name.to_string(),
        };
        match self.number(one).zip(self.number(other)) {
            Some((one, other)) => other.total_cmp(&one),
            None => text(one).cmp(&text(other)),
        }
    }

    /// What is unknown is less than anything; none where it shows no numbers.
    fn number(self, row: &Row) -> Option<f64> {
        let Row { aggregator, speed, .. } = row;
        let known = |number: Option<f64>| Some(number.unwrap_or(-1.0));
        let count = |count: Option<u64>| known(count.map(|count| count as f64));
        match self {
            Column::Name | Column::State | Column::Version => None,
            Column::Events => count(speed.map(|speed| speed.events)),
            Column::Behind => count(Some(aggregator.behind)),
            Column::Nanos => known(row.nanos()),
            Column::Instructions => known(row.instructions()),
            Column::Budget => known(aggregator.cost.budget),
            Column::Memory => count(aggregator.memory),
            Column::Saved => count(aggregator.saved),
            Column::Refused => count(Some(aggregator.refusals())),
            Column::Age => known(aggregator.age),
        }
    }
}
