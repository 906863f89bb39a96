//! Random manifests and random lines: valid ones in every spelling that JSON allows, and damaged ones.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::sync::Arc;
use tally_event::plan::Subscriber;
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset, TimestampFormat};

/// Paths that overlap: a value and what is inside of it, keys that look like indices, keys that need escapes.
const PATHS: &[&str] = &[
    "/user",
    "/n",
    "/price",
    "/flag",
    "/at",
    "/p",
    "/p/x",
    "/p/x/y",
    "/items",
    "/items/0",
    "/items/1/x",
    "/p/0",
    "/a~1b",
    "/é",
    "/a_key_that_is_much_longer_than_what_fits_into_a_few_words",
    "/timestamp",
    "/type",
];
const TYPES: &[&str] = &["action", "home", "é", "*"];
const KINDS: &[Kind] = &[
    Kind::Text,
    Kind::Integer,
    Kind::Decimal(2),
    Kind::Decimal(18),
    Kind::Float,
    Kind::Boolean,
    Kind::Timestamp,
    Kind::Json,
];

pub fn subscribers() -> impl Strategy<Value = Vec<Subscriber>> {
    subscribers_of(PATHS)
}

/// Subscribers that want some of these paths, besides a few that are in most lines.
pub fn subscribers_of(paths: &'static [&'static str]) -> impl Strategy<Value = Vec<Subscriber>> {
    prop::collection::vec(manifest(paths), 1..4).prop_map(|manifests| {
        let named = |(index, manifest)| Subscriber { name: format!("s{index}").into(), manifest: Arc::new(manifest) };
        manifests.into_iter().enumerate().map(named).collect()
    })
}

fn manifest(paths: &'static [&'static str]) -> impl Strategy<Value = Manifest> {
    let field = prop_oneof![
        20 => (select(paths), select(KINDS)),
        10 => select(&[("/user", Kind::Text), ("/n", Kind::Integer), ("/flag", Kind::Boolean), ("/at", Kind::Timestamp)][..]),
        1 => Just(("", Kind::Json)),
    ];
    let field = field.prop_map(|(path, kind)| Field { path: path.into(), kind });
    let fields = prop::collection::vec(field, 1..6);
    let types = prop::sample::subsequence(TYPES, 1..=TYPES.len()).prop_shuffle();
    (fields, types, any::<u64>()).prop_map(|(fields, types, mut dice)| {
        let mut roll = |sides| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let event_type = |name: &&str| {
            let mut event_type = EventType { name: (*name).into(), required: vec![], optional: vec![] };
            for index in 0..fields.len() as u32 {
                match roll(6) {
                    0 => event_type.required.insert(0, index),
                    1..4 => event_type.optional.push(index),
                    _ => {}
                }
            }
            event_type
        };
        Manifest {
            event_types: types.iter().map(event_type).collect(),
            fields,
            ordering: Ordering::Commutative,
            state_version: "1".into(),
            loads: vec![],
            refusals: vec![],
        }
    })
}

pub fn preset() -> impl Strategy<Value = Preset> {
    prop_oneof![
        3 => Just(Preset::default()),
        1 => Just(Preset { name: "edits".into(), constant_type: Some("home".into()), timestamp_path: "/at".into(), ..Preset::default() }),
        1 => Just(Preset { name: "nested".into(), type_path: "/p/x".into(), timestamp_path: "/items/0".into(), ..Preset::default() }),
        1 => Just(Preset {
            timestamp_path: "/price".into(),
            timestamp_format: TimestampFormat::Milliseconds,
            event_id: vec!["/user".into(), "/n".into()],
            required: vec!["/flag".into()],
            ..Preset::default()
        }),
        1 => Just(Preset {
            rename: renames(&[("/user", "/a~1b"), ("/p", "/items"), ("/p/x", "/n"), ("/type", "/p/x"), ("/items/0", "")]),
            event_id: vec!["/n".into()],
            ..Preset::default()
        }),
        1 => Just(Preset {
            rename: renames(&[("", "/p"), ("/user", "/user"), ("/p", "/items"), ("/price", "/n")]),
            timestamp_path: "/n".into(),
            timestamp_format: TimestampFormat::Seconds,
            event_id: vec!["/at".into()],
            required: vec!["/user".into()],
            ..Preset::default()
        }),
    ]
}

pub fn renames(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|&(wanted, place)| (wanted.into(), place.into())).collect()
}

/// Lines, most of them fine; sometimes without the last newline.
pub fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        20 => event(event_value()).prop_map(String::into_bytes),
        4 => (event(event_value()), damage()).prop_map(|(line, damage)| damage.apply(line.into_bytes())),
        1 => json().prop_map(String::into_bytes),
        1 => "[ \t\r]{0,2}".prop_map(String::into_bytes),
        1 => (60_usize..70, any::<bool>()).prop_map(|(depth, array)| deep(depth, array).into_bytes()),
    ];
    (prop::collection::vec(line, 0..30), any::<bool>()).prop_map(|(lines, newline)| {
        let mut bytes = lines.join(&b'\n');
        if newline && !lines.is_empty() {
            bytes.push(b'\n');
        }
        bytes
    })
}

fn deep(depth: usize, array: bool) -> String {
    let (open, close) = if array { ("[", "]") } else { ("{\"p\":", "}") };
    format!("{{\"type\":\"action\",\"p\":{}1{}}}", open.repeat(depth - 1), close.repeat(depth - 1))
}

/// An object with keys that matter, in any order, some twice.
fn event(value: impl Strategy<Value = (String, String)>) -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        8 => select(&["\"action\"", "\"home\"", "\"other\"", "\"\\u0061ction\"", "\"é\"", "\"*\""][..]).prop_map(String::from),
        1 => scalar(),
    ];
    let time = prop_oneof![6 => time(), 1 => scalar()];
    let space = select(&["", "", "", "", " ", "\t ", "\r"][..]);
    let entries = prop::collection::vec(value, 0..8);
    (prop::option::weighted(0.95, kind), prop::option::weighted(0.7, time), entries, space, any::<Index>()).prop_map(
        |(kind, time, mut entries, space, at)| {
            if let Some(kind) = kind {
                entries.insert(at.index(entries.len() + 1), ("\"type\"".into(), kind));
            }
            if let Some(time) = time {
                entries.insert(at.index(entries.len() + 1), ("\"timestamp\"".into(), time));
            }
            let entries = entries.iter().map(|(key, value)| format!("{space}{key}{space}:{space}{value}{space}"));
            format!("{space}{{{}}}{space}", entries.collect::<Vec<_>>().join(","))
        },
    )
}

/// A key that matters, with a value that mostly suits it.
fn event_value() -> impl Strategy<Value = (String, String)> {
    let text = |key: &'static str| (Just(key.to_string()), string());
    let nested = (select(&["\"p\"", "\"items\"", "\"p\"", "\"\\u0070\""][..]), json()).prop_map(|(k, v)| (k.into(), v));
    prop_oneof![
        text("\"user\""),
        text("\"us\\u0065r\""),
        (Just("\"n\"".to_string()), number()),
        (Just("\"price\"".to_string()), number()),
        (Just("\"flag\"".to_string()), select(&["true", "false", "null"][..]).prop_map(String::from)),
        (Just("\"at\"".to_string()), time()),
        text("\"a/b\""),
        text("\"é\""),
        text("\"a_key_that_is_much_longer_than_what_fits_into_a_few_words\""),
        nested,
        (select(&["\"user\"", "\"n\"", "\"price\"", "\"flag\"", "\"at\"", "\"x\""][..]).prop_map(String::from), json()),
        (string(), json()),
    ]
}

fn json() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        let key = select(&["\"x\"", "\"y\"", "\"0\"", "\"1\"", "\"\"", "\"z\""][..]);
        let space = select(&["", "", " "][..]);
        let array = (prop::collection::vec(inner.clone(), 0..4), space.clone())
            .prop_map(|(values, space)| format!("[{space}{}{space}]", values.join(&format!("{space},{space}"))));
        let object = (prop::collection::vec((key, inner), 0..4), space).prop_map(|(entries, space)| {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
            format!("{{{space}{}{space}}}", entries.join(","))
        });
        prop_oneof![array, object]
    })
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![string(), number(), select(&["null", "true", "false"][..]).prop_map(String::from)]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,4})",
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
        "-?(0|[1-9][0-9]{0,6})\\.[0-9]{1,2}0{0,3}",
        "-?9223372036854775[0-9]{3}(\\.0{1,3})?",
        "1[eE]([+-]?[0-9]{3})",
    ]
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        "\"2026-01-2[0-9]T1[0-9]:[0-5][0-9]:[0-5][0-9]\\.[0-9]{3}Z\"",
        "\"20[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-5][0-9](\\.[0-9]{1,9})?([Zz]|[+-][0-2][0-9]:[0-5][0-9])\"",
        Just("null".to_string()),
        Just("\"2026-01-27\\u005410:00:00Z\"".to_string()),
    ]
}

/// Short and long strings, with every escape, half surrogate pairs included.
fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => "[ -!#-\\[\\]-~]{0,12}",
        1 => "[ -!#-\\[\\]-~]{0,100}",
        2 => "[à-ÿΑ-ω一-三😀-😂]{0,6}",
        2 => select(&["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0000", "\\u00e9", "\\uD83D\\ude00", "\\u20AC",
            "\\uD83D",
            "\\udc00"][..])
            .prop_map(String::from),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// A change to the bytes of a line.
#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    Double(Index, Index),
    /// Another bracket, or another letter after a backslash.
    Bend(Index, u8),
}

impl Damage {
    fn apply(&self, mut line: Vec<u8>) -> Vec<u8> {
        if line.is_empty() {
            return line;
        }
        let length = line.len();
        match self {
            Self::Replace(at, byte) => line[at.index(length)] = *byte,
            Self::Insert(at, byte) => line.insert(at.index(length), *byte),
            Self::Remove(at) => drop(line.remove(at.index(length))),
            Self::Cut(at) => line.truncate(at.index(length)),
            Self::Bend(which, byte) => {
                let bends = |&at: &usize| b"{}[]".contains(&line[at]) || (at > 0 && line[at - 1] == b'\\');
                let places: Vec<usize> = (0..length).filter(bends).collect();
                if !places.is_empty() {
                    line[*which.get(&places)] = *byte;
                }
            }
            Self::Double(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = line[from.min(to)..from.max(to)].to_vec();
                line.splice(from..from, part);
            }
        }
        line
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte =
        prop_oneof![3 => select(&b"{}[]\",:\\u0123456789.eE+-tfn \n\r\t\0\x1f\x7f\x80\xc3\xff"[..]), 1 => any::<u8>()];
    prop_oneof![
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (any::<Index>(), select(&b"{}[]bvxuU'\"0"[..])).prop_map(|(which, byte)| Damage::Bend(which, byte)),
        any::<Index>().prop_map(Damage::Remove),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Double(from, to)),
    ]
}
