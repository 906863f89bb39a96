//! Sign-ups for the aggregators of `examples/plugins/signups-*`: what one is made of, and batches of them as the host hands them over.

use std::ops::Range;
use tally_event::columns::{ColumnRef, Rows, ValuesRef};
use xxhash_rust::xxh3::xxh3_64;

/// One sign-up. Some are refused: what was paid must not be negative.
struct Signup {
    user: String,
    referrer: Option<String>,
    paid: Option<i64>,
}

/// Sign-ups in the order of the log.
pub struct Signups(Vec<Signup>);

/// A batch of them, dictionary-encoded.
pub struct Batch {
    first_sequence: u64,
    user: Text,
    referrer: Text,
    paid: Vec<i64>,
    paid_present: Vec<u8>,
    referrer_present: Vec<u8>,
}

#[derive(Default)]
struct Text {
    codes: Vec<u32>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
    hashes: Vec<u64>,
}

impl Signups {
    /// So many, of so many users and referrers. The first have few of either, so that short stretches are counted exactly.
    pub fn new(count: usize, users: u64, referrers: u64) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let mut signup = |_| Signup {
            user: format!("u_{}", random(users)),
            referrer: match random(referrers + referrers / 4) {
                name if name >= referrers => None,
                0 => Some(String::new()),
                // Above and below U+10000 the order of UTF-16 is not that of bytes.
                name => {
                    Some(format!("https://{}{name}.example/", ["", "é", "\u{ff61}", "\u{1f600}"][name as usize % 4]))
                }
            },
            paid: match random(20) {
                0 => Some(-1),
                1..10 => None,
                _ => Some(random(1_000_000_001) as i64),
            },
        };
        Self((0..count).map(&mut signup).collect())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// These of them as one batch.
    pub fn batch(&self, range: Range<usize>) -> Batch {
        let events = &self.0[range.clone()];
        let paid = events.iter().map(|event| event.paid);
        Batch {
            first_sequence: 1 + range.start as u64,
            user: Text::of(events.iter().map(|event| Some(event.user.as_str()))),
            referrer: Text::of(events.iter().map(|event| event.referrer.as_deref())),
            paid: paid.clone().map(Option::unwrap_or_default).collect(),
            paid_present: paid.map(|paid| u8::from(paid.is_some())).collect(),
            referrer_present: events.iter().map(|event| u8::from(event.referrer.is_some())).collect(),
        }
    }
}

impl Batch {
    /// As it crosses.
    pub fn rows(&self) -> Rows<'_> {
        let count = self.paid.len();
        let present = |present: &[u8]| if present.contains(&0) { present.to_vec().into() } else { vec![].into() };
        Rows {
            first_sequence: self.first_sequence,
            sequence_offsets: (0..count as u32).collect(),
            times: vec![1_769_508_000_000_000; count].into(),
            event_types: vec![0; count].into(),
            columns: vec![
                ColumnRef { values: self.user.values(), present: vec![].into() },
                ColumnRef { values: self.referrer.values(), present: present(&self.referrer_present) },
                ColumnRef {
                    values: ValuesRef::Integers(self.paid.as_slice().into()),
                    present: present(&self.paid_present),
                },
            ],
        }
    }
}

impl Text {
    fn of<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Self {
        let mut codes = std::collections::HashMap::new();
        let mut text = Self::default();
        for entry in texts {
            let Some(entry) = entry else {
                text.codes.push(0);
                continue;
            };
            let code = *codes.entry(entry).or_insert_with(|| {
                text.bytes.extend(entry.as_bytes());
                text.ends.push(text.bytes.len() as u32);
                text.hashes.push(xxh3_64(entry.as_bytes()));
                text.ends.len() as u32 - 1
            });
            text.codes.push(code);
        }
        text
    }

    fn values(&self) -> ValuesRef<'_> {
        ValuesRef::Text {
            codes: self.codes.as_slice().into(),
            ends: &self.ends,
            bytes: &self.bytes,
            hashes: &self.hashes,
        }
    }
}
