//! What a question is answered with when it has no answer.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A failed question: an HTTP status, a stable code for programs and a message for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// HTTP status, 400..=599.
    pub status: u16,
    /// Stable and lower case, e.g. `unknown_aggregator`.
    pub code: &'static str,
    /// What was asked, why it has no answer, and what to do.
    pub message: String,
}

impl QueryError {
    /// Any status and code.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400: the question itself is wrong.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// 404: there is nothing of that name.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(404, code, message)
    }

    /// 503: not now (starting, stopping, quarantined); asking again may help.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(503, code, message)
    }

    /// 504: what the question waits for did not come in time.
    pub fn timeout(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(504, code, message)
    }

    /// 500: the daemon's own fault.
    pub fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(500, code, message)
    }
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "code": self.code,
            "detail": self.message,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, format!("{problem}\n")).into_response()
    }
}
