//! Edits of Wikipedia: how many, by page, channel and country, by robots and anonymous users. An example of a plugin as
//! somebody outside of Tally would write it.

use std::cmp::Reverse;

use tally_sdk::{Aggregator, Count, Distinct, Event, Groups, NoSettings, Question, Refusal, Report, State, Sum, Text};

/// One edit, as Wikipedia's change feed gives it.
#[derive(Event)]
#[event(type = "edit")]
pub struct Edit<'a> {
    #[field("/page")]
    page: Text<'a>,
    #[field("/channel")]
    channel: Text<'a>,
    #[field("/countryName")]
    country: Option<Text<'a>>,
    #[field("/user")]
    user: Text<'a>,
    #[field("/isRobot")]
    robot: Option<bool>,
    #[field("/isAnonymous")]
    anonymous: Option<bool>,
    #[field("/added")]
    added: Option<i64>,
    #[field("/deleted")]
    deleted: Option<i64>,
    #[field("/delta")]
    delta: Option<i64>,
}

/// What is counted of any group of edits.
#[derive(Clone, Copy, Debug, Default, State)]
struct Edits {
    edits: Count,
    added: Sum,
    deleted: Sum,
    delta: Sum,
}

impl Edits {
    fn add(&mut self, edit: &Edit<'_>) {
        self.edits.add(1);
        self.added.add(edit.added.unwrap_or(0));
        self.deleted.add(edit.deleted.unwrap_or(0));
        self.delta.add(edit.delta.unwrap_or(0));
    }
}

/// The state.
#[derive(Debug, Default, State)]
pub struct WikipediaEdits {
    all: Edits,
    robot_edits: Count,
    anonymous_edits: Count,
    users: Distinct,
    pages: Groups<Edits>,
    channels: Groups<Edits>,
    countries: Groups<Edits>,
}

impl Aggregator for WikipediaEdits {
    const NAME: &'static str = "wikipedia-edits";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Edits of Wikipedia by page, channel and country";
    const STATE_VERSION: &'static str = "1";

    type Settings = NoSettings;
    type Event<'a> = Edit<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn apply(&mut self, edit: &Edit<'_>) -> Result<(), Refusal> {
        self.all.add(edit);
        self.robot_edits.add(u64::from(edit.robot == Some(true)));
        self.anonymous_edits.add(u64::from(edit.anonymous == Some(true)));
        self.users.insert(edit.user);
        self.pages.entry(edit.page).add(edit);
        self.channels.entry(edit.channel).add(edit);
        if let Some(country) = edit.country {
            self.countries.entry(country).add(edit);
        }
        Ok(())
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        let share = |part: Count| (self.all.edits.0 > 0).then(|| part.0 as f64 / self.all.edits.0 as f64);
        report
            .summary()
            .counter("edits", [self.all.edits])
            .counter("added", [self.all.added])
            .counter("deleted", [self.all.deleted])
            .gauge("delta", [self.all.delta])
            .counter("unique_users", [self.users.len()])
            .counter("robot_edits", [self.robot_edits])
            .gauge("robot_share", [share(self.robot_edits)])
            .counter("anonymous_edits", [self.anonymous_edits])
            .gauge("anonymous_share", [share(self.anonymous_edits)]);
        by_edits("pages", "page", &self.pages, question, report);
        by_edits("channels", "channel", &self.channels, question, report);
        by_edits("countries", "country", &self.countries, question, report);
        Ok(())
    }
}

/// A table of groups, those with most edits first.
fn by_edits(table: &str, key: &str, groups: &Groups<Edits>, question: &Question, report: &mut Report) {
    if !question.wants(table) {
        return;
    }
    let page = question.page(groups.iter(), |a, b| (Reverse(a.1.edits), a.0).cmp(&(Reverse(b.1.edits), b.0)));
    report
        .table(table, page.left_out)
        .key(key, page.rows.iter().map(|(key, _)| *key))
        .counter("edits", page.rows.iter().map(|(_, edits)| edits.edits))
        .counter("added", page.rows.iter().map(|(_, edits)| edits.added))
        .counter("deleted", page.rows.iter().map(|(_, edits)| edits.deleted))
        .gauge("delta", page.rows.iter().map(|(_, edits)| edits.delta));
}

tally_sdk::export!(WikipediaEdits);

#[cfg(test)]
mod tests {
    use super::*;
    use tally_sdk::testing::{Harness, check_laws};

    fn lines() -> Vec<String> {
        let edit = |page: &str, country: &str, robot: bool, delta: i64| {
            format!(
                r#"{{"type":"edit","page":"{page}","channel":"en","countryName":{country},"user":"u","isRobot":{robot},"isAnonymous":false,"added":5,"deleted":1,"delta":{delta}}}"#
            )
        };
        vec![edit("b", "null", true, 4), edit("a", "\"Italy\"", false, -1), edit("b", "\"Italy\"", false, 0)]
    }

    #[test]
    fn counts_edits_by_page_and_country() {
        let mut harness = Harness::<WikipediaEdits>::new("{}");
        assert_eq!(harness.apply(&lines()), []);
        assert_eq!(harness.summary("edits"), "3");
        assert_eq!(harness.summary("delta"), "3");
        assert_eq!(harness.summary("unique_users"), "1");
        assert_eq!(
            harness.table("pages", 0, 1),
            (vec![vec!["b".into(), "2".into(), "10".into(), "2".into(), "4".into()]], 1)
        );
        assert_eq!(harness.table("countries", 0, 0).0.len(), 1);
    }

    #[test]
    fn the_laws_hold() {
        check_laws::<WikipediaEdits>("{}", &lines());
    }
}
