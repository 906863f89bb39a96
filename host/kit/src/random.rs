//! Random events of what a manifest declares: few texts, so that keys repeat; absent, null and wrong values; extremes of numbers;
//! and values that occur in the samples. The same seed gives the same events on any machine.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use tally_event::schema::{Kind, Manifest};

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, or 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const TEXTS: [&str; 5] = ["a", "b", "c", "d", "e"];
const ODD_TEXTS: [&str; 7] =
    ["", " ", "\u{e4}\u{f6}", "\u{65e5}\u{672c}", "\u{1f600}", "quote \" slash \\", "\u{0}\u{7f}\n"];
const INTEGERS: [&str; 7] = ["0", "1", "2", "3", "-1", "10", "1000"];
const ODD_INTEGERS: [&str; 4] = ["9223372036854775807", "-9223372036854775808", "4294967296", "-2147483649"];
const FLOATS: [&str; 6] = ["0.1", "0.2", "0.3", "1.5", "-2.25", "7"];
const ODD_FLOATS: [&str; 6] = ["1e308", "-1e308", "5e-324", "-0.0", "1e16", "9007199254740993"];
const TIMES: [&str; 5] = [
    "2026-01-27T10:00:00Z",
    "2026-01-27T10:59:59.999Z",
    "2026-01-27T11:00:00Z",
    "2026-01-28T00:00:00+02:00",
    "2026-02-01T00:00:00Z",
];
const ODD_TIMES: [&str; 3] = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.000001Z"];
const DOCUMENTS: [&str; 5] = ["{}", "[]", r#"{"a":1}"#, "\"text\"", "0"];
/// Of no kind that could be asked for, whatever is asked for.
const WRONG: [&str; 3] = ["{\"no\":[]}", "\"not this\"", "true"];

/// What random events are made of.
pub(crate) struct Vocabulary<'a> {
    manifest: &'a Manifest,
    /// What the samples have at each field, as JSON.
    seen: Vec<Vec<String>>,
    /// Types of the samples that only `*` takes.
    other_types: Vec<String>,
    /// How many texts there are per field, beside the odd ones.
    texts: usize,
    /// Whether odd values are among them.
    odd: bool,
}

/// An event under construction.
enum Node {
    Json(String),
    Object(BTreeMap<String, Node>),
}

impl<'a> Vocabulary<'a> {
    /// For finding faults: few texts, odd values.
    pub(crate) fn small(manifest: &'a Manifest, samples: &[String]) -> Self {
        Self { texts: TEXTS.len(), odd: true, ..Self::large(manifest, samples, 0) }
    }

    /// For measuring: so many texts, nothing odd.
    pub(crate) fn large(manifest: &'a Manifest, samples: &[String], texts: usize) -> Self {
        let parsed: Vec<Value> = samples.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let seen = manifest.fields.iter().map(|field| {
            let values = parsed.iter().filter_map(|event| event.pointer(&field.path)).map(Value::to_string);
            let mut values: Vec<String> = values.collect();
            values.sort();
            values.dedup();
            values
        });
        let named = |name: &str| manifest.event_types.iter().any(|event_type| event_type.name == name);
        let types = parsed.iter().filter_map(|event| event["type"].as_str()).filter(|name| !named(name));
        let other_types = types.map(str::to_owned).chain(["other".to_owned()]).collect();
        Self { manifest, seen: seen.collect(), other_types, texts, odd: false }
    }

    /// One event, as a line.
    pub(crate) fn line(&self, random: &mut Random) -> String {
        let mut event = BTreeMap::new();
        let Some(event_type) = self.manifest.event_types.get(random.below(self.manifest.event_types.len())) else {
            return r#"{"type":"other"}"#.to_owned();
        };
        for (share, fields) in [(2, &event_type.required), (25, &event_type.optional)] {
            for &index in fields {
                if self.odd && random.percent(share) {
                    continue;
                }
                let value = self.value(index as usize, random);
                let field = &self.manifest.fields[index as usize];
                put(&mut event, &field.path, value);
            }
        }
        let name = match event_type.name.as_str() {
            "*" => &self.other_types[random.below(self.other_types.len())],
            name => name,
        };
        event.insert("type".to_owned(), Node::Json(quoted(name)));
        if random.percent(80) && !event.contains_key("timestamp") {
            event.insert("timestamp".to_owned(), Node::Json(quoted(random.pick(&TIMES))));
        }
        Node::Object(event).to_string()
    }

    fn value(&self, field: usize, random: &mut Random) -> String {
        let kind = self.manifest.fields[field].kind;
        let seen = &self.seen[field];
        if self.odd {
            match random.below(100) {
                0..5 => return "null".to_owned(),
                5..8 => return random.pick(&WRONG).to_owned(),
                8..18 => return odd(kind, random),
                _ => {}
            }
        }
        if !seen.is_empty() && random.percent(70) {
            return seen[random.below(seen.len())].clone();
        }
        match kind {
            Kind::Text if self.odd => quoted(random.pick(&TEXTS)),
            Kind::Text => quoted(&format!("text {}", random.below(self.texts))),
            Kind::Integer => random.pick(&INTEGERS).to_owned(),
            Kind::Decimal(scale) => decimal(random.below(2000) as i64 - 500, scale),
            Kind::Float => random.pick(&FLOATS).to_owned(),
            Kind::Boolean => random.percent(50).to_string(),
            Kind::Timestamp => quoted(random.pick(&TIMES)),
            Kind::Json => random.pick(&DOCUMENTS).to_owned(),
        }
    }
}

fn odd(kind: Kind, random: &mut Random) -> String {
    match kind {
        Kind::Text if random.percent(10) => quoted(&"long ".repeat(60)),
        Kind::Text => quoted(random.pick(&ODD_TEXTS)),
        Kind::Integer => random.pick(&ODD_INTEGERS).to_owned(),
        Kind::Decimal(scale) => decimal(if random.percent(50) { i64::MAX } else { i64::MIN }, scale),
        Kind::Float => random.pick(&ODD_FLOATS).to_owned(),
        Kind::Boolean => random.percent(50).to_string(),
        Kind::Timestamp => quoted(random.pick(&ODD_TIMES)),
        Kind::Json => r#"{"deep":[[[{"a":[1,2,{"b":null}]}]]]}"#.to_owned(),
    }
}

/// An integer scaled by 10^scale, in digits.
fn decimal(scaled: i64, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", scaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if scaled < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Puts a value where an RFC 6901 pointer says; a value that is in the way stays, and the whole event cannot be put.
fn put(event: &mut BTreeMap<String, Node>, path: &str, value: String) {
    let mut tokens = path.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).peekable();
    let mut object = event;
    while let Some(token) = tokens.next() {
        if tokens.peek().is_none() {
            object.entry(token).or_insert(Node::Json(value));
            return;
        }
        match object.entry(token).or_insert_with(|| Node::Object(BTreeMap::new())) {
            Node::Object(inner) => object = inner,
            Node::Json(_) => return,
        }
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(json) => f.write_str(json),
            Self::Object(members) => {
                f.write_char('{')?;
                for (at, (name, value)) in members.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{}:{value}", quoted(name))?;
                }
                f.write_char('}')
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_event::schema::{EventType, Field, Ordering};

    fn manifest() -> Manifest {
        let kinds =
            [Kind::Text, Kind::Integer, Kind::Decimal(2), Kind::Float, Kind::Boolean, Kind::Timestamp, Kind::Json];
        let fields = kinds.iter().enumerate().map(|(n, kind)| Field { path: format!("/deep/f{n}"), kind: *kind });
        let event_type = |name: &str| EventType { name: name.into(), required: vec![0], optional: (1..7).collect() };
        Manifest {
            fields: fields.collect(),
            event_types: vec![event_type("one"), event_type("*")],
            ordering: Ordering::Commutative,
            state_version: "1".into(),
            loads: vec![],
            refusals: vec![],
        }
    }

    #[test]
    fn random_events_are_json_of_every_kind_and_the_same_for_a_seed() {
        let manifest = manifest();
        let samples = [r#"{"type":"sampled","deep":{"f0":"of the samples"}}"#.to_owned()];
        let vocabulary = Vocabulary::small(&manifest, &samples);
        let lines = |seed| {
            let mut random = Random::new(seed);
            (0..500).map(|_| vocabulary.line(&mut random)).collect::<Vec<_>>()
        };
        let once = lines(1);
        assert_eq!(once, lines(1));
        assert_ne!(once, lines(2));
        let all = once.concat();
        for part in
            ["of the samples", "sampled", "\"one\"", "9223372036854775807", "null", "1e308", "0001-01-01", "9999"]
        {
            assert!(all.contains(part), "{part} never occurs");
        }
        for line in &once {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn decimals_are_written_in_digits() {
        assert_eq!([decimal(-5, 2), decimal(1999, 2), decimal(7, 0)], ["-0.05", "19.99", "7"]);
        assert_eq!(decimal(i64::MIN, 3), "-9223372036854775.808");
    }
}
