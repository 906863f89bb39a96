//! A request's body, whole and unpacked. Must not know: what is in it.
//!
//! Bounds: a body within its limit, whatever its packed size; all bodies together within twice that; and a time for each to arrive. A body
//! is charged as it comes, not by the length it announces, so that nobody holds room with a promise.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt as _;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::answer::Failure;
use crate::counters::{Counters, add};

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of a body that is not wanted is read all the same, and for how long.
const MOST_UNWANTED: usize = 256 * 1024;
const UNWANTED_PATIENCE: Duration = Duration::from_secs(1);
/// How many bodies of full length fit at a time.
const FULL_BODIES: usize = 2;
/// How much is unpacked at a stretch before other connections get their turn: a little gzip can become a lot of body.
const STRETCH: usize = 128 * 1024;
/// How much gzip is unpacked at once; it may become a thousand times as much.
const PACKED_PIECE: usize = 128;
/// The smallest room a body takes, so that it does not grow by drops.
const SMALLEST: usize = 4 * 1024;

/// How many bytes all bodies hold.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

/// A body and the room it takes, given back when dropped.
#[derive(Debug)]
pub(super) struct Unpacked {
    bytes: Vec<u8>,
    /// Of the body, and a fourth of the budget.
    most: usize,
    budget: Arc<Budget>,
    held: usize,
    /// Why writing to it failed.
    failure: Option<Failure>,
}

/// Reads it to its end.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    budget: &Arc<Budget>,
    counters: &Counters,
) -> Result<Unpacked, Failure> {
    let packed = packed(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large(most));
    }
    let to = Unpacked { bytes: Vec::new(), most, budget: Arc::clone(budget), held: 0, failure: None };
    let to = if packed { Unpacking::Gzip(Box::new(MultiGzDecoder::new(to))) } else { Unpacking::Plain(to) };
    let body = timeout(PATIENCE, receive(body, to, most, counters)).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} seconds", PATIENCE.as_secs());
        Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
    });
    if body.as_ref().is_err_and(Failure::is_for_want_of_room) {
        add(&counters.turned_away, 1);
    }
    body
}

/// Reads a body that nobody wants, if it is short; whether it was read to its end.
pub(super) async fn discard(mut body: Body) -> bool {
    if HttpBody::size_hint(&body).lower() >= MOST_UNWANTED as u64 {
        return false;
    }
    let mut came = 0;
    let read = async {
        while let Some(frame) = body.frame().await {
            came += frame.ok().and_then(|frame| frame.into_data().ok()).map_or(MOST_UNWANTED, |data| data.len());
            if came >= MOST_UNWANTED {
                return false;
            }
        }
        true
    };
    timeout(UNWANTED_PATIENCE, read).await.unwrap_or(false)
}

async fn receive(mut body: Body, mut to: Unpacking, most: usize, counters: &Counters) -> Result<Unpacked, Failure> {
    let mut came = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let detail = format!("the body broke off after {came} bytes: {error}");
            Failure::new(StatusCode::BAD_REQUEST, "body_cut_off", detail)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        came += data.len();
        add(&counters.bytes_read, data.len() as u64);
        if came > most {
            return Err(too_large(most));
        }
        to.write(&data).await?;
    }
    to.finish()
}

/// A body on its way.
enum Unpacking {
    Plain(Unpacked),
    Gzip(Box<MultiGzDecoder<Unpacked>>),
}

impl Unpacking {
    async fn write(&mut self, data: &[u8]) -> Result<(), Failure> {
        let decoder = match self {
            Self::Plain(to) => return to.append(data),
            Self::Gzip(decoder) => decoder,
        };
        let mut stretch_began = decoder.get_ref().bytes.len();
        for piece in data.chunks(PACKED_PIECE) {
            decoder.write_all(piece).map_err(|_| failed(decoder))?;
            if decoder.get_ref().bytes.len() - stretch_began > STRETCH {
                stretch_began = decoder.get_ref().bytes.len();
                yield_now().await;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Unpacked, Failure> {
        match self {
            Self::Plain(to) => Ok(to),
            Self::Gzip(mut decoder) => {
                // Its end may bring the rest of the data, or show that there is none.
                decoder.try_finish().map_err(|_| failed(&mut decoder))?;
                decoder.finish().map_err(|_| not_gzip())
            }
        }
    }
}

/// Why unpacking failed: for want of room, or for what was packed.
fn failed(decoder: &mut MultiGzDecoder<Unpacked>) -> Failure {
    decoder.get_mut().failure.take().unwrap_or_else(not_gzip)
}

/// Whether the body is gzip.
fn packed(headers: &HeaderMap) -> Result<bool, Failure> {
    let given = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim());
    match given.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "identity") => Ok(false),
        Some("gzip" | "x-gzip") => Ok(true),
        Some(other) => {
            let detail = format!("the Content-Encoding {other} is not taken; send gzip, or none");
            Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail))
        }
    }
}

fn not_gzip() -> Failure {
    let detail = "the body is no gzip, or not whole, or damaged; Content-Encoding says that it is gzip";
    Failure::new(StatusCode::BAD_REQUEST, "invalid_gzip", detail)
}

fn too_large(most: usize) -> Failure {
    Failure::too_large(format!(
        "the body has more than {most} bytes (limits.body_bytes), unpacked; send fewer events at a time"
    ))
}

impl Unpacked {
    /// What came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Drops the body, and keeps room for the `bytes` that it has become.
    pub fn keep_only_room(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = Vec::new();
        if bytes > self.held { self.cover(bytes) } else { Ok(()) }
    }

    fn append(&mut self, data: &[u8]) -> Result<(), Failure> {
        let length = self.bytes.len() + data.len();
        if length > self.most {
            return Err(too_large(self.most));
        }
        if length > self.bytes.capacity() {
            let room = (self.bytes.capacity() * 2).clamp(SMALLEST, self.most.max(SMALLEST)).max(length);
            self.cover(room)?;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Takes room for so many bytes in all.
    fn cover(&mut self, bytes: usize) -> Result<(), Failure> {
        let more = bytes - self.held;
        let most = self.most.saturating_mul(FULL_BODIES).max(SMALLEST * FULL_BODIES);
        let taken = self.budget.0.fetch_update(Relaxed, Relaxed, |used| {
            let after = used + more;
            (after <= most).then_some(after)
        });
        if taken.is_err() {
            return Err(Failure::no_room());
        }
        self.held = bytes;
        Ok(())
    }
}

impl Write for Unpacked {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.append(data) {
            Ok(()) => Ok(data.len()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::ErrorKind::OutOfMemory.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(mem::take(&mut self.held), Relaxed);
    }
}
