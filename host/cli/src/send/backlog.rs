//! Lines that were read but are not known to be durable: what is sent again after a lost connection. Pure.
//!
//! Positions are lines of the stream: line `n` is the one with `n` lines before it.

use std::collections::VecDeque;

use super::source::{count_lines, nth_line};

/// See the module.
#[derive(Debug, Default)]
pub struct Backlog {
    blocks: VecDeque<Block>,
    bytes: usize,
    /// Line that the next block begins with.
    end: u64,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Block {
    /// Whole lines.
    lines: Vec<u8>,
    first: u64,
    end: u64,
}

impl Backlog {
    /// Line after the last one read.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// First line that can still be sent.
    pub fn begin(&self) -> u64 {
        self.blocks.front().map_or(self.end, |block| block.first)
    }

    /// An empty buffer for the next block, with the room of an old one.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Appends a block of whole lines.
    pub fn push(&mut self, lines: Vec<u8>) {
        let first = self.end;
        self.end += count_lines(&lines);
        self.bytes += lines.len();
        let end = self.end;
        self.blocks.push_back(Block { lines, first, end });
    }

    /// Goes on at line `end` without having the lines before: the daemon has them already.
    pub fn skip_to(&mut self, end: u64) {
        assert!(end >= self.end, "the backlog cannot go back");
        self.release(end);
        self.end = end;
    }

    /// Forgets the blocks that end at or before `durable`.
    pub fn release(&mut self, durable: u64) {
        while let Some(block) = self.blocks.front().filter(|block| block.end <= durable) {
            self.bytes -= block.lines.len();
            let mut lines = self.blocks.pop_front().map(|block| block.lines).unwrap_or_default();
            lines.clear();
            if self.spare.len() < 8 {
                self.spare.push(lines);
            }
        }
    }

    /// The lines from `line` to the end of its block, and the line after them; `None` at the end.
    pub fn from(&self, line: u64) -> Option<(&[u8], u64)> {
        let index = self.blocks.partition_point(|block| block.end <= line);
        let block = self.blocks.get(index)?;
        let begin = nth_line(&block.lines, line.checked_sub(block.first)?)?;
        Some((&block.lines[begin..], block.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog() -> Backlog {
        let mut backlog = Backlog::default();
        backlog.push(b"0\n1\n2\n".to_vec());
        backlog.push(b"3\n".to_vec());
        backlog.push(b"\n5\n".to_vec());
        backlog
    }

    fn rest(backlog: &Backlog, mut line: u64) -> String {
        let mut text = Vec::new();
        while let Some((lines, next)) = backlog.from(line) {
            text.extend_from_slice(lines);
            line = next;
        }
        assert_eq!(line, backlog.end());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn any_line_held_can_be_sent_again() {
        let all = ["0\n", "1\n", "2\n", "3\n", "\n", "5\n"];
        for line in 0..=6 {
            assert_eq!(rest(&backlog(), line), all[line as usize..].concat());
        }
    }

    #[test]
    fn only_whole_durable_blocks_are_released() {
        let mut backlog = backlog();
        let state = |backlog: &Backlog| (backlog.begin(), backlog.bytes());
        backlog.release(2);
        assert_eq!(state(&backlog), (0, 11));
        backlog.release(3);
        assert_eq!(state(&backlog), (3, 5));
        assert_eq!(backlog.from(2), None);
        assert_eq!(rest(&backlog, 4), "\n5\n");
        backlog.release(6);
        assert_eq!(state(&backlog), (6, 0));
        assert_eq!(backlog.from(6), None);
    }

    #[test]
    fn skipping_ahead_leaves_nothing_to_send() {
        let mut backlog = backlog();
        backlog.skip_to(100);
        assert_eq!((backlog.begin(), backlog.end(), backlog.bytes()), (100, 100, 0));
        backlog.push(b"100\n".to_vec());
        assert_eq!(rest(&backlog, 100), "100\n");
    }
}
