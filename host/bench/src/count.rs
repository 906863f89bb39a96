//! The independent count of what was sent: slow, exact, and sharing nothing with what is measured. Users and posts are kept
//! as text, so no hash can make two of them one.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::lines::Part;

/// The actions in the order of counts.
pub const ACTIONS: [&str; 6] = ["view", "play", "pause", "unmute", "carousel_left", "carousel_right"];
/// What each counts for the score.
const WEIGHTS: [i64; 6] = [1, 2, -1, 1, 0, 0];

/// The score of a post.
pub fn score(counts: &[u64; 6]) -> i64 {
    counts.iter().zip(WEIGHTS).map(|(count, weight)| *count as i64 * weight).sum()
}

/// The hot post: the highest score, then more views, then the smaller id.
pub fn hot<'a>(posts: impl Iterator<Item = (&'a str, &'a [u64; 6])>) -> Option<(&'a str, &'a [u64; 6])> {
    posts.min_by_key(|(post, counts)| (-score(counts), u64::MAX - counts[0], *post))
}

/// See the module. Every line must be an event that is accepted and applied.
#[derive(Default)]
pub struct Count {
    /// Events.
    pub events: u64,
    totals: [u64; 6],
    visitors: HashSet<Box<str>>,
    posts: HashMap<Box<str>, [u64; 6]>,
    fetches: u64,
    fetchers: HashSet<Box<str>>,
}

impl Count {
    /// Counts these lines as sent so many times.
    pub fn add(&mut self, lines: Part<'_>, times: u64) -> Result<()> {
        if times == 0 {
            return Ok(());
        }
        for line in lines.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.line(line, times).with_context(|| format!("counting {}", String::from_utf8_lossy(line)))?;
        }
        self.events += lines.count * times;
        Ok(())
    }

    fn line(&mut self, line: &[u8], times: u64) -> Result<()> {
        let event: Event = serde_json::from_slice(line)?;
        let user = event.user_id;
        match (&*event.kind, event.resource_type, event.action) {
            ("action", Some(resource), Some(action)) => {
                let post = resource.strip_prefix("posts:").context("not a post")?;
                let action = ACTIONS.iter().position(|known| *known == action).context("not an action")?;
                self.totals[action] += times;
                remember(&mut self.visitors, &user);
                if !self.posts.contains_key(post) {
                    self.posts.insert(post.into(), [0; 6]);
                }
                self.posts.get_mut(post).context("just inserted")?[action] += times;
            }
            ("homepage_fetch", ..) => {
                self.fetches += times;
                remember(&mut self.fetchers, &user);
            }
            _ => bail!("neither an action nor a fetch of the homepage"),
        }
        Ok(())
    }

    /// What the plugins' summaries must say.
    pub fn numbers(&self) -> Value {
        let hot = hot(self.posts.iter().map(|(post, counts)| (&**post, counts)));
        json!({
            "total_events": self.totals.iter().sum::<u64>(),
            "total_visitors": self.visitors.len(),
            "views": self.totals[0],
            "plays": self.totals[1],
            "pauses": self.totals[2],
            "unmutes": self.totals[3],
            "carousel_left": self.totals[4],
            "carousel_right": self.totals[5],
            "hot_post": hot.map(|(post, _)| format!("post_{post}")),
            "hot_post_score": hot.map(|(_, counts)| score(counts)),
            "homepage_fetches": self.fetches,
            "unique_visitors": self.fetchers.len(),
        })
    }

    /// The counts of one post, by action.
    pub fn post(&self, post: &str) -> Option<&[u64; 6]> {
        self.posts.get(post)
    }

    /// How many posts there are.
    pub fn posts(&self) -> usize {
        self.posts.len()
    }
}

#[derive(serde::Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    user_id: String,
    resource_type: Option<String>,
    action: Option<String>,
}

fn remember(set: &mut HashSet<Box<str>>, text: &str) {
    if !set.contains(text) {
        set.insert(text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Lines;

    #[test]
    fn lines_sent_twice_count_twice_and_their_users_once() {
        let text = concat!(
            r#"{"type":"action","user_id":"a","resource_type":"posts:7","action":"play"}"#,
            "\n",
            r#"{"type":"action","user_id":"a","resource_type":"posts:8","action":"view"}"#,
            "\n",
        );
        let mut count = Count::default();
        count.add(Lines::new(text.into()).all(), 2).unwrap();
        let numbers = count.numbers();
        assert_eq!(count.events, 4);
        assert_eq!([&numbers["total_events"], &numbers["total_visitors"]], [4, 1]);
        assert_eq!([&numbers["hot_post"], &numbers["hot_post_score"]], [&json!("post_7"), &json!(4)]);
        assert_eq!(count.post("8"), Some(&[2, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn a_tie_goes_to_more_views_and_then_to_the_smaller_id() {
        let (two_views, a_play) = ([2, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]);
        assert_eq!(hot([("1", &a_play), ("3", &two_views), ("2", &two_views)].into_iter()).unwrap().0, "2");
    }

    #[test]
    fn a_line_that_no_plugin_applies_is_an_error() {
        let line = Lines::new(b"{\"type\":\"other\",\"user_id\":\"a\"}\n".to_vec());
        assert!(Count::default().add(line.all(), 1).is_err());
    }
}
