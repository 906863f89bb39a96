//! The ways in: a door, and how lines are written for it. Must not know: what the lines say, or what becomes of them
//! beyond what the door itself answers.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;
use tally_tests::{Http, succeed, tally};

use super::run::{Run, certificate};

/// Lines of a request of our own.
const BATCH: usize = 1000;
/// Lines of a datagram; small enough for the receive buffer that any kernel gives.
const DATAGRAM: usize = 100;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `tally send` to this kind of address with these arguments.
    Send(&'static str, &'static [&'static str]),
    /// `tally send` by UDP, each datagram after the one before was counted.
    Datagrams,
    /// Requests whose body is a JSON array.
    Arrays,
    /// Requests whose body is lines, packed by gzip.
    Gzip,
}

/// Whether what is sent is new to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// All of it.
    New,
    /// None of it.
    Again,
    /// Every request is sent twice in a row (where it is a stream, the whole stream).
    Twice,
}

impl Sending {
    /// For every time something is sent: is it a duplicate?
    fn times(self) -> &'static [bool] {
        match self {
            Self::New => &[false],
            Self::Again => &[true],
            Self::Twice => &[false, true],
        }
    }
}

impl Way {
    /// True when the TCP door needs TLS for it.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Send("tcp+tls", _))
    }

    /// Sends these lines, checks what the door answers, and waits until they are decided.
    pub fn send(self, run: &mut Run, text: &[u8], sending: Sending) {
        match self {
            Self::Send(scheme, more) => stream(run, scheme, more, text, sending),
            Self::Datagrams => datagrams(run, text, sending),
            Self::Arrays => requests(run, text, sending, |batch, http| {
                let lines = batch.trim_ascii_end();
                let array: Vec<u8> = [b"[", lines, b"]"].concat();
                // No line has a newline within.
                let array: Vec<u8> = array.into_iter().map(|byte| if byte == b'\n' { b',' } else { byte }).collect();
                http.ask("POST", "/v1/events", &[("Content-Type", "application/json")], &array)
            }),
            Self::Gzip => requests(run, text, sending, |batch, http| {
                let headers = [("Content-Type", "application/x-ndjson"), ("Content-Encoding", "gzip")];
                http.ask("POST", "/v1/events", &headers, &gzip(batch))
            }),
        }
    }
}

fn count(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Pieces of whole lines.
fn pieces(text: &[u8], lines: usize) -> Vec<Vec<u8>> {
    let text: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    text.chunks(lines).map(<[&[u8]]>::concat).collect()
}

fn stream(run: &mut Run, scheme: &str, more: &[&str], text: &[u8], sending: Sending) {
    let file = run.work.path("lines");
    std::fs::write(&file, text).expect("writing the lines");
    let door = scheme.split('+').next().expect("a door");
    let to = match scheme {
        "unix" => format!("unix:{}", run.door(door)),
        "http" => format!("http://{}", run.door(door)),
        "tcp+tls" => {
            let port = run.door(door).rsplit_once(':').expect("a port").1;
            format!("{scheme}:localhost:{port}")
        }
        _ => format!("{scheme}:{}", run.door(door)),
    };
    let lines = count(text);
    for again in sending.times() {
        let mut send = tally();
        send.arg("send").args(more).arg(&file).args(["--output", "json", "--to", &to]);
        if scheme == "tcp+tls" {
            send.arg("--token-file").arg(run.work.path("token")).arg("--ca").arg(certificate("cert"));
        }
        let summary: Value = serde_json::from_str(&succeed(&mut send)).expect("a summary");
        assert_eq!(summary["lines"], lines, "{summary}");
        if summary["durable"].is_u64() {
            let duplicates = if *again { lines } else { 0 };
            let told = (&summary["durable"], &summary["rejected"], &summary["duplicates"]);
            assert_eq!(told, (&lines.into(), &0.into(), &duplicates.into()), "{summary}");
        }
        run.takes(lines);
    }
}

fn datagrams(run: &mut Run, text: &[u8], sending: Sending) {
    let mut send = tally();
    send.args(["send", "-", "--output", "json", "--to"]).arg(format!("udp:{}", run.door("udp")));
    let mut send = send.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tally send");
    let mut input = send.stdin.take().expect("its input");
    let mut sent = 0;
    for piece in pieces(text, DATAGRAM) {
        for _ in sending.times() {
            // It passes on what a pipe gives at once; a daemon that has counted this has read it.
            input.write_all(&piece).expect("writing lines");
            run.takes(count(&piece));
            sent += count(&piece);
        }
    }
    drop(input);
    let mut summary = String::new();
    send.stdout.take().expect("its output").read_to_string(&mut summary).expect("a summary");
    assert!(send.wait().expect("tally send").success(), "{summary}");
    assert_eq!(serde_json::from_str::<Value>(&summary).expect("a summary")["lines"], sent);
}

fn requests(run: &mut Run, text: &[u8], sending: Sending, post: impl Fn(&[u8], &mut Http) -> (u16, String)) {
    let mut http = Http::connect(run.door("http"));
    for batch in pieces(text, BATCH) {
        let lines = count(&batch);
        for again in sending.times() {
            let (status, answer) = post(&batch, &mut http);
            let told: Value = serde_json::from_str(&answer).expect("an answer in JSON");
            let (accepted, duplicates) = if *again { (0, lines) } else { (lines, 0) };
            let told = (status, &told["accepted"], &told["rejected"], &told["duplicates"]);
            assert_eq!(told, (200, &accepted.into(), &0.into(), &duplicates.into()), "{answer}");
            run.takes(lines);
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    let mut input = gzip.stdin.take().expect("its input");
    let bytes = bytes.to_owned();
    let writing = std::thread::spawn(move || input.write_all(&bytes).expect("writing to gzip"));
    let packed = gzip.wait_with_output().expect("gzip");
    writing.join().expect("writing to gzip");
    assert!(packed.status.success());
    packed.stdout
}
