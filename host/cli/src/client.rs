//! Asks a daemon over its query socket: one request, one JSON answer. Knows HTTP and problem documents, no route.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Longest answer taken, bytes.
const MAX_ANSWER: usize = 1 << 30;
/// What an answer may take on top of what the question asked to wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where to ask.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// The daemon's query socket (its event socket's path with .query appended, unless configured)
    #[arg(long = "to", value_name = "QUERY_SOCKET", env = "TALLY_QUERY_SOCKET", value_parser = socket_path)]
    socket: PathBuf,
}

/// `PATH` or `unix:PATH`.
fn socket_path(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.is_empty() {
        return Err("write the path of the query socket, e.g. /tmp/tally.sock.query".to_string());
    }
    Ok(PathBuf::from(path))
}

impl Target {
    /// `GET path`; `path` has its parameters encoded already.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path)
    }

    /// `POST path` without a body.
    pub fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::POST, path)
    }

    fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = async { tokio::time::timeout(PATIENCE, exchange(&self.socket, method, path)).await };
        runtime.block_on(answer).unwrap_or_else(|_| {
            bail!(
                "no answer from {} within {} s; is that a query socket (PATH.query), and does the daemon run?",
                self.socket.display(),
                PATIENCE.as_secs()
            )
        })
    }
}

async fn exchange(socket: &Path, method: Method, path: &str) -> anyhow::Result<Value> {
    let stream = UnixStream::connect(socket).await.map_err(|error| explain_connect(socket, error))?;
    let talking = || format!("cannot ask {}; is that a query socket (PATH.query)?", socket.display());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(talking)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "tally")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(talking)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow!("the answer of {} broke off: {error}", socket.display()))?
        .to_bytes();
    connection.abort();
    let value: Value = serde_json::from_slice(&body)
        .with_context(|| format!("{} answered {status} with something that is not JSON", socket.display()))?;
    if status.is_success() {
        return Ok(value);
    }
    bail!("{}", problem(status.as_u16(), &value))
}

/// Why a connection failed and what to do, for the common reasons.
pub fn explain_connect(socket: &Path, error: std::io::Error) -> anyhow::Error {
    let what_to_do = match error.kind() {
        ErrorKind::NotFound => "there is no such socket; start the daemon with `tally run`, or check the path",
        ErrorKind::ConnectionRefused => "no daemon listens there; start it with `tally run`",
        ErrorKind::PermissionDenied => "you may not use it; join the socket's group or ask as the daemon's user",
        _ => "check the path",
    };
    anyhow::Error::new(error).context(format!("cannot connect to {} ({what_to_do})", socket.display()))
}

/// A problem document in one line.
fn problem(status: u16, document: &Value) -> String {
    let detail = document["detail"].as_str().unwrap_or("the daemon gave no reason");
    match document["code"].as_str() {
        Some(code) => format!("{detail} ({status} {code})"),
        None => format!("{detail} ({status})"),
    }
}

/// Encodes a piece of a path or a parameter's value.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_url_is_encoded() {
        assert_eq!(encode("a-b_c.d~9"), "a-b_c.d~9");
        assert_eq!(encode("a/b?c=d&é %"), "a%2Fb%3Fc%3Dd%26%C3%A9%20%25");
    }

    #[test]
    fn problems_are_told_in_one_line() {
        let document = serde_json::json!({"detail": "there is no aggregator `x`", "code": "unknown_aggregator"});
        assert_eq!(problem(404, &document), "there is no aggregator `x` (404 unknown_aggregator)");
        assert_eq!(problem(500, &Value::Null), "the daemon gave no reason (500)");
    }

    #[test]
    fn a_socket_nobody_listens_on_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("q");
        let target = Target { socket: socket.clone() };
        let missing = format!("{:#}", target.get("/").unwrap_err());
        assert!(missing.contains("there is no such socket; start the daemon"), "{missing}");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let refused = format!("{:#}", target.get("/").unwrap_err());
        assert!(refused.contains("no daemon listens there"), "{refused}");
    }
}
