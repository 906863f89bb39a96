//! One pass over a line: checks all of it and notes where the values are that the plan wants. Copies no value.
//!
//! Producers write the same keys in the same order most of the time. So for each object that has wanted keys the walk
//! remembers, by position, the key it met last and what that meant; a key that is met again there costs a comparison of
//! a few words, without looking for its end or looking it up.

use crate::json::{self, Fault, Scan, What, byte, colon, fault, skip_space};
use crate::shapes::{Met, Shapes};
use crate::trie::{NONE, Node, ROOT, Trie};

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// Nothing, or null.
    Absent,
    /// A string without escapes; the span is its inside.
    Plain,
    /// A string with escapes; the span is its inside, raw.
    Escaped,
    Number,
    True,
    False,
    Object,
    Array,
}

/// A value found in a line, by its place in the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The line it was found in; slots of earlier lines hold nothing.
    pub(crate) line: u32,
    pub(crate) class: Class,
}

const EMPTY: Slot = Slot { start: 0, end: 0, line: 0, class: Class::Absent };

impl Slot {
    /// The value's bytes: a string's inside, anything else whole.
    #[inline(always)]
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// The value's bytes as JSON: a string with its quotes.
    pub(crate) fn raw(self, bytes: &[u8]) -> &[u8] {
        let quotes = usize::from(matches!(self.class, Class::Plain | Class::Escaped));
        &bytes[self.start as usize - quotes..self.end as usize + quotes]
    }
}

/// Words that a remembered key may have.
const WORDS: usize = 4;
/// Keys remembered per object.
const POSITIONS: usize = 64;

/// A key met before at some position of an object, with its quotes.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    words: [u64; WORDS],
    /// Of the last word that counts.
    mask: u64,
    bytes: u8,
    /// The node it leads to, or [`NONE`].
    child: u32,
}

impl Remembered {
    /// The key at `key` of `bytes`, if it is short enough.
    fn new(key: &[u8], child: u32) -> Option<Self> {
        let mut padded = [0; WORDS * 8];
        padded.get_mut(..key.len())?.copy_from_slice(key);
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(padded.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        let mask = u64::MAX >> (8 * ((8 - key.len() % 8) % 8));
        Some(Self { words, mask, bytes: key.len() as u8, child })
    }

    /// Whether this key stands at `at`. Near the end of the bytes it says no.
    #[inline(always)]
    fn stands_at(&self, bytes: &[u8], at: usize) -> bool {
        let last = usize::from(self.bytes - 1) / 8;
        for position in 0..WORDS {
            let Some(word) = json::word(bytes, at + position * 8) else {
                return false;
            };
            let difference = word ^ self.words[position];
            if position == last {
                return difference & self.mask == 0;
            }
            if difference != 0 {
                return false;
            }
        }
        false
    }
}

/// The state of walking lines: what was found in the current one, and what earlier ones taught.
#[derive(Debug)]
pub(crate) struct Walk {
    slots: Vec<Slot>,
    line: u32,
    depth_limit: u32,
    /// By node, then by position in the object.
    remembered: Vec<Vec<Remembered>>,
    key: Vec<u8>,
    shapes: Shapes,
}

impl Walk {
    pub(crate) fn new(trie: &Trie, depth_limit: u32) -> Self {
        Self {
            slots: vec![EMPTY; trie.slots],
            line: 0,
            depth_limit,
            remembered: vec![Vec::new(); trie.nodes.len()],
            key: Vec::new(),
            shapes: Shapes::new(),
        }
    }

    /// What the current line has in a slot, and its class.
    #[inline(always)]
    pub(crate) fn slot(&self, slot: usize) -> (Class, Slot) {
        let found = self.slots[slot];
        (if found.line == self.line { found.class } else { Class::Absent }, found)
    }

    /// The shapes of lines walked before.
    #[inline(always)]
    pub(crate) fn shapes(&mut self) -> &mut Shapes {
        &mut self.shapes
    }

    /// Notes what the line holds that was just met by its shape, as [`Walk::line`] would.
    pub(crate) fn put_met(&mut self, met: &Met, bytes: &[u8]) {
        self.next_line();
        self.shapes.put(met, bytes, self.line, &mut self.slots);
    }

    /// Learns the shape of the line that was just walked and is valid.
    #[inline(never)]
    pub(crate) fn learn(&mut self, bytes: &[u8], start: usize, newline: usize) {
        let found = (0..).zip(&self.slots).filter(|(_, slot)| slot.line == self.line);
        self.shapes.learn(bytes, start, newline, found.map(|(index, &slot)| (index, slot)));
    }

    /// Walks the line that has its first byte that is no white space at `at`. Returns the index of its newline (or the
    /// length of the bytes).
    #[inline(never)]
    pub(crate) fn line(&mut self, trie: &Trie, bytes: &[u8], at: usize) -> Scan<usize> {
        self.next_line();
        if byte(bytes, at) != b'{' {
            return self.no_object(bytes, at);
        }
        let root = &trie.nodes[ROOT];
        let end = self.object(trie, ROOT, bytes, at, 1)?;
        if root.slot != NONE {
            self.put(root, at, end, Class::Object);
        }
        line_end(bytes, end)
    }

    fn next_line(&mut self) {
        self.line = self.line.wrapping_add(1);
        if self.line == 0 {
            self.slots.fill(EMPTY);
            self.line = 1;
        }
    }

    /// Some other value, or no JSON at all.
    #[cold]
    fn no_object(&self, bytes: &[u8], at: usize) -> Scan<usize> {
        let end = json::skip_value(bytes, at, 0, self.depth_limit)?;
        line_end(bytes, end)?;
        fault(at, What::NotAnObject)
    }

    /// Past the object that opens at `at`, as the `depth`th one. Recursion ends with the trie, which is shallow.
    fn object(&mut self, trie: &Trie, node: usize, bytes: &[u8], at: usize, depth: u32) -> Scan<usize> {
        let mut at = skip_space(bytes, at + 1);
        if byte(bytes, at) == b'}' {
            return Ok(at + 1);
        }
        let mut position = 0;
        loop {
            let (child, after) = match self.remembered[node].get(position) {
                Some(known) if known.stands_at(bytes, at) => (known.child, at + usize::from(known.bytes)),
                _ => self.key(trie, node, position, bytes, at)?,
            };
            position += 1;
            at = colon(bytes, after)?;
            at = match trie.nodes.get(child as usize) {
                Some(wanted) => self.value(trie, wanted, child as usize, bytes, at, depth)?,
                None => json::skip_value(bytes, at, depth, self.depth_limit)?,
            };
            at = skip_space(bytes, at);
            match byte(bytes, at) {
                b',' => at = skip_space(bytes, at + 1),
                b'}' => return Ok(at + 1),
                _ => return fault(at, What::CommaOrBrace),
            }
        }
    }

    /// The node that the key at `at` leads to, and what is behind the key.
    #[inline(never)]
    fn key(&mut self, trie: &Trie, node: usize, position: usize, bytes: &[u8], at: usize) -> Scan<(u32, usize)> {
        if byte(bytes, at) != b'"' {
            return fault(at, What::Key);
        }
        let end = json::string(bytes, at + 1)?;
        let inside = &bytes[at + 1..end.quote];
        let node_plan = &trie.nodes[node];
        let child = if end.escaped {
            self.key.clear();
            json::unescape(inside, &mut self.key);
            node_plan.by_key(&self.key)
        } else {
            node_plan.by_key(inside)
        };
        if let Some(new) = Remembered::new(&bytes[at..=end.quote], child) {
            self.remember(node, position, new);
        }
        Ok((child, end.quote + 1))
    }

    fn remember(&mut self, node: usize, position: usize, key: Remembered) {
        let known = &mut self.remembered[node];
        if let Some(place) = known.get_mut(position) {
            *place = key;
        } else if position == known.len() && position < POSITIONS {
            known.push(key);
        }
    }

    /// Past the wanted value at `at`, inside of `depth` containers.
    #[inline(always)]
    fn value(&mut self, trie: &Trie, node: &Node, index: usize, bytes: &[u8], at: usize, depth: u32) -> Scan<usize> {
        if node.is_inner() {
            return self.inner_value(trie, node, index, bytes, at, depth);
        }
        match byte(bytes, at) {
            b'"' => {
                let end = json::string(bytes, at + 1)?;
                self.put(node, at + 1, end.quote, if end.escaped { Class::Escaped } else { Class::Plain });
                Ok(end.quote + 1)
            }
            b'-' | b'0'..=b'9' => {
                let end = json::number(bytes, at)?;
                self.put(node, at, end, Class::Number);
                Ok(end)
            }
            _ => self.other_value(node, bytes, at, depth),
        }
    }

    #[inline(never)]
    fn other_value(&mut self, node: &Node, bytes: &[u8], at: usize, depth: u32) -> Scan<usize> {
        let end = json::skip_value(bytes, at, depth, self.depth_limit)?;
        let class = match byte(bytes, at) {
            b't' => Class::True,
            b'f' => Class::False,
            b'{' => Class::Object,
            b'[' => Class::Array,
            _ => Class::Absent,
        };
        self.put(node, at, end, class);
        Ok(end)
    }

    /// A value in which something is wanted, and maybe itself.
    #[inline(never)]
    fn inner_value(
        &mut self,
        trie: &Trie,
        node: &Node,
        index: usize,
        bytes: &[u8],
        at: usize,
        depth: u32,
    ) -> Scan<usize> {
        // The last of several equal keys wins, with everything in it.
        self.slots[node.under.clone()].fill(EMPTY);
        let first = byte(bytes, at);
        let (end, class) = match first {
            b'{' | b'[' if depth >= self.depth_limit => return fault(at, What::TooDeep),
            b'{' => (self.object(trie, index, bytes, at, depth + 1)?, Class::Object),
            b'[' => (self.array(trie, node, bytes, at, depth + 1)?, Class::Array),
            b'"' => {
                let end = json::string(bytes, at + 1)?;
                self.put(node, at + 1, end.quote, if end.escaped { Class::Escaped } else { Class::Plain });
                return Ok(end.quote + 1);
            }
            b'-' | b'0'..=b'9' => (json::number(bytes, at)?, Class::Number),
            _ => return self.other_value(node, bytes, at, depth),
        };
        self.put(node, at, end, class);
        Ok(end)
    }

    fn array(&mut self, trie: &Trie, node: &Node, bytes: &[u8], at: usize, depth: u32) -> Scan<usize> {
        let mut at = skip_space(bytes, at + 1);
        if byte(bytes, at) == b']' {
            return Ok(at + 1);
        }
        for element in 0.. {
            let child = node.by_index(element);
            at = match trie.nodes.get(child as usize) {
                Some(wanted) => self.value(trie, wanted, child as usize, bytes, at, depth)?,
                None => json::skip_value(bytes, at, depth, self.depth_limit)?,
            };
            at = skip_space(bytes, at);
            match byte(bytes, at) {
                b',' => at = skip_space(bytes, at + 1),
                b']' => break,
                _ => return fault(at, What::CommaOrBracket),
            }
        }
        Ok(at + 1)
    }

    #[inline(always)]
    fn put(&mut self, node: &Node, start: usize, end: usize, class: Class) {
        if let Some(slot) = self.slots.get_mut(node.slot as usize) {
            *slot = Slot { start: start as u32, end: end as u32, line: self.line, class };
        }
    }
}

/// The end of a line on which only white space may follow.
#[inline(always)]
fn line_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    if byte(bytes, at) == b'\n' {
        return Ok(at);
    }
    let at = skip_space(bytes, at);
    if byte(bytes, at) == b'\n' { Ok(at) } else { fault(at, What::Trailing) }
}
