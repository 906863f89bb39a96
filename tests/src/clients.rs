//! What tests by real clients share: the clients, a daemon with every door open, and what must hold of its ledger whatever
//! was sent. A client that is not installed makes a test say so and pass, or fail where `TALLY_TESTS_NEED_CLIENTS` is 1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::{Daemon, Work, plugin, root, succeed};

/// A program of the system; none when it is not installed.
pub fn program(name: &str) -> Option<Command> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => Some(Command::new(path)),
        None => missing(&format!("{name} is not installed (`.ci/run packages` does that)")),
    }
}

/// A program of the virtual environment, such as `python` with the pinned packages; none when it was not made.
pub fn installed(name: &str) -> Option<Command> {
    let folder = std::env::var_os("TALLY_CLIENTS_DIR").map_or_else(|| root().join("target/clients"), PathBuf::from);
    match folder.join("made-from").exists() {
        true => Some(Command::new(folder.join("bin").join(name))),
        false => missing(&format!("no {name} in {} (`cargo xtask clients` puts it there)", folder.display())),
    }
}

/// A script of `tests/clients`.
pub fn script(mut python: Command, name: &str) -> Command {
    python.arg("-B").arg(root().join("tests/clients").join(name));
    python
}

/// Past the test harness, which keeps to itself what a test prints that passes.
fn missing(what: &str) -> Option<Command> {
    assert!(std::env::var_os("TALLY_TESTS_NEED_CLIENTS").is_none_or(|needed| needed != "1"), "{what}");
    let test = std::thread::current();
    writeln!(std::io::stderr(), "SKIPPED {}: {what}", test.name().unwrap_or("a test")).expect("writing to stderr");
    None
}

/// A daemon with every door open, on ports of the system's choice, counting actions and homepage fetches.
pub struct Open {
    /// Its folder.
    pub work: Work,
    /// It.
    pub daemon: Daemon,
}

impl Open {
    /// With more configuration, in TOML.
    pub fn new(more: &str) -> Self {
        let doors = "[tcp]\nlisten = \"127.0.0.1:0\"\n[udp]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
                     [query]\nlisten = \"127.0.0.1:0\"\n";
        let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
        Self::configured(work, &format!("{doors}{more}"))
    }

    /// With this configuration, in TOML.
    pub fn configured(work: Work, config: &str) -> Self {
        std::fs::write(work.path("tally.toml"), config).expect("writing the configuration");
        let daemon = work.start(&format!("--config {}", work.path("tally.toml").display()));
        Self { work, daemon }
    }

    /// The URL of a path on the events door.
    pub fn events(&self, path: &str) -> String {
        format!("http://{}{path}", self.daemon.door("http"))
    }

    /// The URL of a path on the query door.
    pub fn questions(&self, path: &str) -> String {
        format!("http://{}{path}", self.daemon.door("query_tcp"))
    }

    /// The answer to a question, by a client of the test's own.
    pub fn ask(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(self.daemon.door("query_tcp")).expect("connecting to the query door");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("asking");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// The ledger, which balances: received, accepted, rejected in all, duplicate, dropped in all.
    pub fn ledger(&self) -> [u64; 5] {
        let ledger = self.ask("/v1/status")["ledger"].clone();
        let one = |name: &str| ledger[name].as_u64().unwrap_or_else(|| panic!("no {name}: {ledger}"));
        let all = |name: &str| -> u64 {
            let reasons = ledger[name].as_object().unwrap_or_else(|| panic!("no {name}: {ledger}"));
            reasons.values().map(|count| count.as_u64().expect("a count")).sum()
        };
        let counts = [one("received"), one("accepted"), all("rejected"), one("duplicate"), all("dropped")];
        assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "the ledger does not balance: {ledger}");
        counts
    }

    /// The summary of an aggregator when it has seen everything accepted.
    pub fn summary(&self, aggregator: &str) -> Value {
        let sequence = self.ask("/v1/status")["sequence"].as_u64().expect("a sequence");
        let path = format!("/v1/aggregators/{aggregator}?table=summary&min_sequence={sequence}&wait=20s");
        let answer = self.ask(&path);
        assert!(answer["as_of_sequence"].as_u64() >= Some(sequence), "{answer}");
        answer["summary"].clone()
    }

    /// Runs a script against the doors to its end; what it printed last is what it saw, in JSON.
    pub fn run(&self, mut script: Command) -> Value {
        for door in ["unix", "tcp", "udp", "http", "query", "query_tcp"] {
            script.arg(format!("{door}={}", self.daemon.door(door)));
        }
        let printed = succeed(&mut script);
        let last = printed.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// Ends it, and proves every number from the log.
    pub fn end(self) {
        self.daemon.stop();
        self.work.verified(&[]);
    }
}
