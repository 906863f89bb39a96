//! The scenario of growth: what an event costs with more users in the state, with more aggregators, and after a long history.
//!
//! Users are drawn evenly and each is known before the clock starts, so that state has the size it is said to have, and an
//! event finds its user as cold as can be. All costs include the flushes and what is merged there.

use std::fmt::Write;
use std::fs;
use std::ops::Range;

use anyhow::Result;

use crate::client::Connection;
use crate::count::{ACTIONS, Count};
use crate::daemon::Daemon;
use crate::lines::Lines;
use crate::machine::{self, Places};
use crate::results::Outcome;
use crate::stage::Stage;
use crate::{Options, check, say};

/// Events of each measurement, unless the caller says otherwise.
const EVENTS: u64 = 4_000_000;
/// How many users, and what the cost of an event is called then.
const USERS: [(u64, &str); 5] = [
    (1_000, "users_1e3_cpu_s_per_million"),
    (10_000, "users_1e4_cpu_s_per_million"),
    (100_000, "users_1e5_cpu_s_per_million"),
    (1_000_000, "users_1e6_cpu_s_per_million"),
    (10_000_000, "users_1e7_cpu_s_per_million"),
];
/// Users where their number is not what is looked at, unless the caller wants fewer.
const SOME_USERS: u64 = 100_000;
/// Room for ten million users in one instance, whatever the default is.
const ROOMY: [&str; 2] = ["--set", "plugin.memory=4GiB"];
/// How many aggregators of the usual kind, how many that take no part, and what the cost of an event is called then.
const AGGREGATORS: [(usize, usize, &str); 5] = [
    (1, 1, "aggregators_1_cpu_s_per_million"),
    (1, 7, "not_subscribed_7_cpu_s_per_million"),
    (2, 1, "aggregators_2_cpu_s_per_million"),
    (4, 1, "aggregators_4_cpu_s_per_million"),
    (8, 1, "aggregators_8_cpu_s_per_million"),
];
/// How many times as many events as one measurement has make up a history.
const HISTORY: u64 = 10;
/// Lines that are made at once.
const AT_ONCE: u64 = 1_000_000;

/// See the module.
pub fn measure(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let growth = Growth {
        stage: &stage,
        places: Places::one_core()?,
        events: options.events.unwrap_or(EVENTS),
        most_users: options.users.map_or(u64::MAX, u64::from),
    };
    stage.runs(options, |outcome| {
        growth.users(outcome)?;
        growth.aggregators(outcome)?;
        growth.history(outcome)
    })
}

struct Growth<'a> {
    stage: &'a Stage,
    places: Places,
    events: u64,
    most_users: u64,
}

impl Growth<'_> {
    fn users(&self, outcome: &mut Outcome) -> Result<()> {
        for (users, name) in USERS.iter().filter(|(users, _)| *users <= self.most_users.max(USERS[0].0)) {
            let daemon = self.stage.daemon(&self.places.server, &ROOMY)?.start()?;
            let mut sent = Sent::with_users(*users, &daemon, &self.places)?;
            note(outcome, name, sent.cost(self.events)?);
            check::daemon(&daemon, &sent.count)?;
            if *users == USERS[USERS.len() - 1].0 {
                outcome.add("users_1e7_rss_bytes", daemon.process.peak_resident_bytes()? as f64);
                outcome.add("users_1e7_over_1e3", outcome.of(name) / outcome.of(USERS[0].1));
            }
            daemon.stop()?;
        }
        Ok(())
    }

    fn aggregators(&self, outcome: &mut Outcome) -> Result<()> {
        let config = self.stage.folder().join("growth.toml");
        for (subscribed, others, name) in AGGREGATORS {
            let copies = Copies { subscribed, others };
            fs::write(&config, copies.config())?;
            let arguments = ["--config", &config.display().to_string()];
            let daemon = self.stage.daemon(&self.places.server, &arguments)?.start()?;
            let mut sent = Sent::with_users(self.some_users(), &daemon, &self.places)?;
            note(outcome, name, sent.cost(self.events)?);
            check::daemon(&daemon, &sent.count)?;
            copies.names().try_for_each(|copy| check::copy(&daemon, &copy, &sent.count))?;
            daemon.stop()?;
        }
        let [one, idle, _, four, eight] = AGGREGATORS.map(|(_, _, name)| outcome.of(name));
        let (first, later) = ((four - one) / 3.0, (eight - four) / 4.0);
        outcome.add("further_aggregator_cpu_s_per_million", (eight - one) / 7.0);
        outcome.add("aggregators_5_to_8_over_2_to_4", later / first);
        outcome.add("not_subscribed_7_over_1", idle / one);
        Ok(())
    }

    fn history(&self, outcome: &mut Outcome) -> Result<()> {
        let daemon = self.stage.daemon(&self.places.server, &[])?.start()?;
        let mut sent = Sent::with_users(self.some_users(), &daemon, &self.places)?;
        let mut costs = Vec::new();
        for _ in 0..HISTORY {
            costs.push(sent.cost(self.events)?);
        }
        check::daemon(&daemon, &sent.count)?;
        note(outcome, "history_first_cpu_s_per_million", costs[0]);
        note(outcome, "history_last_cpu_s_per_million", costs[costs.len() - 1]);
        outcome.add("history_last_over_first", costs[costs.len() - 1] / costs[0]);
        outcome.add("history_events", sent.count.events as f64);
        daemon.stop()
    }

    fn some_users(&self) -> u64 {
        SOME_USERS.min(self.most_users)
    }
}

/// Adds a figure and says it: a run takes minutes.
fn note(outcome: &mut Outcome, name: &'static str, value: f64) {
    say(format!("{name} {value:.3}"));
    outcome.add(name, value);
}

/// What one daemon was sent.
struct Sent<'a> {
    users: u64,
    daemon: &'a Daemon,
    places: &'a Places,
    connection: Connection,
    count: Count,
    drawn: u64,
}

impl<'a> Sent<'a> {
    /// Each of so many users once.
    fn with_users(users: u64, daemon: &'a Daemon, places: &'a Places) -> Result<Self> {
        let connection = Connection::open(&daemon.events)?;
        let mut sent = Self { users, daemon, places, connection, count: Count::default(), drawn: 0 };
        sent.send(users, |number| number)?;
        sent.daemon.settled()?;
        Ok(sent)
    }

    /// Processor seconds for a million of so many events.
    fn cost(&mut self, events: u64) -> Result<f64> {
        let before = self.daemon.process.cpu_seconds()?;
        let (first, users) = (self.drawn, self.users);
        self.drawn += events;
        self.send(events, |number| mixed(first + number) % users)?;
        self.daemon.settled()?;
        Ok((self.daemon.process.cpu_seconds()? - before) / events as f64 * 1e6)
    }

    /// Sends events, of which each is of the user that `user` makes of its number, until all are applied.
    fn send(&mut self, events: u64, user: impl Fn(u64) -> u64) -> Result<()> {
        for from in (0..events).step_by(AT_ONCE as usize) {
            let lines = lines(from..events.min(from + AT_ONCE), &user);
            self.count.add(lines.all(), 1)?;
            machine::on(&self.places.client, || self.connection.flood(lines.all(), 1))?;
        }
        self.daemon.applied(self.count.events)?;
        Ok(())
    }
}

/// One action each, as the generator writes them but for the longer ids of users.
fn lines(numbers: Range<u64>, user: impl Fn(u64) -> u64) -> Lines {
    let mut text = String::with_capacity((numbers.end - numbers.start) as usize * 128);
    for number in numbers {
        let bits = mixed(!number);
        let (user, post, action) =
            (user(number), 10_000 + bits % 10_000, ACTIONS[(bits >> 32) as usize % ACTIONS.len()]);
        let written = writeln!(
            text,
            "{{\"type\":\"action\",\"timestamp\":\"2026-01-27T10:00:00.000Z\",\"user_id\":\"u_{user:08}\",\"resource_type\":\"posts:{post}\",\"action\":\"{action}\"}}"
        );
        debug_assert!(written.is_ok(), "writing into memory does not fail");
    }
    Lines::new(text.into_bytes())
}

/// A number that looks like any other; the finalizer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Aggregators beside `video-actions` and `homepage-fetch`, of which the latter asks for nothing that is sent here.
struct Copies {
    /// Aggregators that ask for what is sent, `video-actions` among them.
    subscribed: usize,
    /// Aggregators that do not, `homepage-fetch` among them.
    others: usize,
}

impl Copies {
    fn config(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, plugin: &str, settings: &str| {
            text += &format!("[[aggregator]]\nname = \"{name}\"\nplugin = \"{plugin}\"\n{settings}");
        };
        for plugin in ["video-actions", "homepage-fetch"] {
            add(plugin, plugin, "");
        }
        for copy in 1..self.subscribed {
            add(&subscribed(copy), "video-actions", &format!("settings = {{ weights = {{ view = {copy} }} }}\n"));
        }
        (1..self.others).for_each(|copy| add(&other(copy), "homepage-fetch", ""));
        text
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (1..self.subscribed).map(subscribed).chain((1..self.others).map(other))
    }
}

fn subscribed(copy: usize) -> String {
    format!("video-actions-{copy}")
}

fn other(copy: usize) -> String {
    format!("homepage-fetch-{copy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_the_users_they_should_be_of() {
        let mut count = Count::default();
        count.add(lines(0..5_000, |number| number % 70).all(), 1).unwrap();
        let numbers = count.numbers();
        assert_eq!(
            [&numbers["total_events"], &numbers["total_visitors"], &numbers["homepage_fetches"]],
            [5_000, 70, 0]
        );
        let whole = lines(0..9, |number| number);
        assert!(whole.all().bytes.ends_with(lines(4..9, |number| number).all().bytes), "pieces make up the whole");
    }

    #[test]
    fn users_are_drawn_evenly() {
        let mut drawn = [0u32; 10];
        (0..100_000).for_each(|number| drawn[(mixed(number) % 10) as usize] += 1);
        assert!(drawn.iter().all(|times| (9_500..10_500).contains(times)), "{drawn:?}");
    }

    #[test]
    fn every_copy_is_configured_under_a_name_of_its_own() {
        let copies = Copies { subscribed: 4, others: 3 };
        let config = copies.config();
        let names: std::collections::BTreeSet<String> = copies.names().collect();
        assert_eq!(names.len(), 5);
        assert!(names.iter().all(|name| config.contains(&format!("name = \"{name}\"\n"))), "{config}");
        assert_eq!(config.matches("[[aggregator]]").count(), 7);
    }
}
