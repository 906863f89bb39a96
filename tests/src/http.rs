//! HTTP/1.1 over TCP as plain as it gets: one connection, one request after the other. Must not know: what is asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A connection.
pub struct Http {
    host: String,
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Http {
    /// Connects to an address.
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connecting");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        let answers = BufReader::new(stream.try_clone().expect("the other direction"));
        Self { host: address.to_owned(), stream, answers }
    }

    /// One request; gives the status and the body of the answer.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.host, body.len());
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        let request = [request.as_bytes(), b"\r\n", body].concat();
        self.stream.write_all(&request).expect("writing a request");
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut length = None;
        loop {
            let line = self.line().to_ascii_lowercase();
            match line.split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse().ok(),
                Some(_) => {}
            }
        }
        let mut body = vec![0; length.expect("an answer tells its length")];
        self.answers.read_exact(&mut body).expect("the body of an answer");
        (status, String::from_utf8(body).expect("an answer is text"))
    }

    /// GET, insisting on 200.
    pub fn get(&mut self, path: &str) -> String {
        let (status, body) = self.ask("GET", path, &[], b"");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// GET of JSON, insisting on 200.
    pub fn json(&mut self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).expect("an answer in JSON")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }
}
