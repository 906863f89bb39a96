//! A daemon with every door of `examples/wikipedia/tally.toml` open on free ports, and what it says of itself.
//! Must not know: how lines get to it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tally_tests::{Daemon, Http, Work, now, root};

use super::input::Input;

/// What clients of a door with TLS have to show.
const TOKEN: &str = "edits-of-2015-09-12";

/// See the module.
pub struct Run {
    /// What it is sent.
    pub input: &'static Input,
    /// Its folder.
    pub work: Work,
    daemon: Option<Daemon>,
    arguments: String,
    received: u64,
}

impl Run {
    /// Starts one; with `tls` its TCP door has a certificate and asks for the token.
    pub fn start(input: &'static Input, tls: bool) -> Self {
        let work = input.work();
        let example = root().join("examples/wikipedia/tally.toml");
        let mut arguments =
            format!("--config {} --set query.max_rows=100000 --set query.max_staleness=10ms", example.display());
        for door in ["tcp", "udp", "http", "query-listen"] {
            arguments += &format!(" --{door} 127.0.0.1:0");
        }
        for door in ["unix", "tcp", "udp", "http"] {
            arguments += &format!(" --set {door}.preset={}", input.preset);
        }
        if tls {
            let token = work.path("token");
            std::fs::write(&token, format!("{TOKEN}\n")).expect("writing the token");
            std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("hiding the token");
            for (key, path) in
                [("tls_cert", certificate("cert")), ("tls_key", certificate("key")), ("token_file", token)]
            {
                arguments += &format!(" --set tcp.{key}={}", path.display());
            }
        }
        let daemon = Some(work.start(&arguments));
        Self { input, work, daemon, arguments, received: 0 }
    }

    /// Where a door is.
    pub fn door(&self, name: &str) -> &str {
        self.daemon.as_ref().expect("the daemon runs").door(name)
    }

    /// SIGKILL, and a new start.
    pub fn kill_and_restart(&mut self) {
        self.daemon.take().expect("the daemon runs").kill();
        self.daemon = Some(self.work.start(&self.arguments));
    }

    /// Waits until this many lines more were decided.
    pub fn takes(&mut self, lines: u64) {
        self.received += lines;
        let until = now() + Duration::from_secs(30);
        let mut questions = self.questions();
        loop {
            let ledger = &questions.json("/v1/status")["ledger"];
            if ledger["received"].as_u64() >= Some(self.received) {
                return;
            }
            assert!(now() < until, "{} lines were sent, and of them: {ledger}", self.received);
            // Datagrams wait for this hundreds of times.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Insists that every line was counted once and every repetition was told as one; gives the answer to who asks for
    /// everything, without its age.
    pub fn counted_once(&mut self, duplicates: u64) -> String {
        let Input { aggregator, lines, .. } = self.input;
        let mut questions = self.questions();
        let path = format!("/v1/aggregators/{aggregator}?rows=0&wait=30s&min_sequence={lines}");
        let answer = questions.get(&path);
        let (head, tables) = answer.split_once("\"age_seconds\":").expect("an age");
        let answer = format!("{head}{}", tables.split_once(',').expect("what follows the age").1);
        let ledger = json!({
            "received": lines + duplicates, "accepted": lines, "duplicate": duplicates, "rejected": {}, "dropped": {},
        });
        let status = questions.json("/v1/status");
        assert_eq!((&status["ledger"], &status["sequence"]), (&ledger, &json!(lines)));
        assert_eq!(status["aggregators"][aggregator]["ledger"]["applied"], *lines);
        answer
    }

    /// Insists that no door dropped anything.
    pub fn dropped_nothing(&self) {
        let metrics = self.questions().get("/metrics");
        let mut dropped = metrics.lines().filter(|line| !line.starts_with('#') && line.contains("dropped"));
        assert_eq!(dropped.find(|line| !line.ends_with(" 0")), None);
    }

    /// Ends it, and checks what it leaves behind.
    pub fn end(mut self) {
        self.daemon.take().expect("the daemon runs").stop();
        let records = self.work.records();
        let total = &records.last().expect("a record")["ledger_total"];
        let number = |key: &str| total[key].as_u64().expect("a count");
        assert_eq!(number("received"), number("accepted") + number("duplicate"), "{total}");
        assert_eq!(number("accepted"), self.input.lines);
        self.work.verified(&[]);
    }

    /// A connection for questions.
    pub fn questions(&self) -> Http {
        Http::connect(self.door("query_tcp"))
    }
}

/// The certificate for `localhost` that the command line's tests have, or its key.
pub fn certificate(name: &str) -> PathBuf {
    root().join(format!("host/cli/tests/tls/{name}.pem"))
}

/// The answer as a value.
pub fn value(answer: &str) -> Value {
    serde_json::from_str(answer).expect("an answer in JSON")
}

/// The number behind a name in an answer to `/metrics`.
pub fn metric(metrics: &str, name: &str) -> u64 {
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(of).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}
