//! How fast lines become columns, on one core: `cargo bench -p tally-event --bench decode`.
//!
//! Lines are alike in shape and skew to those of `tally generate` and `tally generate --wide`; `DECODE_LINES=FILE` takes
//! those of a file instead. Each iteration decodes one chunk of [`CHUNK`] lines into a batch, by the plan of the
//! first-party aggregators, or reads them by `serde_json` into a borrowed struct, for scale. Chunks take turns, so that no
//! branch predictor knows them by heart.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use serde::Deserialize;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset};

/// Lines decoded together.
const CHUNK: usize = 4096;
const CHUNKS: usize = 48;

fn main() {
    divan::main();
}

/// The shapes of lines.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// An action.
    Narrow,
    /// An action with properties that nobody asks for.
    Wide,
    /// Actions and fetches of the home page, some with a key more, by chance.
    Mixed,
}

const SHAPES: [Shape; 3] = [Shape::Narrow, Shape::Wide, Shape::Mixed];

#[divan::bench(args = SHAPES)]
fn decode(bencher: Bencher<'_, '_>, shape: Shape) {
    let mut decoder = Decoder::new(Arc::new(plan()));
    run(bencher, shape, |chunk| {
        let pushed = decoder.push(0, chunk, Mode::Admit);
        assert!(pushed.rejects.is_empty());
        black_box(decoder.finish());
    });
}

#[divan::bench(args = SHAPES)]
fn serde_json(bencher: Bencher<'_, '_>, shape: Shape) {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "read into, and never looked at")]
    struct Event<'a> {
        r#type: &'a str,
        timestamp: &'a str,
        user_id: &'a str,
        resource_type: Option<&'a str>,
        action: Option<&'a str>,
    }
    run(bencher, shape, |chunk| {
        for line in chunk[..chunk.len() - 1].split(|&byte| byte == b'\n') {
            let line = std::str::from_utf8(line).expect("the lines are UTF-8");
            black_box(serde_json::from_str::<Event<'_>>(line).expect("the lines are events"));
        }
    });
}

fn run(bencher: Bencher<'_, '_>, shape: Shape, mut work: impl FnMut(&[u8])) {
    let chunks = match std::env::var_os("DECODE_LINES") {
        Some(file) => chunks(&std::fs::read(file).expect("the file can be read")),
        None => chunks(lines(shape).as_bytes()),
    };
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    let mut next = chunks.iter().cycle();
    bencher
        .counter(ItemsCount::new(CHUNK))
        .counter(BytesCount::new(bytes / chunks.len()))
        .bench_local(|| work(next.next().expect("a cycle does not end")));
}

fn chunks(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    lines.chunks_exact(CHUNK).map(|chunk| chunk.concat()).collect()
}

fn lines(shape: Shape) -> String {
    let mut dice = 7_u64;
    let mut roll = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut out = String::new();
    for index in 0..CHUNKS * CHUNK {
        let time = tally_event::time::format(1_769_508_000_001_000 + index as i64 * 1000);
        let time = if time.len() == 20 { time.replace('Z', ".000Z") } else { time };
        // The logarithm of the rank is evenly spread: Zipf's law.
        let user = 1e6_f64.powf(roll()) as u64 * 791_903 % 1_000_000;
        let post = 10_000 + 1e4_f64.powf(roll()) as u64 * 7919 % 10_000;
        let action = match (roll() * 100.0) as u32 {
            0..60 => "view",
            60..80 => "play",
            80..88 => "pause",
            88..94 => "unmute",
            94..97 => "carousel_left",
            _ => "carousel_right",
        };
        let mixed = shape == Shape::Mixed;
        let homepage = mixed && roll() < 0.1;
        let event_type = if homepage { "homepage_fetch" } else { "action" };
        write!(out, r#"{{"type":"{event_type}","timestamp":"{time}","user_id":"u_{user:06}""#).expect("text");
        if mixed && roll() < 0.3 {
            write!(out, r#","session":"s-{:09}""#, (roll() * 1e9) as u64).expect("text");
        }
        if !homepage {
            write!(out, r#","resource_type":"posts:{post}","action":"{action}""#).expect("text");
        }
        if shape == Shape::Wide {
            properties(&mut out, &mut roll);
        }
        out.push_str("}\n");
    }
    out
}

fn properties(out: &mut String, roll: &mut impl FnMut() -> f64) {
    let plan = ["free", "plus", "team", "enterprise"][(roll() * 4.0) as usize];
    let path = ["/", "/watch", "/collections/café", r#"/search?q=\"live\""#][(roll() * 4.0) as usize];
    let (session, views, new) = ((roll() * 1e9) as u64, 100 + (roll() * 256.0) as u64, roll() < 0.5);
    write!(
        out,
        r#","properties":{{"plan":"{plan}","session":{{"id":"s-{session:09}","page_views":{views},"new":{new},"#
    )
    .expect("text");
    write!(
        out,
        r#""referrer":null}},"page":{{"path":"{path}","title":"A page about moving pictures","locale":"en-GB"}},"#
    )
    .expect("text");
    out.push_str(r#""viewport":{"width":1440,"height":900,"scale":1.5},"experiments":["player-v2","autoplay-off"],"#);
    out.push_str(r#""timings":[12.25,0.5,3e2,-1],"device":{"os":"linux","app":"web 4.18.2","memory_gb":16}}"#);
}

/// What the first-party aggregators ask for.
fn plan() -> Plan {
    let actions = manifest("action", &["/user_id", "/resource_type", "/action"]);
    let fetches = manifest("homepage_fetch", &["/user_id"]);
    let subscriber =
        |(name, manifest): (&str, Manifest)| Subscriber { name: name.into(), manifest: Arc::new(manifest) };
    let subscribers = [("video-actions", actions), ("homepage-fetch", fetches)].map(subscriber);
    Plan::new(subscribers.into(), vec![Preset::default()], Limits::default()).expect("the plan is sound")
}

fn manifest(event_type: &str, paths: &[&str]) -> Manifest {
    Manifest {
        fields: paths.iter().map(|&path| Field { path: path.into(), kind: Kind::Text }).collect(),
        event_types: vec![EventType {
            name: event_type.into(),
            required: (0..paths.len() as u32).collect(),
            optional: vec![],
        }],
        ordering: Ordering::Commutative,
        state_version: "1".into(),
        loads: vec![],
        refusals: vec![],
    }
}
