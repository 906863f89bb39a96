//! How long what is watched, and by how many: a state, what is done to it on each event, and what it says.

use std::cmp::Reverse;

use tally_sdk::{Aggregator, Count, Distinct, Event, Groups, NoSettings, Question, Refusal, Report, State, Sum, Text};

/// One event, `{"type":"play", ...}`. The host reads these fields from its JSON; an event that lacks a required one is refused.
#[derive(Event)]
#[event(type = "play")]
pub struct Play<'a> {
    #[field("/user_id")]
    user: Text<'a>,
    #[field("/video_id")]
    video: Text<'a>,
    #[field("/seconds")]
    seconds: Option<i64>,
}

/// What is kept of each video.
#[derive(Clone, Copy, Debug, Default, State)]
struct Watched {
    plays: Count,
    seconds: Sum,
}

/// The state. Every part of it can be merged, and saves the same bytes for the same content; so it does, too.
#[derive(Debug, Default, State)]
pub struct WatchTime {
    plays: Count,
    seconds: Sum,
    viewers: Distinct,
    videos: Groups<Watched>,
}

impl Aggregator for WatchTime {
    const NAME: &'static str = "watch-time";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = env!("CARGO_PKG_DESCRIPTION");
    // Change it whenever fields of the state change.
    const STATE_VERSION: &'static str = "1";
    const REFUSALS: &'static [&'static str] = &["negative_seconds"];

    type Settings = NoSettings;
    type Event<'a> = Play<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn apply(&mut self, play: &Play<'_>) -> Result<(), Refusal> {
        let seconds = play.seconds.unwrap_or(0);
        // A refused event must change nothing: look first, then count.
        if seconds < 0 {
            return Err(Refusal("negative_seconds"));
        }
        self.plays.add(1);
        self.seconds.add(seconds);
        self.viewers.insert(play.user);
        let video = self.videos.entry(play.video);
        video.plays.add(1);
        video.seconds.add(seconds);
        Ok(())
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        report
            .summary()
            .counter("plays", [self.plays])
            .counter("seconds", [self.seconds])
            .gauge("viewers", [self.viewers.len()]);
        if question.wants("videos") {
            // Most important rows first, and no two rows equal in that order.
            let page =
                question.page(self.videos.iter(), |a, b| (Reverse(a.1.seconds), a.0).cmp(&(Reverse(b.1.seconds), b.0)));
            report
                .table("videos", page.left_out)
                .key("video", page.rows.iter().map(|(video, _)| *video))
                .counter("plays", page.rows.iter().map(|(_, watched)| watched.plays))
                .counter("seconds", page.rows.iter().map(|(_, watched)| watched.seconds));
        }
        Ok(())
    }
}

tally_sdk::export!(WatchTime);

#[cfg(test)]
mod tests {
    use super::*;
    use tally_sdk::testing::{Harness, check_laws};

    fn lines() -> Vec<String> {
        let play = |user: &str, video: &str, seconds: i64| {
            format!(r#"{{"type":"play","user_id":"{user}","video_id":"{video}","seconds":{seconds}}}"#)
        };
        vec![play("ada", "a", 30), play("bob", "b", 50), play("ada", "a", 30), play("bob", "b", -1)]
    }

    #[test]
    fn the_video_watched_longest_comes_first() {
        let mut harness = Harness::<WatchTime>::new("{}");
        assert_eq!(harness.apply(&lines()), [(3, "negative_seconds".to_owned())]);
        assert_eq!([harness.summary("seconds"), harness.summary("viewers")], ["110", "2"]);
        assert_eq!(harness.table("videos", 0, 1), (vec![vec!["a".into(), "2".into(), "60".into()]], 1));
    }

    #[test]
    fn the_laws_hold() {
        check_laws::<WatchTime>("{}", &lines());
    }
}
