//! An HTTP/1 client over any stream: one connection, kept open between requests, opened again when it was closed. Knows
//! problem documents; knows no route.

use std::time::Duration;

use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::address::Endpoint;
use crate::connect::{self, Access};
use crate::progress::Stopwatch;

/// Longest answer taken, bytes.
const MAX_ANSWER: usize = 1 << 30;
/// A connection that was not used for so long may have been closed.
const IDLE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    access: Access,
    token: Option<String>,
    patience: Duration,
    open: Option<(SendRequest<Full<Bytes>>, Stopwatch)>,
}

/// A request's answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

/// A request that came to no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was sent: asking again repeats nothing.
    Unsent(anyhow::Error),
    /// It may have been taken.
    Unknown(anyhow::Error),
}

impl Failure {
    /// The error, whichever it is.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Failure::Unsent(error) | Failure::Unknown(error) => error,
        }
    }
}

impl Client {
    /// A client that has not connected yet; an answer may take `patience`.
    pub fn new(endpoint: Endpoint, access: Access, patience: Duration) -> anyhow::Result<Client> {
        let token = access.token()?;
        Ok(Client { endpoint, access, token, patience, open: None })
    }

    /// One request and its answer, whatever its status.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let mut sender = self.sender().await.map_err(Failure::Unsent)?;
        let request = self.request(method, path, headers, body).map_err(Failure::Unsent)?;
        let asking = async {
            let response = sender.send_request(request).await.with_context(|| self.talking())?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER)
                .collect()
                .await
                .map_err(|error| anyhow!("the answer of {} broke off: {error}", self.endpoint))?
                .to_bytes();
            anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let answer = tokio::time::timeout(self.patience, asking).await;
        let late = || anyhow!("no answer from {} within {} s", self.endpoint, self.patience.as_secs());
        let answer = answer.unwrap_or_else(|_| Err(late())).map_err(Failure::Unknown)?;
        self.open = Some((sender, Stopwatch::start()));
        Ok(answer)
    }

    /// The open connection if the daemon has kept it, or a new one.
    async fn sender(&mut self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        if let Some((mut sender, used)) = self.open.take() {
            if used.elapsed() > IDLE {
                // That the daemon has closed it meanwhile is to be noticed here, not by the request.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = connect::open(&self.endpoint, &self.access).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(|| self.talking())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.endpoint.authority())
            .header(USER_AGENT, concat!("tally/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(Full::new(body))?)
    }

    fn talking(&self) -> String {
        match self.endpoint {
            Endpoint::Unix(_) => format!("cannot ask {}; is that a query socket (PATH.query)?", self.endpoint),
            Endpoint::Tcp { .. } => format!("cannot ask {}; does it speak HTTP?", self.endpoint),
        }
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("the daemon answered {} with something that is not JSON", self.status))
    }

    /// What went wrong, in one line.
    pub fn problem(&self) -> String {
        let document = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        problem(self.status.as_u16(), &document)
    }

    /// How long the daemon asks to wait before the next request.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: f64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// A problem document in one line.
fn problem(status: u16, document: &Value) -> String {
    let detail = document["detail"].as_str().unwrap_or("the daemon gave no reason");
    match document["code"].as_str() {
        Some(code) => format!("{detail} ({status} {code})"),
        None => format!("{detail} ({status})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_in_one_line() {
        let document = serde_json::json!({"detail": "there is no aggregator `x`", "code": "unknown_aggregator"});
        assert_eq!(problem(404, &document), "there is no aggregator `x` (404 unknown_aggregator)");
        assert_eq!(problem(500, &Value::Null), "the daemon gave no reason (500)");
    }
}
