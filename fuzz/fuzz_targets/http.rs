//! A request to the HTTP door: whatever its route, type and body, the answer is one of those that are documented, and what
//! is queued is what it counts; JSON arrays and lines, plain or packed, become the events that serde_json finds in them.
#![no_main]

use std::io::Read;
use std::sync::{Arc, LazyLock};

use axum::body::{Body as HttpBody, to_bytes};
use axum::http::Request;
use flate2::read::MultiGzDecoder;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use tally_fuzz::Input;
use tally_ingest::http::{BoxFuture, HttpDoor, HttpHooks, HttpLimits, HttpPresets, Unavailable, router};
use tally_ingest::{Body, Counters, Popped, Queue};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tower::ServiceExt as _;

const LIMITS: HttpLimits = HttpLimits { body_bytes: 64 << 10, line_bytes: 2000, depth: 8 };
const ROUTES: [&str; 8] =
    ["/v1/events", "/v1/events", "/v1/events", "/activity", "/v1/track", "/v1/page", "/v1/identify", "/v1/batch"];
const MEDIA: [&str; 8] = [
    "application/json",
    "application/x-ndjson",
    "application/msgpack",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/json; charset=utf-8",
    "text/plain",
    "",
];

/// White space of JSON.
const SPACE: &[u8] = b" \t\r\n";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// A daemon that takes everything.
struct Takes;

impl HttpHooks for Takes {
    fn refusing(&self) -> Option<Unavailable> {
        None
    }

    fn applied(&self, _: u64) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (what, media) = (input.byte(), input.byte());
    let (route, packed) = (ROUTES[usize::from(what & 7)], what & 8 != 0);
    let media = MEDIA[usize::from(media & 7)];
    let mut request = Request::post(format!("{route}?wait=accepted"));
    if !media.is_empty() {
        request = request.header("content-type", media);
    }
    if packed {
        request = request.header("content-encoding", "gzip");
    }
    if what & 16 != 0 {
        request =
            request.header("ce-specversion", "1.0").header("ce-type", input.short()).header("ce-id", input.short());
    }
    let body = input.rest();
    // A header may hold what HTTP allows and nothing else.
    let Ok(request) = request.body(HttpBody::from(body.to_vec())) else { return };

    let (status, answer, lines) = send(request);
    let reason = answer["code"].as_str().unwrap_or_default();
    match status {
        202 => {
            assert_eq!(answer_lines(&answer, route), lines.len() as u64, "{answer}");
            let expected = expected(route, media, what & 16 != 0, &unpacked(body, packed));
            if let Some(expected) = expected {
                assert_eq!(lines, expected);
            }
        }
        400 | 413 | 415 => assert!(lines.is_empty() && (!reason.is_empty() || route != "/v1/events"), "{answer}"),
        _ => panic!("{status} {answer}"),
    }
});

/// A line that was queued, or none for one that is refused unseen.
type Line = Option<Vec<u8>>;

fn send(request: Request<HttpBody>) -> (u16, Value, Vec<Line>) {
    let queue: Arc<Queue<()>> = Queue::new(1 << 20);
    let (_sender, limits) = watch::channel(LIMITS);
    let router = router(HttpDoor {
        source: "http:test".into(),
        presets: HttpPresets {
            default: 0,
            activity: 1,
            segment: 2,
            segment_track: 3,
            segment_page: 4,
            segment_identify: 5,
            cloudevents: 6,
        },
        queue: Arc::clone(&queue),
        counters: Arc::new(Counters::default()),
        limits,
        hooks: Arc::new(Takes),
    });
    let (status, answer) = RUNTIME.block_on(async {
        let response = router.oneshot(request).await.expect("a router always answers");
        let status = response.status().as_u16();
        (status, to_bytes(response.into_body(), 1 << 20).await.expect("a body"))
    });
    queue.close();
    let mut lines = Vec::new();
    while let Popped::Chunks(chunks) = queue.pop(1 << 20) {
        for chunk in chunks {
            let before = lines.len();
            match &chunk.body {
                Body::Refused { .. } => lines.push(None),
                Body::Lines(text) => {
                    assert_eq!(text.last(), Some(&b'\n'), "whole lines");
                    let text = text[..text.len() - 1].split(|&byte| byte == b'\n');
                    lines.extend(text.map(|line| Some(line.to_vec())));
                }
            }
            assert_eq!(lines.len() - before, chunk.lines as usize);
        }
    }
    (status, serde_json::from_slice(&answer).unwrap_or_default(), lines)
}

fn answer_lines(answer: &Value, route: &str) -> u64 {
    let of_events = ["queued", "received", "lines"].iter().find_map(|name| answer[name].as_u64());
    of_events.unwrap_or_else(|| panic!("no count in the answer of {route}: {answer}"))
}

fn unpacked(body: &[u8], packed: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    if packed {
        MultiGzDecoder::new(body).read_to_end(&mut bytes).expect("it was taken");
        bytes
    } else {
        body.to_vec()
    }
}

/// The events of the formats that are JSON in a plain way; lines over the limit are refused unseen.
fn expected(route: &str, media: &str, cloudevent: bool, body: &[u8]) -> Option<Vec<Line>> {
    let line = |text: &[u8]| (text.len() <= LIMITS.line_bytes).then(|| text.to_vec());
    // Within an event a newline, which is white space there, becomes a tab.
    let flat = |text: &str| line(text.replace('\n', "\t").as_bytes());
    match (route, media) {
        ("/v1/events", "application/json" | "application/json; charset=utf-8") if !cloudevent => {
            match serde_json::from_slice::<Vec<&RawValue>>(body) {
                Ok(events) => Some(events.into_iter().map(|event| flat(event.get())).collect()),
                Err(_) if body.iter().find(|byte| !SPACE.contains(byte)) == Some(&b'[') => Some(vec![None]),
                Err(_) => None,
            }
        }
        ("/v1/events", "application/x-ndjson") if !cloudevent => {
            let blank = |line: &&[u8]| !line.iter().all(|byte| SPACE.contains(byte));
            Some(body.split(|&byte| byte == b'\n').filter(blank).map(line).collect())
        }
        _ => None,
    }
}
