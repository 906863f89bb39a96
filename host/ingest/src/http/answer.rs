//! What a request is answered: one body for every route, with the words that clients of some routes look for. Must not know: how events came.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tally_net::problem;

use crate::stream::{RejectedLine, Verdict};

/// Seconds after which to try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What clients of a route look for in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing beyond the counts.
    Plain,
    /// `"status":"ok"` or `"status":"error"`; a failure on this side is 500.
    Activity,
    /// `"success":true` or `"success":false`.
    Segment,
}

/// The body of an answer to events.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Queued {
        queued: u64,
    },
    Decided {
        accepted: u64,
        rejected: u64,
        duplicates: u64,
        last_sequence: u64,
        rejects: Vec<Reject>,
        rejects_left_out: u64,
    },
}

#[derive(Debug, Serialize)]
struct Reject {
    /// Which event of the body, from 0.
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    reason: &'static str,
    detail: String,
}

impl Answer {
    /// 202: nothing is known of the events yet.
    pub fn queued(queued: u64, style: Style) -> Response {
        Self::respond(StatusCode::ACCEPTED, true, What::Queued { queued }, style)
    }

    /// 200, or 400 when every event was rejected. The first line of the verdict is event `first_index` of the body.
    pub fn decided(verdict: Verdict, first_index: u64, style: Style) -> Response {
        let Verdict { lines: _, accepted, rejected, duplicates, last_sequence, rejects, left_out } = verdict;
        let rejects = rejects.into_iter().map(|RejectedLine { line, reason, field, detail }| Reject {
            index: first_index + u64::from(line),
            field,
            reason,
            detail,
        });
        let rejects = rejects.collect();
        let fine = rejected == 0 || accepted + duplicates > 0;
        let status = if fine { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let what = What::Decided { accepted, rejected, duplicates, last_sequence, rejects, rejects_left_out: left_out };
        Self::respond(status, fine, what, style)
    }

    fn respond(code: StatusCode, fine: bool, what: What, style: Style) -> Response {
        let status = (style == Style::Activity).then_some(if fine { "ok" } else { "error" });
        let success = (style == Style::Segment).then_some(fine);
        (code, Json(Self { status, success, what })).into_response()
    }
}

/// Why a request's events were not looked at.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// The connection cannot go on, since the body was not read to its end.
    closes: bool,
}

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), closes: false }
    }

    /// The body was not read to its end.
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    pub fn stopping() -> Self {
        let detail = "the daemon is stopping; send again once it is back";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail)
    }

    /// Too many bodies are under way.
    pub fn no_room() -> Self {
        let detail = "the requests under way hold as much memory as they may; send again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_bodies", detail)
    }

    /// True when another time may be better.
    pub fn is_for_want_of_room(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    pub fn too_large(what: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", what)
    }

    /// As a problem, with what helps the client on.
    pub fn respond(self, style: Style) -> Response {
        let Self { status, code, detail, closes } = self;
        let later = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let status = match style {
            Style::Activity if later => StatusCode::INTERNAL_SERVER_ERROR,
            _ => status,
        };
        let mut response = problem(status, code, detail);
        let headers = response.headers_mut();
        if closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if later {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if code == "unsupported_encoding" {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}
