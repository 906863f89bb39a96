//! Questions and orders to a daemon: one request per connection over its query or admin socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The body of the answer to a GET.
pub fn text(socket: &Path, path: &str) -> Result<String> {
    request(socket, "GET", path).with_context(|| format!("asking {} for {path}", socket.display()))
}

/// The body of the answer to a POST.
pub fn order(socket: &Path, path: &str) -> Result<String> {
    request(socket, "POST", path).with_context(|| format!("posting {path} to {}", socket.display()))
}

/// The same as JSON.
pub fn json(socket: &Path, path: &str) -> Result<Value> {
    serde_json::from_str(&text(socket, path)?).with_context(|| format!("the answer to {path} is not JSON"))
}

fn request(socket: &Path, method: &str, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let nothing = "Content-Length: 0\r\nConnection: close";
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{nothing}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP answer: {answer:?}") };
    let fine = head.split(' ').nth(1) == Some("200");
    ensure!(fine, "{}: {body}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}
