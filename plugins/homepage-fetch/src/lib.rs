//! Fetches of the homepage and who fetched it. Pure logic; the SDK makes it a component. Knows nothing of the host.
//!
//! Visitors are counted by the 64-bit hash of their id: see `video-actions` for the odds of an error.

use tally_sdk::{Aggregator, Count, Distinct, Event, NoSettings, Question, Refusal, Report, State, Text};

/// One fetch.
#[derive(Event)]
#[event(type = "homepage_fetch")]
pub struct Fetch<'a> {
    #[field("/user_id")]
    user: Text<'a>,
}

/// The state.
#[derive(Debug, Default, State)]
pub struct HomepageFetch {
    fetches: Count,
    visitors: Distinct,
}

impl Aggregator for HomepageFetch {
    const NAME: &'static str = "homepage-fetch";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Homepage fetches and unique visitors";
    const STATE_VERSION: &'static str = "1";
    const SHARD_KEY: Option<&'static str> = Some("/user_id");

    type Settings = NoSettings;
    type Event<'a> = Fetch<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn apply(&mut self, event: &Fetch<'_>) -> Result<(), Refusal> {
        self.fetches.add(1);
        self.visitors.insert(event.user);
        Ok(())
    }

    fn report(&self, _: &Question, report: &mut Report) -> Result<(), String> {
        report.summary().counter("homepage_fetches", [self.fetches]).counter("unique_visitors", [self.visitors.len()]);
        Ok(())
    }
}

tally_sdk::export!(HomepageFetch);

#[cfg(test)]
mod tests {
    use super::*;
    use tally_sdk::testing::{Harness, check_laws};

    #[test]
    fn counts_fetches_and_visitors() {
        let mut harness = Harness::<HomepageFetch>::new("{}");
        harness.apply(&[r#"{"type":"homepage_fetch","user_id":"a"}"#, r#"{"type":"homepage_fetch","user_id":"b"}"#]);
        harness.apply(&[r#"{"type":"homepage_fetch","user_id":"a"}"#]);
        assert_eq!(harness.summary("homepage_fetches"), "3");
        assert_eq!(harness.summary("unique_visitors"), "2");
    }

    #[test]
    fn the_laws_hold() {
        let events: Vec<String> =
            (0..60).map(|i| format!(r#"{{"type":"homepage_fetch","user_id":"u{}"}}"#, i * 7 % 23)).collect();
        check_laws::<HomepageFetch>("{}", &events);
    }
}
