//! Which path leads to which method of the backend.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::{Backend, QueryError, parameters};

/// Every route, for one backend.
pub(crate) fn router<B: Backend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/health", get(async || Answer(Ok(json!({"status": "ok"})))))
        .route("/v1/status", get(status::<B>))
        .route("/v1/plugins", get(plugins::<B>))
        .route("/v1/plugins/reload", post(reload::<B>))
        .route("/v1/aggregators", get(aggregators::<B>))
        .route("/v1/aggregators/{name}", get(ask::<B>))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(backend)
}

/// One line of JSON, or a problem document.
struct Answer(Result<Value, QueryError>);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(value) => ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response(),
            Err(error) => error.into_response(),
        }
    }
}

async fn status<B: Backend>(State(backend): State<Arc<B>>) -> Answer {
    Answer(backend.status().await)
}

async fn plugins<B: Backend>(State(backend): State<Arc<B>>) -> Answer {
    Answer(backend.plugins().await)
}

/// In a task of its own: a client that hangs up must not leave a reload half done.
async fn reload<B: Backend>(State(backend): State<Arc<B>>) -> Answer {
    let task = tokio::spawn(async move { backend.reload().await });
    Answer(task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a reload ended by itself");
        Err(QueryError::internal("reload_failed", "the reload ended by itself; see the daemon's log"))
    }))
}

async fn aggregators<B: Backend>(State(backend): State<Arc<B>>) -> Answer {
    Answer(backend.aggregators().await)
}

async fn ask<B: Backend>(State(backend): State<Arc<B>>, Path(name): Path<String>, uri: Uri) -> Answer {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|Query(pairs)| pairs).map_err(|error| {
        QueryError::bad_request("invalid_parameter", format!("the parameters cannot be read: {error}"))
    });
    Answer(match pairs.and_then(parameters::parse) {
        Ok(ask) => backend.ask(&name, ask).await,
        Err(error) => Err(error),
    })
}

async fn unknown_route(uri: Uri) -> QueryError {
    QueryError::not_found(
        "unknown_route",
        format!(
            "there is nothing at {}; there are /health, /v1/status, /v1/plugins, /v1/plugins/reload, /v1/aggregators and /v1/aggregators/NAME",
            uri.path()
        ),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> QueryError {
    let right = if uri.path().ends_with("/reload") { "POST" } else { "GET" };
    QueryError::new(405, "wrong_method", format!("{} does not take {method}; use {right}", uri.path()))
}
