//! The shapes that lines had: a line of a shape met before is checked and taken apart without being parsed.
//!
//! A shape is a line's text without its values: *literals* (brackets, keys, colons, commas and white space as they were
//! written, up to the newline) with a text, a number or a word (`true`, `false`, `null`) after each but the last. A line
//! whose literals are, byte by byte, those of a valid line, with valid values of the same sorts in between, is as valid,
//! and its keys are in the same places. So for each shape it is known once and for all where the wanted values are.
//!
//! Shapes are a tree: lines that begin alike share literals, and where they differ, what was learnt last is tried first. What
//! stands in strings is never part of a shape, keys excepted. Knows neither tries nor columns.

use crate::json::{self, byte, skip_space};
use crate::marks::{self, Marks};
use crate::run::Recipe;
use crate::short::{self, SHORT, padded_block};
use crate::walk::{Class, Slot};

/// Values that a line may have, plus one.
const MOST_LITERALS: usize = 64;
const MOST_LITERAL_BYTES: usize = 1024;
const MOST_NODES: usize = 1024;
/// Ways to go on that are tried at one place.
const MOST_WAYS: usize = 8;
/// Learning a line costs as much as walking several; so at most one of so many lines is learnt, after a few at first.
const LEAST_PRICE: u32 = 8;
const MOST_CREDIT: u32 = 32 * LEAST_PRICE;
/// Lessons that are of no use become dearer, up to this.
const MOST_PRICE: u32 = 128 * LEAST_PRICE;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Shapes {
    nodes: Vec<Node>,
    /// The node that is tried first, or [`NONE`].
    root: u32,
    /// What literals longer than a block have beyond their first.
    blocks: Vec<Block>,
    endings: Vec<Ending>,
    starts: Starts,
    /// Lines that may be spent on lessons, and how many each costs.
    credit: u32,
    price: u32,
    /// Whether a line had a known shape since the last lesson.
    useful: bool,
}

/// A literal, and what follows it.
#[derive(Debug)]
struct Node {
    first: Block,
    /// Of the first block, what counts.
    mask: u128,
    /// The others: a range of `blocks`.
    others: (u32, u32),
    length: u32,
    then: Then,
    /// The node after the value; the ending after the last literal.
    next: u32,
    /// What to try when this is not what stands there, or [`NONE`].
    otherwise: u32,
}

/// Bytes of a literal.
#[derive(Clone, Copy, Debug)]
struct Block {
    at: u32,
    bytes: u128,
}

/// What follows a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// A string's inside; its quotes belong to the literals.
    Text,
    Number,
    Word,
    /// Nothing: the literal was the last.
    End,
}

/// Where the wanted values of a line are.
#[derive(Debug)]
struct Ending {
    values: Vec<Value>,
    /// Whether any is a word, whose class is known when it is read.
    words: bool,
    /// How such lines become rows, by their types.
    recipes: Vec<Recipe>,
}

/// A wanted value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    slot: u32,
    /// Of a text without escapes for all texts, of `true` for all words.
    pub(crate) class: Class,
    pub(crate) span: Span,
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: Place,
    end: Place,
}

/// So many bytes behind the start of a literal.
#[derive(Clone, Copy, Debug)]
struct Place {
    literal: u32,
    offset: u32,
}

/// Where the literals of the line at hand start.
#[derive(Debug)]
pub(crate) struct Starts([u32; MOST_LITERALS]);

impl Span {
    /// In the line at hand.
    #[inline(always)]
    pub(crate) fn of(self, Starts(starts): &Starts) -> (u32, u32) {
        let at = |place: Place| starts[place.literal as usize % MOST_LITERALS] + place.offset;
        (at(self.start), at(self.end))
    }

    /// Where it is, if it is known to be a text: behind a whole literal, up to the next.
    pub(crate) fn text(self) -> TextSpan {
        TextSpan { literal: self.start.literal, length: self.start.offset }
    }
}

/// Where a text is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextSpan {
    /// The literal before it.
    literal: u32,
    /// That one's length.
    length: u32,
}

impl TextSpan {
    /// In the line at hand.
    #[inline(always)]
    pub(crate) fn of(self, Starts(starts): &Starts) -> (u32, u32) {
        let literal = self.literal as usize;
        (starts[literal % MOST_LITERALS] + self.length, starts[(literal + 1) % MOST_LITERALS])
    }

    /// The bit of the literal that it follows.
    pub(crate) fn literal(self) -> u64 {
        1 << self.literal
    }
}

/// A line of a known shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    /// Where it ends.
    pub(crate) newline: usize,
    /// The end of its shape, by index.
    pub(crate) ending: usize,
    /// By literal, whether the text after it has escapes.
    pub(crate) escaped: u64,
}

impl Shapes {
    pub(crate) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            root: NONE,
            blocks: Vec::new(),
            endings: Vec::new(),
            starts: Starts([0; MOST_LITERALS]),
            credit: MOST_CREDIT,
            price: LEAST_PRICE,
            useful: true,
        }
    }

    /// The line that starts at `start`, if it has a known shape.
    #[inline(never)]
    pub(crate) fn follow(&mut self, bytes: &[u8], marks: &Marks, start: usize) -> Option<Met> {
        let Self { nodes, blocks, starts, useful, .. } = self;
        let (nodes, blocks, bits) = (nodes.as_slice(), blocks.as_slice(), marks.bits());
        let mut node = nodes.get(self.root as usize)?;
        let mut at = start as u32;
        let mut escaped = 0;
        let mut bit = 1;
        for literal in &mut starts.0 {
            *literal = at;
            at = loop {
                if node.stands_at(blocks, bytes, at) {
                    let after = at + node.length;
                    if node.then == Then::Text {
                        let mark = marks::next(bits, after);
                        if bytes.get(mark as usize) == Some(&b'"') {
                            break mark;
                        }
                        if let Some(quote) = quote_behind_escapes(bytes, mark) {
                            escaped |= bit;
                            break quote;
                        }
                    } else if let Some(after) = node.then.pass(bytes, after) {
                        if node.then == Then::End {
                            *useful = true;
                            return Some(Met { newline: after as usize - 1, ending: node.next as usize, escaped });
                        }
                        break after;
                    }
                }
                node = nodes.get(node.otherwise as usize)?;
            };
            bit <<= 1;
            node = nodes.get(node.next as usize)?;
        }
        None
    }

    /// Puts the values of the line that was just met into slots, as of line `line`.
    #[inline(never)]
    pub(crate) fn put(&self, met: &Met, bytes: &[u8], line: u32, slots: &mut [Slot]) {
        let ending = &self.endings[met.ending];
        for value in &ending.values {
            let (start, end) = value.span.of(&self.starts);
            slots[value.slot as usize] = Slot { start, end, line, class: value.class };
        }
        if met.escaped != 0 || ending.words {
            ending.settle(bytes, slots);
        }
    }

    /// Where the literals of the line that was just met start.
    #[inline(always)]
    pub(crate) fn starts(&self) -> &Starts {
        &self.starts
    }

    /// What a slot has in lines of a shape.
    pub(crate) fn value(&self, ending: usize, slot: usize) -> Option<Value> {
        self.endings[ending].values.iter().find(|value| value.slot as usize == slot).copied()
    }

    #[inline(always)]
    pub(crate) fn recipes(&self, ending: usize) -> &[Recipe] {
        &self.endings[ending].recipes
    }

    pub(crate) fn add_recipe(&mut self, ending: usize, recipe: Recipe) {
        self.endings[ending].recipes.push(recipe);
    }

    /// Learns the shape of a line that was found to be valid another way, and is followed by a newline; `found` is
    /// what is in its slots. Now and then only, lest lines of ever new shapes cost too much.
    pub(crate) fn learn(
        &mut self,
        bytes: &[u8],
        start: usize,
        newline: usize,
        found: impl Iterator<Item = (u32, Slot)>,
    ) {
        self.credit = (self.credit + 1).min(MOST_CREDIT.max(self.price));
        if self.credit < self.price || byte(bytes, newline) != b'\n' || newline >= bytes.len() {
            return;
        }
        self.credit -= self.price;
        self.price = if self.useful { LEAST_PRICE } else { (self.price * 2).min(MOST_PRICE) };
        self.useful = false;
        if let Some(literals) = literals(bytes, start, newline) {
            let ending = ending(&literals, found);
            self.insert(&literals, bytes, ending);
        }
    }

    fn insert(&mut self, literals: &[Literal], bytes: &[u8], ending: Ending) {
        if self.nodes.len() + literals.len() > MOST_NODES {
            self.nodes.clear();
            self.blocks.clear();
            self.endings.clear();
            self.root = NONE;
        }
        let mut before = None;
        for literal in literals {
            let text = &bytes[literal.start..literal.end];
            let first = self.after(before);
            let known = self.ways(first).find(|&way| {
                let node = &self.nodes[way];
                node.then == literal.then && node.is(&self.blocks, text)
            });
            let node = known.unwrap_or_else(|| self.add(text, literal.then, before));
            before = Some(node);
        }
        // A shape that is there already, and was not followed, was met at the end of the bytes.
        if let Some(node) = before.map(|last| &mut self.nodes[last]).filter(|node| node.next == NONE) {
            node.next = self.endings.len() as u32;
            self.endings.push(ending);
        }
    }

    /// The first way to go on after a node, or from the start of a line.
    fn after(&self, before: Option<usize>) -> u32 {
        before.map_or(self.root, |before| self.nodes[before].next)
    }

    /// A node and its alternatives.
    fn ways(&self, first: u32) -> impl Iterator<Item = usize> {
        let known = |index: u32| (index != NONE).then_some(index as usize);
        std::iter::successors(known(first), move |&way| known(self.nodes[way].otherwise))
    }

    /// Adds a way to go on, to be tried first; the one learnt longest ago makes room.
    fn add(&mut self, text: &[u8], then: Then, before: Option<usize>) -> usize {
        let otherwise = self.after(before);
        let last = self.ways(otherwise).nth(MOST_WAYS - 2);
        if let Some(last) = last {
            self.nodes[last].otherwise = NONE;
        }
        let new = self.nodes.len();
        match before {
            Some(before) => self.nodes[before].next = new as u32,
            None => self.root = new as u32,
        }
        let first = self.blocks.len() as u32;
        // The last block overlaps the one before, so that only the first of a short literal needs a mask.
        let starts = (SHORT..text.len()).step_by(SHORT).map(|at| at.min(text.len() - SHORT));
        self.blocks.extend(starts.map(|at| Block { at: at as u32, bytes: padded_block(text, at) }));
        self.nodes.push(Node {
            first: Block { at: 0, bytes: padded_block(text, 0) },
            mask: short::mask(text.len()),
            others: (first, self.blocks.len() as u32),
            length: text.len() as u32,
            then,
            next: NONE,
            otherwise,
        });
        new
    }
}

impl Node {
    /// Whether the literal is what stands at `at`.
    #[inline(always)]
    fn stands_at(&self, blocks: &[Block], bytes: &[u8], at: u32) -> bool {
        (padded_block(bytes, at as usize) ^ self.first.bytes) & self.mask == 0
            && (self.length <= SHORT as u32 || self.rest_stands_at(blocks, bytes, at))
    }

    #[inline(always)]
    fn rest_stands_at(&self, blocks: &[Block], bytes: &[u8], at: u32) -> bool {
        let (from, to) = self.others;
        let others = blocks.get(from as usize..to as usize).unwrap_or_default();
        others.iter().all(|other| padded_block(bytes, (at + other.at) as usize) == other.bytes)
    }

    fn is(&self, blocks: &[Block], text: &[u8]) -> bool {
        self.length as usize == text.len() && self.stands_at(blocks, text, 0)
    }
}

impl Then {
    /// Past what follows a literal and is no text, if it stands at `at`.
    #[inline(always)]
    fn pass(self, bytes: &[u8], at: u32) -> Option<u32> {
        let after = match self {
            Self::Number => json::number(bytes, at as usize).ok()?,
            Self::Word => json::skip_literal(bytes, at as usize).ok()?,
            Self::Text | Self::End => return Some(at),
        };
        Some(after as u32)
    }
}

#[inline(never)]
fn quote_behind_escapes(bytes: &[u8], at: u32) -> Option<u32> {
    let end = json::string_with_escapes(bytes, at as usize).ok()?;
    Some(end.quote as u32)
}

impl Ending {
    /// Texts may have escapes in this line, and words are what they are.
    #[inline(never)]
    fn settle(&self, bytes: &[u8], slots: &mut [Slot]) {
        for value in &self.values {
            let slot = &mut slots[value.slot as usize];
            slot.class = match value.class {
                Class::Plain if memchr::memchr(b'\\', slot.of(bytes)).is_some() => Class::Escaped,
                Class::True => match slot.of(bytes).first() {
                    Some(b't') => Class::True,
                    Some(b'f') => Class::False,
                    _ => Class::Absent,
                },
                same => same,
            };
        }
    }
}

/// A literal of a line, by its place in the bytes.
struct Literal {
    start: usize,
    end: usize,
    then: Then,
}

/// The literals of a valid line, if they are not too many or too long.
fn literals(bytes: &[u8], start: usize, newline: usize) -> Option<Vec<Literal>> {
    let mut literals = Vec::new();
    let (mut start, mut at) = (start, start);
    while at < newline {
        let (end, then, after) = match bytes[at] {
            b'"' => {
                let quote = json::string(bytes, at + 1).ok()?.quote;
                let behind = skip_space(bytes, quote + 1);
                if byte(bytes, behind) == b':' {
                    at = behind + 1;
                    continue;
                }
                (at + 1, Then::Text, quote)
            }
            b'-' | b'0'..=b'9' => (at, Then::Number, json::number(bytes, at).ok()?),
            b't' | b'f' | b'n' => (at, Then::Word, json::skip_literal(bytes, at).ok()?),
            _ => {
                at += 1;
                continue;
            }
        };
        literals.push(Literal { start, end, then });
        start = after;
        at = if then == Then::Text { after + 1 } else { after };
    }
    literals.push(Literal { start, end: newline + 1, then: Then::End });
    let short = literals.iter().all(|literal| literal.end - literal.start <= MOST_LITERAL_BYTES);
    (short && literals.len() <= MOST_LITERALS).then_some(literals)
}

fn ending(literals: &[Literal], found: impl Iterator<Item = (u32, Slot)>) -> Ending {
    let place =
        |literal: usize, at: usize| Place { literal: literal as u32, offset: (at - literals[literal].start) as u32 };
    // A value that follows a literal starts where the literal ends, and ends where the next one starts: an empty text too.
    let start = |at: usize| place(literals.partition_point(|literal| literal.end < at), at);
    let end = |at: usize| place(literals.partition_point(|literal| literal.start <= at) - 1, at);
    let values = found.map(|(slot, found)| {
        let class = match found.class {
            Class::Escaped => Class::Plain,
            Class::False | Class::Absent => Class::True,
            same => same,
        };
        Value { slot, class, span: Span { start: start(found.start as usize), end: end(found.end as usize) } }
    });
    let values: Vec<Value> = values.collect();
    Ending { words: values.iter().any(|value| value.class == Class::True), values, recipes: Vec::new() }
}
