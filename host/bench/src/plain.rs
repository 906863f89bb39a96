//! The plain baseline: what one would write by hand instead of running a daemon. One thread, the same socket and protocol,
//! serde_json into borrowed fields, hashbrown with its default hasher, and the numbers of `video-actions` and
//! `homepage-fetch`. No durability, no plugins, no questions while it runs.
//!
//! It is meant to be fast: large reads, no allocation per event, text checked to be UTF-8 once per read. Visitors are counted by
//! a 64-bit hash of their id, as the plugins do.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::count::{ACTIONS, hot, score};

/// What is read at once.
const READ: usize = 512 * 1024;

/// Serves one connection until it ends and prints the numbers.
pub fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    println!("ready");
    let (mut stream, _) = listener.accept()?;
    let mut plain = Plain::default();
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    let mut greeted = false;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            break;
        }
        filled += read;
        let Some(end) = memchr::memrchr(b'\n', &buffer[..filled]).map(|at| at + 1) else {
            if filled == buffer.len() {
                buffer.resize(buffer.len() * 2, 0);
            }
            continue;
        };
        let mut lines = &buffer[..end];
        if !greeted {
            lines = &lines[memchr::memchr(b'\n', lines).map_or(0, |at| at + 1)..];
            greeted = true;
        }
        plain.apply(lines);
        let Plain { accepted, rejected, .. } = plain;
        let durable = accepted + rejected;
        let answer =
            format!("{{\"durable\":{durable},\"sequence\":{accepted},\"rejected\":{rejected},\"rejects\":[]}}\n");
        stream.write_all(answer.as_bytes())?;
        buffer.copy_within(end..filled, 0);
        filled -= end;
    }
    println!("{}", plain.numbers());
    Ok(())
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
}

#[derive(Default)]
struct Plain {
    accepted: u64,
    rejected: u64,
    hasher: DefaultHashBuilder,
    totals: [u64; 6],
    visitors: HashSet<u64>,
    posts: HashMap<Box<str>, [u64; 6]>,
    fetches: u64,
    fetchers: HashSet<u64>,
}

impl Plain {
    /// Whole lines.
    fn apply(&mut self, lines: &[u8]) {
        match std::str::from_utf8(lines) {
            Ok(text) => {
                let mut from = 0;
                for end in memchr::memchr_iter(b'\n', lines) {
                    self.line(&text[from..end]);
                    from = end + 1;
                }
            }
            Err(_) => lines.split_inclusive(|byte| *byte == b'\n').for_each(|line| match std::str::from_utf8(line) {
                Ok(text) => self.line(text),
                Err(_) => self.rejected += 1,
            }),
        }
    }

    #[inline]
    fn line(&mut self, text: &str) {
        match serde_json::from_str::<Line>(text) {
            Ok(line) => {
                self.accepted += 1;
                self.event(&line);
            }
            Err(_) => self.rejected += 1,
        }
    }

    #[inline]
    fn event(&mut self, line: &Line) {
        match &*line.kind {
            "action" => {
                let (Some(user), Some(resource), Some(action)) = (&line.user_id, &line.resource_type, &line.action)
                else {
                    return;
                };
                let Some(post) = resource.strip_prefix("posts:") else { return };
                let Some(action) = ACTIONS.iter().position(|known| *known == &**action) else { return };
                self.totals[action] += 1;
                self.visitors.insert(self.hasher.hash_one(&**user));
                match self.posts.get_mut(post) {
                    Some(counts) => counts[action] += 1,
                    None => self.posts.entry(post.into()).or_default()[action] += 1,
                }
            }
            "homepage_fetch" => {
                let Some(user) = &line.user_id else { return };
                self.fetches += 1;
                self.fetchers.insert(self.hasher.hash_one(&**user));
            }
            _ => {}
        }
    }

    fn numbers(&self) -> Value {
        let posts = self.posts.iter().map(|(post, counts)| (&**post, counts));
        let hot = hot(posts);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Count;
    use crate::lines::Lines;

    #[test]
    fn it_comes_to_the_numbers_of_the_independent_count() {
        let text = concat!(
            r#"{"type":"action","user_id":"a","resource_type":"posts:1","action":"view"}"#,
            "\n",
            r#"{"type":"action","user_id":"b","resource_type":"posts:2","action":"play","more":{"x":["\u00e9"]}}"#,
            "\n",
            r#"{"type":"action","user_id":"b","resource_type":"posts:2","action":"pa\u0075se"}"#,
            "\n",
            r#"{"type":"homepage_fetch","user_id":"a"}"#,
            "\n",
        );
        let mut plain = Plain::default();
        plain.apply(text.as_bytes());
        let mut count = Count::default();
        count.add(Lines::new(text.into()).all(), 1).unwrap();
        assert_eq!(plain.numbers(), count.numbers());
        assert_eq!(plain.numbers()["hot_post"], "post_1");
        plain.apply(b"not json\n\xff\n");
        assert_eq!((plain.accepted, plain.rejected), (4, 2));
    }
}
