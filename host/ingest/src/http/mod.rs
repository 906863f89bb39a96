//! Events by HTTP: what is POSTed becomes lines, and one answer says what became of them.
//!
//! One request goes through `body::read` (unpacked, within bounds), `Lines` (one line for each event, whatever the format was), the
//! queue (all of it or nothing), and a [`Verdict`](crate::Verdict). A client that goes away while it waits for its answer takes nothing back:
//! what was queued is decided. So whoever got no answer sends again, and event ids keep that from counting twice.
//!
//! Pages of other origins cannot write here: no content type that a browser sends without asking first is taken, and nobody is allowed when it
//! asks. Must not know: connections, tokens, `Host` names (the server before this router checks them), what events say.

mod answer;
mod body;
mod cloudevents;
mod content;
mod lines;
mod segment;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::post;
use tally_net::{Peer, problem};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::counters::{Counters, add};
use crate::framer::Framed;
use crate::queue::{self, Permit, Queue, ReserveError};
use crate::stream::Stream;
use answer::{Answer, Failure, Style};
use body::Budget;
use content::{Content, Format};
use lines::Lines;

/// How long a request waits for its turn at a full queue before it is turned away. Sources that wait for room come in turn: without this, busy
/// sockets would leave none to requests.
const QUEUE_PATIENCE: Duration = Duration::from_millis(250);

/// The door's events, for [`router`].
pub struct HttpDoor<C> {
    /// What the source is called, such as `http:127.0.0.1:7072`.
    pub source: Arc<str>,
    /// How lines become events.
    pub presets: HttpPresets,
    /// Where lines go.
    pub queue: Arc<Queue<C>>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Bounds; a change holds from the next request on.
    pub limits: watch::Receiver<HttpLimits>,
    /// What the daemon knows and the door does not.
    pub hooks: Arc<dyn HttpHooks>,
}

/// Indexes of the presets, by route and content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpPresets {
    /// Of `/v1/events`.
    pub default: usize,
    /// Of `/activity`.
    pub activity: usize,
    /// Of `/v1/batch`.
    pub segment: usize,
    /// Of `/v1/track`.
    pub segment_track: usize,
    /// Of `/v1/page`.
    pub segment_page: usize,
    /// Of `/v1/identify`.
    pub segment_identify: usize,
    /// Of CloudEvents on `/v1/events`.
    pub cloudevents: usize,
}

/// Bounds on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The longest body, unpacked, in bytes. All requests together hold at most twice as much.
    pub body_bytes: usize,
    /// The longest line, in bytes without its newline.
    pub line_bytes: usize,
    /// The deepest nesting of a MessagePack event.
    pub depth: u32,
}

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the daemon knows and the door does not.
pub trait HttpHooks: Send + Sync {
    /// Why nothing is taken now, if so: the disk is full, or the daemon stops.
    fn refusing(&self) -> Option<Unavailable>;
    /// Waits until every aggregator has applied the events up to this sequence number; false when one does not in reasonable time.
    fn applied(&self, sequence: u64) -> BoxFuture<'_, bool>;
}

/// Why nothing is taken now; the answer is 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// For programs, such as `disk_full`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// What all requests share.
struct Shared<C> {
    door: HttpDoor<C>,
    /// Bodies that are being read or turned into lines.
    budget: Arc<Budget>,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Accepted,
    Durable,
    Applied,
}

/// Which events a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Events,
    Activity,
    Segment(usize),
    SegmentBatch,
}

/// The routes of a door.
pub fn router<C: Send + 'static>(door: HttpDoor<C>) -> Router {
    let HttpPresets { segment_track, segment_page, segment_identify, .. } = door.presets;
    let shared = Arc::new(Shared { door, budget: Arc::default() });
    let route = |route: Route| {
        post(move |State(shared): State<Arc<Shared<C>>>, request: Request| async move {
            let answered = shared.answer(route, request).await;
            answered.unwrap_or_else(|failure| failure.respond(route.style()))
        })
    };
    Router::new()
        .route("/v1/events", route(Route::Events))
        .route("/activity", route(Route::Activity))
        .route("/v1/track", route(Route::Segment(segment_track)))
        .route("/v1/page", route(Route::Segment(segment_page)))
        .route("/v1/identify", route(Route::Segment(segment_identify)))
        .route("/v1/batch", route(Route::SegmentBatch))
        .method_not_allowed_fallback(async || {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "events are sent by POST")
        })
        .fallback(not_found)
        .with_state(shared)
}

async fn not_found(uri: Uri) -> Response {
    let detail = format!(
        "{} takes no events; POST them to /v1/events, /activity, /v1/track, /v1/page, /v1/identify or /v1/batch",
        uri.path()
    );
    problem(StatusCode::NOT_FOUND, "not_found", detail)
}

impl<C: Send> Shared<C> {
    async fn answer(&self, route: Route, request: Request) -> Result<Response, Failure> {
        let Self { door, budget } = self;
        add(&door.counters.requests, 1);
        let limits = *door.limits.borrow();
        let peer = request.extensions().get::<Peer>().map_or_else(String::new, Peer::to_string);
        let (head, body) = request.into_parts();
        let (wait, content) = match self.asked(route, &head) {
            Ok(asked) => asked,
            // Read nevertheless, or the connection could not go on with the next request.
            Err(failure) => return Err(if body::discard(body).await { failure } else { failure.closing() }),
        };
        let body = body::read(&head.headers, body, limits.body_bytes, budget, &door.counters).await;
        let mut body = body.map_err(Failure::closing)?;
        if content.format.is_missing(body.bytes()) {
            let detail = "the body is empty: it must hold at least one event";
            return Err(Failure::new(StatusCode::BAD_REQUEST, "empty_body", detail));
        }
        let mut lines = Lines::new(&limits, body.bytes().len());
        match content.format {
            Format::One => lines.push_text(body.bytes()),
            Format::Json => lines.push_json(body.bytes()),
            Format::Lines => lines.push_lines(body.bytes()),
            Format::Msgpack => lines.push_msgpack(body.bytes()),
            Format::CloudEvent => cloudevents::push(&head.headers, body.bytes(), &mut lines),
            Format::SegmentBatch => segment::push(body.bytes(), &mut lines),
        }
        let (framed, first_index) = lines.finish()?;
        body.keep_only_room(charge(&framed))?;
        let permit = self.reserve(charge(&framed)).await?;
        drop(body);

        let stream = Stream::collected(Arc::clone(&door.source), peer);
        let lines = self.enqueue(framed, content.preset, &stream, permit)?;
        if wait == Wait::Accepted {
            return Ok(Answer::queued(lines, route.style()));
        }
        let verdict = stream.verdict(lines).await;
        let applied = match wait {
            Wait::Applied if verdict.accepted + verdict.duplicates > 0 => {
                Some(door.hooks.applied(verdict.last_sequence).await)
            }
            Wait::Applied => Some(true),
            _ => None,
        };
        Ok(Answer::decided(verdict, applied, first_index, route.style()))
    }

    /// What the request waits for and what its body must be, if anything is taken now.
    fn asked(&self, route: Route, head: &Parts) -> Result<(Wait, Content), Failure> {
        let wait = Wait::asked(&head.uri)?;
        if let Some(Unavailable { code, detail }) = self.door.hooks.refusing() {
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, code, detail));
        }
        Ok((wait, Content::of(route, &self.door.presets, &head.headers)?))
    }

    /// Room in the queue for everything, at once or after a short wait in turn.
    async fn reserve(&self, bytes: usize) -> Result<Permit, Failure> {
        let door = &self.door;
        match door.queue.try_reserve(bytes) {
            Ok(permit) => return Ok(permit),
            Err(ReserveError::Closed) => return Err(Failure::stopping()),
            Err(ReserveError::Full) => add(&door.counters.queue_waits, 1),
        }
        match timeout(QUEUE_PATIENCE, door.queue.reserve(bytes)).await {
            Ok(reserved) => reserved.map_err(|_| Failure::stopping()),
            Err(_) => {
                add(&door.counters.turned_away, 1);
                let detail = "the queue is full: events come in faster than they can be written; send again later";
                Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail))
            }
        }
    }

    /// Queues everything; the number of lines.
    fn enqueue(
        &self,
        framed: Vec<Framed>,
        preset: usize,
        stream: &Arc<Stream>,
        mut permit: Permit,
    ) -> Result<u64, Failure> {
        let mut lines = 0;
        for framed in framed {
            let permit = permit.split(queue::charge(&framed.body));
            lines += u64::from(framed.lines);
            let queued = stream.admit_reserved(framed, preset, permit, &self.door.queue, &self.door.counters);
            queued.map_err(|_| Failure::stopping())?;
        }
        Ok(lines)
    }
}

fn charge(framed: &[Framed]) -> usize {
    framed.iter().map(|framed| queue::charge(&framed.body)).sum()
}

impl Wait {
    fn asked(uri: &Uri) -> Result<Self, Failure> {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        match pairs.filter(|(key, _)| *key == "wait").map(|(_, value)| value).next_back() {
            None | Some("durable") => Ok(Self::Durable),
            Some("accepted") => Ok(Self::Accepted),
            Some("applied") => Ok(Self::Applied),
            Some(_) => {
                let detail = "wait must be accepted, durable or applied";
                Err(Failure::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail))
            }
        }
    }
}

impl Route {
    fn style(self) -> Style {
        match self {
            Self::Events => Style::Plain,
            Self::Activity => Style::Activity,
            Self::Segment(_) | Self::SegmentBatch => Style::Segment,
        }
    }
}

impl<C> fmt::Debug for HttpDoor<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDoor").field("source", &self.source).finish_non_exhaustive()
    }
}
