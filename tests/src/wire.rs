//! Clients of every stream door: lines over Unix, TCP and TLS, and one HTTP request at a time. Knows protocols only from
//! outside, and shares no code with the product.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::root;

/// How long a read may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream to a door.
pub trait Wire: Read + Write + Send {}

impl<S: Read + Write + Send> Wire for S {}

/// A Unix socket.
pub fn unix(path: &Path) -> Box<dyn Wire> {
    let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("connecting to {}: {error}", path.display()));
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    Box::new(stream)
}

/// A TCP connection.
pub fn tcp(address: &str) -> Box<dyn Wire> {
    Box::new(plain(address))
}

/// TLS to a daemon that shows the certificate of [`certificate`].
pub fn tls(address: &str) -> Box<dyn Wire> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(certificate().0).expect("the certificate");
    roots.add(trusted).expect("a usable certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    Box::new(StreamOwned::new(session, plain(address)))
}

/// Certificate and key for `localhost`, for tests alone.
pub fn certificate() -> (PathBuf, PathBuf) {
    let folder = root().join("host/cli/tests/tls");
    (folder.join("cert.pem"), folder.join("key.pem"))
}

fn plain(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// A client of the line protocol.
pub struct Lines {
    stream: BufReader<Box<dyn Wire>>,
}

impl Lines {
    /// Begins with this line.
    pub fn begin(stream: Box<dyn Wire>, first_line: &str) -> Self {
        let mut lines = Self { stream: BufReader::new(stream) };
        lines.write(format!("{first_line}\n"));
        lines
    }

    /// Writes bytes. A daemon that has said its last word need not read them.
    pub fn write(&mut self, text: impl AsRef<[u8]>) {
        let stream = self.stream.get_mut();
        let _ = stream.write_all(text.as_ref()).and_then(|()| stream.flush());
    }

    /// The next answer; null at the end.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Value::Null,
            Ok(_) => serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}")),
            Err(error) if is_end(&error) => Value::Null,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The answer that says so many lines are durable, with the rejects of all answers up to it.
    pub fn durable(&mut self, lines: u64) -> Value {
        let mut rejects = Vec::new();
        loop {
            let mut answer = self.answer();
            let durable = answer["durable"].as_u64().unwrap_or_else(|| panic!("no progress: {answer}"));
            rejects.extend(answer["rejects"].as_array().expect("rejects").clone());
            if durable >= lines {
                assert_eq!(durable, lines, "{answer}");
                answer["rejects"] = rejects.into();
                return answer;
            }
        }
    }
}

/// What the other side's going away looks like, one way or the other.
fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// An answer by HTTP.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The header of this name, in lower case; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

/// One request on a connection of its own. Gives `Host: localhost` and the body's length unless `headers` name them.
pub fn request(mut stream: Box<dyn Wire>, method_and_path: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut head = format!("{method_and_path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        head += "Host: localhost\r\n";
    }
    headers.iter().for_each(|header| head += &format!("{header}\r\n"));
    // A server may answer and close before it has read everything.
    let _ = stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(body));
    let _ = stream.flush();
    reply(stream)
}

/// Reads an answer to its end.
pub fn reply(mut stream: Box<dyn Wire>) -> Reply {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert!(is_end(&error) && !bytes.is_empty(), "no answer: {error}");
    }
    let text = String::from_utf8(bytes).expect("an answer of text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("an answer without a head: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
    Reply { status: status.expect("a status"), headers: headers.collect(), body: body.to_owned() }
}
