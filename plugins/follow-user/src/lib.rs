//! Who follows whom: follows in all and per day, unique followers and followed users. Pure logic; the SDK makes it a component. Knows
//! nothing of the host.
//!
//! Users are counted exactly up to 100,000 and estimated beyond, with the standard error beside them: see [`ApproxDistinct`]. Days are those of the
//! events, in UTC; the newest 366 with follows are kept apart.

use tally_sdk::{
    Aggregator, ApproxDistinct, Count, Event, NoSettings, PerDay, Question, Refusal, Report, State, Text, Timestamp,
};

/// One user follows another.
#[derive(Event)]
#[event(type = "follow_user")]
pub struct Follow<'a> {
    #[field(time)]
    at: Timestamp,
    #[field("/user_id")]
    user: Text<'a>,
    #[field("/resource_type", prefix = "users:", refuse = "resource")]
    followed: Text<'a>,
}

/// Users, of whom a million are counted in 16 KiB.
type Users = ApproxDistinct<100_000>;

/// The state.
#[derive(Debug, Default, State)]
pub struct FollowUser {
    follows: Count,
    followers: Users,
    followed: Users,
    days: PerDay<Count, 366>,
}

impl Aggregator for FollowUser {
    const NAME: &'static str = "follow-user";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Follows per day and in all, unique followers and followed users";
    const STATE_VERSION: &'static str = "1";
    const SHARD_KEY: Option<&'static str> = Some("/user_id");

    type Settings = NoSettings;
    type Event<'a> = Follow<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn apply(&mut self, event: &Follow<'_>) -> Result<(), Refusal> {
        self.follows.add(1);
        self.followers.insert(event.user);
        self.followed.insert(event.followed);
        self.days.entry(event.at).add(1);
        Ok(())
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        report
            .summary()
            .counter("follows", [self.follows])
            .counter("unique_followers", [self.followers.len()])
            .gauge("unique_followers_standard_error", [self.followers.standard_error()])
            .counter("unique_followed", [self.followed.len()])
            .gauge("unique_followed_standard_error", [self.followed.standard_error()])
            .counter("follows_on_older_days", [*self.days.older()]);
        if question.wants("days") {
            // The newest first.
            let page = question.page(self.days.iter(), |a, b| b.0.cmp(&a.0));
            report
                .table("days", page.left_out)
                .key("day", page.rows.iter().map(|(day, _)| *day))
                .counter("follows", page.rows.iter().map(|(_, follows)| **follows));
        }
        Ok(())
    }
}

tally_sdk::export!(FollowUser);

#[cfg(test)]
mod tests {
    use super::*;
    use tally_sdk::testing::{Harness, check_laws};

    fn follow(user: &str, whom: &str, day: u32) -> String {
        format!(
            r#"{{"type":"follow_user","timestamp":"2026-01-{day:02}T23:59:59Z","user_id":"{user}","resource_type":"{whom}"}}"#
        )
    }

    #[test]
    fn counts_follows_users_and_days() {
        let mut harness = Harness::<FollowUser>::new("{}");
        harness.apply(&[follow("a", "users:b", 2), follow("a", "users:c", 1), follow("b", "users:c", 2)]);
        assert_eq!(harness.summary("follows"), "3");
        assert_eq!(harness.summary("unique_followers"), "2");
        assert_eq!(harness.summary("unique_followed"), "2");
        assert_eq!(harness.summary("unique_followed_standard_error"), "0");
        let day = |day: i64, follows: &str| {
            vec![(1_767_225_600_000_000 + (day - 1) * 86_400_000_000).to_string(), follows.to_owned()]
        };
        assert_eq!(harness.table("days", 0, 0), (vec![day(2, "2"), day(1, "1")], 0));
        assert_eq!(harness.table("days", 0, 1), (vec![day(2, "2")], 1));
    }

    #[test]
    fn who_follows_no_user_is_refused() {
        let mut harness = Harness::<FollowUser>::new("{}");
        assert_eq!(harness.apply(&[follow("a", "posts:1", 1)]), [(0, "resource".to_owned())]);
        assert_eq!(harness.summary("follows"), "0");
    }

    #[test]
    fn the_laws_hold() {
        let follows =
            (0..40).map(|i| follow(&format!("u{}", i * 7 % 11), &format!("users:u{}", i * i % 13), 1 + i * 5 % 7));
        check_laws::<FollowUser>("{}", &follows.collect::<Vec<_>>());
    }
}
