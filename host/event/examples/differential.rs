//! Lines without end, sound and damaged, decoded and compared with what serde_json and chrono make of them:
//! `cargo run --release -p tally-event --example differential -- [--lines 100000000] [--seed 1] [--threads 4]`.
//!
//! Lines of a batch share a few shapes, as the lines of producers do, so that most are taken the fast ways; a part of them
//! is damaged by a byte or two. A difference ends the program with the lines and the seed that show it. What is compared is
//! what the tests in `tests/decoding` compare, by the same oracle.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/decoding/oracle.rs"]
mod oracle;
#[path = "../tests/decoding/seen.rs"]
mod seen;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/decoding/view.rs"]
mod view;

use crate::oracle::Rules;
use crate::seen::{ARRIVAL, FIRST, seen};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset, TimestampFormat};

const LIMITS: Limits = Limits { line_bytes: 1500, depth: 6, type_bytes: 20, event_id_bytes: 12 };
/// Batches that a decoder lives through.
const LIFE: u64 = 500;
const MOST_LINES: usize = 96;

fn main() {
    let [mut lines, mut seed, mut threads] = [1_000_000, 1, 4];
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok()).expect("a number after each option");
        match name.as_str() {
            "--lines" => lines = value,
            "--seed" => seed = value,
            "--threads" => threads = value,
            _ => panic!("no such option: {name}"),
        }
    }
    let (life, compared, accepted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while compared.load(Relaxed) < lines {
                    let seed = seed << 32 | life.fetch_add(1, Relaxed);
                    let (of_life, sound) = live(seed);
                    accepted.fetch_add(sound, Relaxed);
                    let before = compared.fetch_add(of_life, Relaxed);
                    if before / 1_000_000 != (before + of_life) / 1_000_000 {
                        eprintln!("{} lines", before + of_life);
                    }
                }
            });
        }
    });
    println!("{} lines compared, {} of them events, 0 differences", compared.into_inner(), accepted.into_inner());
}

/// One decoder's life; the lines it was given, and the events among them.
fn live(seed: u64) -> (u64, u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let presets = presets();
    let plan = Arc::new(Plan::new(subscribers(&mut dice), presets, LIMITS).expect("the plan is sound"));
    let mut decoder = Decoder::new(plan.clone());
    let (mut lines, mut events) = (0, 0);
    let mut shapes: Vec<Shape> = (0..4).map(|_| shape(&mut dice)).collect();
    for batch in 0..LIFE {
        let renewed = dice.below(shapes.len());
        if dice.one_in(4) {
            shapes[renewed] = shape(&mut dice);
        }
        let preset = if dice.one_in(3) { dice.below(plan.presets().len()) } else { 0 };
        let bytes = text(&shapes, &mut dice);
        let admit = !dice.one_in(4);
        let rules = Rules {
            subscribers: plan.subscribers(),
            preset: &plan.presets()[preset],
            limits: LIMITS,
            admit,
            first_sequence: FIRST,
            arrival: ARRIVAL,
        };
        let expected = rules.expect(&bytes);
        let pushed = decoder.push(preset, &bytes, if admit { Mode::Admit } else { Mode::Replay });
        lines += u64::from(pushed.lines);
        events += u64::from(pushed.accepted);
        let found = seen(&[(0, pushed)], decoder.finish());
        if found != expected {
            println!("seed {seed}, batch {batch}, preset {preset}, admit {admit}:");
            println!("{}", String::from_utf8_lossy(&bytes));
            println!("found: {found:#?}\nexpected: {expected:#?}");
            std::process::exit(1);
        }
    }
    (lines, events)
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, sides: usize) -> usize {
        (self.roll() % sides as u64) as usize
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

fn presets() -> Vec<Preset> {
    let constant = Preset { name: "home".into(), constant_type: Some("home".into()), ..Preset::default() };
    let strict = Preset {
        name: "strict".into(),
        timestamp_path: "/n".into(),
        timestamp_format: TimestampFormat::Milliseconds,
        event_id: vec!["/user_id".into(), "/n".into()],
        required: vec!["/post".into()],
        ..Preset::default()
    };
    vec![Preset::default(), constant, strict]
}

/// One that wants text only, as most do, and one that wants everything.
fn subscribers(dice: &mut Dice) -> Vec<Subscriber> {
    let texts = ["/user_id", "/post", "/action"].map(|path| (path, Kind::Text));
    let kinds = [
        ("/user_id", Kind::Text),
        ("/n", Kind::Integer),
        ("/price", Kind::Decimal(2)),
        ("/ok", Kind::Boolean),
        ("/at", Kind::Timestamp),
        ("/p/x", Kind::Text),
        ("/p", Kind::Json),
        ("/list/0", Kind::Json),
        ("/x", Kind::Float),
    ];
    let mut all = vec![subscriber("texts", &["action", "home"], &texts, dice)];
    if dice.one_in(2) {
        all.push(subscriber("users", &["home"], &texts[..1], dice));
    }
    if dice.one_in(3) {
        all.push(subscriber("kinds", &["action", "*"], &kinds, dice));
    }
    all
}

fn subscriber(name: &str, types: &[&str], fields: &[(&str, Kind)], dice: &mut Dice) -> Subscriber {
    let (required, optional) = (0..fields.len() as u32).partition(|_| dice.one_in(3));
    let event_type = |name: &&str| EventType {
        name: (*name).into(),
        required: Vec::clone(&required),
        optional: Vec::clone(&optional),
    };
    let manifest = Manifest {
        fields: fields.iter().map(|&(path, kind)| Field { path: path.into(), kind }).collect(),
        event_types: types.iter().map(event_type).collect(),
        ordering: Ordering::Commutative,
        state_version: "1".into(),
        loads: vec![],
        refusals: vec![],
    };
    Subscriber { name: name.into(), manifest: Arc::new(manifest) }
}

/// A line without its values.
type Shape = Vec<Part>;

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Type,
    Time,
    Text,
    Number,
    Word,
}

const KEYS: &[&str] = &[
    "user_id",
    "post",
    "action",
    "event_id",
    "n",
    "price",
    "ok",
    "at",
    "x",
    "p",
    "list",
    "session",
    "é",
    "user\\u005fid",
    "",
    "a key that is longer than sixteen bytes",
];

fn shape(dice: &mut Dice) -> Shape {
    let space = if dice.one_in(3) { dice.pick(&[" ", "\t", "\r", "  "]) } else { "" };
    let mut keys = vec!["type", "timestamp", "user_id", "post", "action"];
    for _ in 0..dice.below(6) {
        keys.push(dice.pick(KEYS));
    }
    for _ in 0..dice.below(3) {
        keys.remove(dice.below(keys.len()));
    }
    for at in 0..keys.len() {
        if dice.one_in(4) {
            let other = dice.below(keys.len());
            keys.swap(at, other);
        }
    }
    let mut parts = Vec::new();
    let mut literal = format!("{space}{{");
    for (index, key) in keys.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        literal += &format!("{comma}{space}\"{key}\":{space}");
        value(key, 1, &mut literal, &mut parts, dice);
    }
    literal += &format!("}}{space}");
    parts.push(Part::Literal(literal));
    parts
}

fn value(key: &str, depth: u32, literal: &mut String, parts: &mut Shape, dice: &mut Dice) {
    let part = match (key, dice.below(12)) {
        ("type", 1..) => Part::Type,
        ("timestamp" | "at", 1..) => Part::Time,
        ("user_id" | "post" | "action" | "event_id", 2..) | (_, 2..5) => Part::Text,
        (_, 5..8) => Part::Number,
        (_, 8) => Part::Word,
        _ if depth > 4 => Part::Word,
        (_, even) => {
            let (open, close) = if even % 2 == 0 { ('{', '}') } else { ('[', ']') };
            literal.push(open);
            for index in 0..dice.below(4) {
                *literal += if index > 0 { "," } else { "" };
                if open == '{' {
                    *literal += &format!("\"{}\":", dice.pick(&["x", "y", "0", "x"]));
                }
                value("", depth + 1, literal, parts, dice);
            }
            literal.push(close);
            return;
        }
    };
    let quoted = matches!(part, Part::Type | Part::Time | Part::Text);
    *literal += if quoted { "\"" } else { "" };
    parts.push(Part::Literal(std::mem::take(literal)));
    parts.push(part);
    *literal += if quoted { "\"" } else { "" };
}

/// A batch of lines, some of them damaged.
fn text(shapes: &[Shape], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    let damaged = dice.pick(&[2, 8, 1000]);
    for _ in 0..dice.below(MOST_LINES) {
        let start = bytes.len();
        let most = shapes.len().min(1 + dice.below(4));
        let shape = dice.below(most);
        shapes[shape].iter().for_each(|part| write(part, &mut bytes, dice));
        if dice.one_in(damaged) {
            (0..1 + dice.below(2)).for_each(|_| damage(&mut bytes, start, dice));
        }
        bytes.push(b'\n');
    }
    if dice.one_in(8) {
        bytes.pop();
    }
    bytes
}

fn write(part: &Part, out: &mut Vec<u8>, dice: &mut Dice) {
    match part {
        Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
        Part::Type => out.extend_from_slice(
            dice.pick(&["action", "action", "action", "home", "other", "", "\\u0061ction", "a type of seventeen"])
                .as_bytes(),
        ),
        Part::Time => {
            let second = dice.below(60);
            let millis = dice.below(1000);
            let minute = if dice.one_in(9) { 59 } else { 0 };
            let time = match dice.below(16) {
                0 => format!("2026-01-27T10:{minute:02}:{second:02}.{millis:06}Z"),
                1 => format!("2026-01-27 10:{minute:02}:{second:02}+01:30"),
                2 => format!("2026-01-27T10:{minute:02}:{}.{millis:03}Z", second + 30),
                3 => format!("{millis}-01-27T10:{minute:02}:{second:02}.{millis:03}Z"),
                _ => format!("2026-01-27T10:{minute:02}:{second:02}.{millis:03}Z"),
            };
            out.extend_from_slice(time.as_bytes());
        }
        Part::Text => {
            for _ in 0..if dice.one_in(12) { dice.below(9) } else { 1 } {
                match dice.below(24) {
                    0 => {}
                    1 => out.extend_from_slice("é一😀".as_bytes()),
                    2 => out.extend_from_slice(
                        dice.pick(&["\\\"", "\\\\", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\/", "\\udc00x"])
                            .as_bytes(),
                    ),
                    3 => out.extend(std::iter::repeat_n(b'a', dice.below(80))),
                    4..14 => out.extend_from_slice(format!("u_{}", dice.below(30)).as_bytes()),
                    _ => out.extend_from_slice(format!("posts:{}", 10_000 + dice.below(5000)).as_bytes()),
                }
            }
        }
        Part::Number => {
            let number = match dice.below(10) {
                0 => format!("-{}", dice.below(10)),
                1 => format!("{}.{:02}", dice.below(100), dice.below(100)),
                2 => format!("{}e{}", dice.below(100), dice.below(20)),
                3 => "9223372036854775808".into(),
                4 => "0".into(),
                _ => dice.below(100_000).to_string(),
            };
            out.extend_from_slice(number.as_bytes());
        }
        Part::Word => out.extend_from_slice(dice.pick(&["true", "false", "null"]).as_bytes()),
    }
}

/// Changes a byte of what was written from `start` on.
fn damage(bytes: &mut Vec<u8>, start: usize, dice: &mut Dice) {
    const BYTES: &[u8] = b"{}[]\",:\\u0123456789.eE+-tfn \n\r\t\0\x1f\x7f\x80\xc3\xa9\xff";
    let length = bytes.len() - start;
    if length == 0 {
        return;
    }
    let at = start + dice.below(length);
    let byte = if dice.one_in(4) { dice.below(256) as u8 } else { dice.pick(BYTES) };
    match dice.below(8) {
        0..3 => bytes[at] = byte,
        3..5 => bytes.insert(at, byte),
        5 => drop(bytes.remove(at)),
        6 => bytes.truncate(at),
        _ => bytes[at] ^= 1 << dice.below(8),
    }
}
