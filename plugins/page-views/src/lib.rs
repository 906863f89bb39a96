//! What users do on a site: unique users, page views, and how often each type of activity came. Pure logic; the SDK makes it a
//! component. Knows nothing of the host.
//!
//! An activity is an event of type `user_activity` that says which one in `activity_type`, or, as the `activity` preset makes it
//! of a page view at `/activity`, an event of type `page_view`. Other types at `/activity` are event types of their own; for all of them a
//! preset with `type = "user_activity"` does.
//!
//! Users are counted by the 64-bit hash of their id: see [`Distinct`] for the odds of an error. Types of activities are whatever is sent,
//! so at most 1,000 are kept apart: see [`BottomK`].

use tally_sdk::{Aggregator, BottomK, Count, Distinct, Event, NoSettings, Question, Refusal, Report, State, Text};

const PAGE_VIEW: &str = "page_view";

/// A user does something.
#[derive(Event)]
#[event(type = "user_activity")]
pub struct UserActivity<'a> {
    #[field("/user_id")]
    user: Text<'a>,
    #[field("/activity_type")]
    activity: Text<'a>,
}

/// A user looks at a page.
#[derive(Event)]
#[event(type = "page_view")]
pub struct PageView<'a> {
    #[field("/user_id")]
    user: Text<'a>,
}

/// Either.
#[derive(Event)]
pub enum Activity<'a> {
    /// Some activity, a page view among them.
    Any(UserActivity<'a>),
    /// A page view.
    PageView(PageView<'a>),
}

/// The state.
#[derive(Debug, Default, State)]
pub struct PageViews {
    users: Distinct,
    page_views: Count,
    /// But for page views.
    activities: BottomK<Count, 1000>,
}

impl Aggregator for PageViews {
    const NAME: &'static str = "page-views";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Unique users, page views, and activities by type";
    const STATE_VERSION: &'static str = "1";
    const SHARD_KEY: Option<&'static str> = Some("/user_id");

    type Settings = NoSettings;
    type Event<'a> = Activity<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn apply(&mut self, event: &Activity<'_>) -> Result<(), Refusal> {
        let (user, other) = match event {
            Activity::Any(any) => (any.user, Some(any.activity).filter(|activity| *activity != *PAGE_VIEW)),
            Activity::PageView(view) => (view.user, None),
        };
        self.users.insert(user);
        match other {
            Some(activity) => self.activities.entry(activity).add(1),
            None => self.page_views.add(1),
        }
        Ok(())
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        report
            .summary()
            .counter("unique_users", [self.users.len()])
            .counter("page_view_count", [self.page_views])
            .counter("activities_of_other_types", [self.activities.other()]);
        if question.wants("activities") {
            let page_views = Some((PAGE_VIEW, &self.page_views)).filter(|(_, count)| count.0 > 0);
            // The most frequent first, then by name.
            let page = question.page(page_views.into_iter().chain(self.activities.iter()), |a, b| {
                b.1.cmp(a.1).then_with(|| a.0.cmp(b.0))
            });
            report
                .table("activities", page.left_out)
                .key("activity_type", page.rows.iter().map(|(activity, _)| *activity))
                .counter("count", page.rows.iter().map(|(_, count)| **count));
        }
        Ok(())
    }
}

tally_sdk::export!(PageViews);

#[cfg(test)]
mod tests {
    use super::*;
    use tally_sdk::testing::{Harness, check_laws};

    fn activity(user: &str, activity: &str) -> String {
        format!(r#"{{"type":"user_activity","user_id":"{user}","activity_type":"{activity}"}}"#)
    }

    fn page_view(user: &str) -> String {
        format!(r#"{{"type":"page_view","activity_type":"page_view","user_id":"{user}"}}"#)
    }

    #[test]
    fn counts_users_page_views_and_activities() {
        let mut harness = Harness::<PageViews>::new("{}");
        assert_eq!(harness.table("activities", 0, 0), (vec![], 0));
        harness.apply(&[activity("a", "page_view"), activity("b", "login"), page_view("a"), activity("c", "click")]);
        assert_eq!(harness.summary("unique_users"), "3");
        assert_eq!(harness.summary("page_view_count"), "2");
        let row = |activity: &str, count: &str| vec![activity.to_owned(), count.to_owned()];
        assert_eq!(harness.table("activities", 0, 2), (vec![row("page_view", "2"), row("click", "1")], 1));
        assert_eq!(harness.table("activities", 2, 0), (vec![row("login", "1")], 0));
    }

    #[test]
    fn page_views_are_exact_whatever_the_number_of_types() {
        let mut harness = Harness::<PageViews>::new("{}");
        let of_any_type: Vec<String> = (0..1500).map(|number| activity("a", &format!("type {number}"))).collect();
        harness.apply(&of_any_type);
        harness.apply(&[activity("a", "page_view"), page_view("b")]);
        assert_eq!(harness.summary("page_view_count"), "2");
        assert_eq!(harness.summary("activities_of_other_types"), "500");
        assert_eq!(harness.table("activities", 0, 0).0.len(), 1001);
    }

    #[test]
    fn an_activity_without_user_or_type_is_refused() {
        let mut harness = Harness::<PageViews>::new("{}");
        let lines = [r#"{"type":"user_activity","user_id":"a"}"#, r#"{"type":"page_view"}"#];
        let missing = |line: usize, field: &str| (line, format!("missing:/{field}"));
        assert_eq!(harness.apply(&lines), [missing(0, "activity_type"), missing(1, "user_id")]);
    }

    #[test]
    fn the_laws_hold() {
        let of = |i: u32| match i % 3 {
            0 => page_view(&format!("u{}", i % 7)),
            _ => activity(&format!("u{}", i * 5 % 11), ["page_view", "login", "click"][i as usize / 3 % 3]),
        };
        check_laws::<PageViews>("{}", &(0..40).map(of).collect::<Vec<_>>());
    }
}
