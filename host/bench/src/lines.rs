//! The events that are sent: lines made ahead by `tally generate` and kept in memory, so that sending costs a copy and
//! nothing else.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::process;

/// The most that is kept in memory; a longer run sends the same lines several times.
const MAX_BYTES: u64 = 512 << 20;

/// Whole lines, one after another.
pub struct Lines {
    bytes: Vec<u8>,
    /// Where each line ends, its newline included.
    ends: Vec<usize>,
}

/// Some of them.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Whole lines.
    pub bytes: &'a [u8],
    /// How many.
    pub count: u64,
}

/// Which kind of lines the generator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// About 124 bytes.
    Usual,
    /// About 500 bytes, by `--wide`.
    Wide,
}

impl Shape {
    fn bytes(self) -> u64 {
        match self {
            Shape::Usual => 125,
            Shape::Wide => 510,
        }
    }
}

/// Lines, and how often they are sent to come to a number of events.
pub struct Stock {
    /// The lines.
    pub lines: Lines,
    /// How often all of them are sent.
    pub times: u64,
}

impl Stock {
    /// At least `events` lines by sending what fits into memory several times.
    pub fn generate(tally: &Path, shape: Shape, events: u64) -> Result<Self> {
        ensure!(events > 0, "a run needs at least one event");
        let times = (events * shape.bytes()).div_ceil(MAX_BYTES);
        Ok(Self { lines: generate(tally, shape, events.div_ceil(times))?, times })
    }

    /// How many events that is.
    pub fn events(&self) -> u64 {
        self.lines.all().count * self.times
    }
}

fn generate(tally: &Path, shape: Shape, count: u64) -> Result<Lines> {
    let mut command = process::tally(tally);
    command.args(["generate", "--events", &count.to_string()]);
    command.args((shape == Shape::Wide).then_some("--wide"));
    let mut child = process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut bytes = Vec::with_capacity((count * shape.bytes()) as usize);
    let mut out = child.stdout().context("the generator has no output")?;
    out.read_to_end(&mut bytes).context("cannot read what `tally generate` prints")?;
    ensure!(child.wait()?.success(), "`tally generate` failed");
    let lines = Lines::new(bytes);
    ensure!(lines.all().count == count, "`tally generate` made {} lines instead of {count}", lines.all().count);
    Ok(lines)
}

impl Lines {
    /// Of whole lines.
    pub fn new(bytes: Vec<u8>) -> Self {
        let ends = memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1).collect();
        Self { bytes, ends }
    }

    /// As the generator writes them: an action and a fetch of the homepage for each of so many users, over all posts.
    pub fn of_every_user(users: u32) -> Self {
        let mut text = String::with_capacity(users as usize * 220);
        for user in 0..users {
            let post = 10_000 + user % 10_000;
            let head = |kind: &str| {
                format!("{{\"type\":\"{kind}\",\"timestamp\":\"2026-01-27T10:00:00.000Z\",\"user_id\":\"u_{user:06}\"")
            };
            text += &head("action");
            text += &format!(",\"resource_type\":\"posts:{post}\",\"action\":\"view\"}}\n");
            text += &head("homepage_fetch");
            text += "}\n";
        }
        Self::new(text.into_bytes())
    }

    /// All of them.
    pub fn all(&self) -> Part<'_> {
        self.between(0, self.ends.len())
    }

    /// The first `count`, or all if there are fewer.
    pub fn first(&self, count: u64) -> Part<'_> {
        self.between(0, self.ends.len().min(count as usize))
    }

    /// Part `index` of `parts` that are of about the same size.
    pub fn part(&self, index: usize, parts: usize) -> Part<'_> {
        let border = |index: usize| self.ends.len() * index / parts;
        self.between(border(index), border(index + 1))
    }

    /// Where the first `count` lines end.
    pub fn end_of(&self, count: u64) -> usize {
        self.at(count as usize)
    }

    /// How many lines end within the first `bytes`.
    pub fn until(&self, bytes: usize) -> u64 {
        self.ends.partition_point(|end| *end <= bytes) as u64
    }

    /// From line `from` up to line `to`.
    pub fn between(&self, from: usize, to: usize) -> Part<'_> {
        Part { bytes: &self.bytes[self.at(from)..self.at(to)], count: (to - from) as u64 }
    }

    fn at(&self, line: usize) -> usize {
        if line == 0 { 0 } else { self.ends[line - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_lines_and_make_up_the_whole() {
        let lines = Lines::new(b"a\nbb\nccc\ndddd\neeeee\n".to_vec());
        let parts: Vec<Part> = (0..3).map(|index| lines.part(index, 3)).collect();
        assert_eq!(parts.iter().map(|part| part.bytes).collect::<Vec<_>>().concat(), lines.all().bytes);
        assert_eq!(parts.iter().map(|part| part.count).collect::<Vec<_>>(), [1, 2, 2]);
        assert!(parts.iter().all(|part| part.bytes.ends_with(b"\n")));
        assert_eq!(lines.first(2).bytes, b"a\nbb\n");
        assert_eq!(lines.first(9).count, 5);
        assert_eq!([0, 1, 5].map(|count| lines.end_of(count)), [0, 2, 20]);
        assert_eq!([0, 1, 2, 4, 5, 20].map(|bytes| lines.until(bytes)), [0, 0, 1, 1, 2, 5]);
    }
}
