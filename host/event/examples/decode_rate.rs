//! How long decoding takes per line, on one core: `cargo run --release -p tally-event --example decode_rate [FILE]`.
//!
//! Without a file the lines are made here, alike in shape to those of `tally generate`: five text fields, users and posts by
//! Zipf's law, one millisecond apart; then the same with an id, and with a nested object that nobody wants (about 500
//! bytes a line).

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset};

const LINES: usize = 200_000;
const CHUNK: usize = 256 * 1024;
const ROUNDS: usize = 30;

fn main() {
    if let Some(file) = std::env::args().nth(1) {
        let bytes = std::fs::read(&file).expect("the file can be read");
        measure(&file, &bytes, &edits(), 1);
        return;
    }
    measure("five fields", &lines(false, false), &actions(), 0);
    measure("five fields and an event id", &lines(false, true), &actions(), 0);
    measure("five fields and a nested object", &lines(true, false), &actions(), 0);
}

/// Prints the time per line.
fn measure(name: &str, bytes: &[u8], manifest: &Manifest, preset: usize) {
    let subscriber = Subscriber { name: "a".into(), manifest: Arc::new(manifest.clone()) };
    let presets = vec![
        Preset::default(),
        Preset {
            name: "edits".into(),
            constant_type: Some("edit".into()),
            timestamp_path: "/time".into(),
            ..Preset::default()
        },
    ];
    let plan = Plan::new(vec![subscriber], presets, Limits::default()).expect("the plan is sound");
    let mut decoder = Decoder::new(Arc::new(plan));
    let chunks = chunks(bytes);
    let (mut lines, mut rejected) = (0, 0);
    for chunk in &chunks {
        let pushed = decoder.push(preset, chunk, Mode::Admit);
        lines += pushed.lines as usize;
        rejected += pushed.rejects.len();
        decoder.finish();
    }
    let decode = best(&chunks, |chunk| {
        black_box(decoder.push(preset, chunk, Mode::Admit));
        black_box(decoder.finish().for_subscriber(0).rows.len());
    });
    let compare = best(&chunks, compare);
    let per_line = |time: Duration| time.as_nanos() as f64 / lines as f64;
    println!(
        "{name}: {lines} lines of {} bytes, {rejected} rejected: {:.1} ns a line; serde_json, checking only: {:.1} ns",
        bytes.len() / lines,
        per_line(decode),
        per_line(compare),
    );
}

/// For scale: serde_json checks each line and keeps nothing.
fn compare(chunk: &[u8]) {
    let text = std::str::from_utf8(chunk).expect("the lines are UTF-8");
    for line in text.lines() {
        black_box(serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok());
    }
}

/// The time that all chunks take, each at its best over the rounds: other processes disturb chunks, not sums.
#[allow(clippy::disallowed_methods, reason = "this measures and decides nothing")]
fn best(chunks: &[&[u8]], mut work: impl FnMut(&[u8])) -> Duration {
    let mut best = vec![Duration::MAX; chunks.len()];
    for _ in 0..ROUNDS {
        for (best, chunk) in best.iter_mut().zip(chunks) {
            let start = Instant::now();
            work(chunk);
            *best = start.elapsed().min(*best);
        }
    }
    best.into_iter().sum()
}

fn chunks(bytes: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let mut rest = bytes;
    while rest.len() > CHUNK {
        let end = memchr::memrchr(b'\n', &rest[..CHUNK]).map_or(rest.len(), |newline| newline + 1);
        let (chunk, after) = rest.split_at(end);
        chunks.push(chunk);
        rest = after;
    }
    chunks.push(rest);
    chunks
}

fn lines(wide: bool, id: bool) -> Vec<u8> {
    let mut dice = 7_u64;
    let mut roll = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 11) as f64 / (1_u64 << 53) as f64
    };
    let nested = "\"properties\":{\"plan\":\"free\",\"device\":{\"os\":\"linux\",\"screen\":[1920,1080],\"touch\":false},\"tags\":[\"a\",\"b\",\"c\"],\
        \"referrer\":\"https://example.org/some/long/path?with=a&query=string\",\"score\":0.125,\"previous\":null,\"agent\":\
        \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36\",\"session\":{\"id\":\
        \"0f8fad5b-d9cb-469f-a165-70867728950e\",\"page\":17}},";
    let mut out = String::new();
    for index in 0..LINES {
        let action = match (roll() * 100.0) as u32 {
            0..60 => "view",
            60..80 => "play",
            80..88 => "pause",
            88..94 => "unmute",
            94..97 => "carousel_left",
            _ => "carousel_right",
        };
        let user = 1e6_f64.powf(roll()) as u64 * 7919 % 1_000_000;
        let post = 1e4_f64.powf(roll()) as u64;
        let time = tally_event::time::format(1_769_508_000_000_000 + index as i64 * 1000 + 1000);
        let time = if time.len() == 20 { time.replace('Z', ".000Z") } else { time };
        let nested = if wide { nested } else { "" };
        let id = if id { format!("\"event_id\":\"0f8fad5b-d9cb-469f-a165-{index:012x}\",") } else { String::new() };
        out.push_str(&format!(
            "{{\"type\":\"action\",\"timestamp\":\"{time}\",\"user_id\":\"u_{user}\",{id}{nested}\"resource_type\":\"posts:{post}\",\"action\":\"{action}\"}}\n"
        ));
    }
    out.into_bytes()
}

fn actions() -> Manifest {
    manifest("action", &[("/user_id", Kind::Text), ("/resource_type", Kind::Text), ("/action", Kind::Text)])
}

fn edits() -> Manifest {
    let text = ["/channel", "/page", "/user", "/countryName"].map(|path| (path, Kind::Text));
    let integers = ["/added", "/deleted", "/delta"].map(|path| (path, Kind::Integer));
    let booleans = ["/isRobot", "/isAnonymous"].map(|path| (path, Kind::Boolean));
    manifest("edit", &[&text[..], &integers, &booleans].concat())
}

fn manifest(name: &str, fields: &[(&str, Kind)]) -> Manifest {
    let field = |&(path, kind): &(&str, Kind)| Field { path: path.into(), kind };
    Manifest {
        fields: fields.iter().map(field).collect(),
        event_types: vec![EventType {
            name: name.into(),
            required: vec![],
            optional: (0..fields.len() as u32).collect(),
        }],
        ordering: Ordering::Commutative,
        state_version: "1".into(),
        loads: vec![],
        refusals: vec![],
    }
}
