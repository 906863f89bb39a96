//! Events by HTTP: a router without a server, and a stand-in for everything behind the queue.

mod bounds;
mod formats;
mod routes;

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::body::{Body as HttpBody, to_bytes};
use axum::http::{Request, Response, StatusCode};
use serde_json::Value;
use tally_ingest::http::{BoxFuture, HttpDoor, HttpHooks, HttpLimits, HttpPresets, Unavailable, router};
use tally_ingest::{Body, Chunk, Counters, CountersSnapshot, Decision, Popped, Queue, Refusal, RejectedLine};
use tokio::sync::watch;
use tower::ServiceExt as _;

const LIMITS: HttpLimits = HttpLimits { body_bytes: 1 << 20, line_bytes: 10_000, depth: 8 };
const PRESETS: HttpPresets = HttpPresets {
    default: 0,
    activity: 1,
    segment: 2,
    segment_track: 3,
    segment_page: 4,
    segment_identify: 5,
    cloudevents: 6,
};
const NAMES: [&str; 7] =
    ["default", "activity", "segment", "segment-track", "segment-page", "segment-identify", "cloudevents"];

/// What the router asks of the daemon.
#[derive(Default)]
struct Daemon {
    refusing: Mutex<Option<Unavailable>>,
    applied: Mutex<Vec<u64>>,
}

impl HttpHooks for Daemon {
    fn refusing(&self) -> Option<Unavailable> {
        self.refusing.lock().expect("no panic").clone()
    }

    fn applied(&self, sequence: u64) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            self.applied.lock().expect("no panic").push(sequence);
            true
        })
    }
}

struct Door {
    router: Router,
    queue: Arc<Queue<()>>,
    counters: Arc<Counters>,
    daemon: Arc<Daemon>,
    limits: watch::Sender<HttpLimits>,
    decider: Option<JoinHandle<()>>,
    /// `preset: text` of every line that came through the queue.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Door {
    fn open() -> Self {
        let mut door = Self::undecided(1 << 20);
        let (queue, seen) = (Arc::clone(&door.queue), Arc::clone(&door.seen));
        door.decider = Some(thread::spawn(move || decide_all(&queue, &seen)));
        door
    }

    /// One behind which nobody takes anything off the queue.
    fn undecided(queue_bytes: usize) -> Self {
        let queue = Queue::new(queue_bytes);
        let counters = Arc::new(Counters::default());
        let daemon = Arc::new(Daemon::default());
        let (limits, watched) = watch::channel(LIMITS);
        let router = router(HttpDoor {
            source: "http:test".into(),
            presets: PRESETS,
            queue: Arc::clone(&queue),
            counters: Arc::clone(&counters),
            limits: watched,
            hooks: Arc::clone(&daemon) as Arc<dyn HttpHooks>,
        });
        Self { router, queue, counters, daemon, limits, decider: None, seen: Arc::default() }
    }

    async fn send(&self, request: Request<HttpBody>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("a router always answers");
        Answer::of(response).await
    }

    async fn post(&self, path: &str, media: &str, body: impl Into<HttpBody>) -> Answer {
        self.send(request(path, media).body(body.into()).expect("a request")).await
    }

    /// The answer and then the lines that came of it.
    async fn shown(&self, path: &str, media: &str, body: impl Into<HttpBody>) -> String {
        let answer = self.post(path, media, body).await;
        let mut shown = format!("{}\n", answer.shown());
        for line in self.seen() {
            shown.push_str(&format!("  {line}\n"));
        }
        shown
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().expect("no panic"))
    }

    fn counts(&self) -> CountersSnapshot {
        self.counters.snapshot()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(decider) = self.decider.take() {
            let ended = decider.join();
            assert!(ended.is_ok() || thread::panicking(), "the decider panicked");
        }
    }
}

fn request(path: &str, media: &str) -> axum::http::request::Builder {
    let builder = Request::post(path);
    if media.is_empty() { builder } else { builder.header("content-type", media) }
}

struct Answer {
    status: StatusCode,
    retry_after: Option<String>,
    body: String,
}

impl Answer {
    async fn of(response: Response<HttpBody>) -> Self {
        let status = response.status();
        let header = response.headers().get("retry-after");
        let retry_after = header.map(|value| value.to_str().expect("text").to_owned());
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        Self { status, retry_after, body: String::from_utf8(body.into()).expect("text") }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Code and body; of a problem only what differs from one to the other.
    fn shown(&self) -> String {
        let later = if self.retry_after.is_some() { " (later)" } else { "" };
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let what = match (body["code"].as_str(), body["detail"].as_str()) {
            (Some(code), Some(detail)) => format!("{code}: {detail}"),
            _ => self.body.clone(),
        };
        format!("{}{later} {what}", self.status.as_u16())
    }
}

/// Decides everything: text that is no JSON is rejected, and so is an event with `"bad"`; one with `"dup"` was seen before.
fn decide_all(queue: &Queue<()>, seen: &Mutex<Vec<String>>) {
    let mut sequence = 0;
    loop {
        match queue.pop(1 << 20) {
            Popped::Closed => return,
            Popped::Control(()) => {}
            Popped::Chunks(chunks) => chunks.iter().for_each(|chunk| decide(chunk, &mut sequence, seen)),
        }
    }
}

fn decide(chunk: &Chunk, sequence: &mut u64, seen: &Mutex<Vec<String>>) {
    assert!(chunk.charge() >= chunk.body.capacity() + 256, "it is charged for");
    let (mut rejects, mut duplicates) = (Vec::new(), 0);
    let mut reject = |line, reason, field: Option<&str>, detail: String| {
        rejects.push(RejectedLine { line, reason, field: field.map(str::to_owned), detail });
    };
    let preset = NAMES[chunk.preset];
    match &chunk.body {
        Body::Refused { refusal, prefix } => {
            let (reason, detail) = match refusal {
                Refusal::TooLong { length } => ("line_too_long", format!("{length} bytes")),
                Refusal::Encoding { detail } => ("invalid_encoding", detail.clone()),
                Refusal::Malformed { detail } => ("invalid_json", detail.clone()),
            };
            reject(0, reason, None, detail);
            seen.lock().expect("no panic").push(format!("{preset}: refused, {} bytes kept", prefix.len()));
        }
        Body::Lines(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            assert!(text.ends_with('\n') && text.lines().count() == chunk.lines as usize);
            for (line, text) in (0..).zip(text.lines()) {
                seen.lock().expect("no panic").push(format!("{preset}: {text}"));
                match serde_json::from_str::<Value>(text) {
                    Err(error) => reject(line, "invalid_json", None, error.to_string()),
                    Ok(value) if value.get("bad").is_some() => {
                        reject(line, "invalid_timestamp", Some("/timestamp"), "no time".to_owned());
                    }
                    Ok(value) if value.get("dup").is_some() => duplicates += 1,
                    Ok(_) => *sequence += 1,
                }
            }
        }
    }
    chunk.stream.decided(&Decision { lines: chunk.lines, duplicates, last_sequence: *sequence, rejects: &rejects });
}
