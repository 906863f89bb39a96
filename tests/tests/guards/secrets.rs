//! Secrets open doors and appear nowhere.

use std::path::Path;

use tally_tests::wire::{self, Lines, request};
use tally_tests::{Daemon, Work, tally, text};

/// What clients show.
pub const TOKEN: &str = "open-5e5ame-4711";

/// A daemon whose TCP doors want TLS and the token; on loopback unless an `ip` is given.
pub fn guarded(work: &Work, ip: &str) -> Daemon {
    let more = guarded_arguments(work, ip);
    work.start(&more)
}

fn guarded_arguments(work: &Work, ip: &str) -> String {
    let ip = if ip.is_empty() { "127.0.0.1" } else { ip };
    std::fs::write(work.path("token"), format!("{TOKEN}\n")).expect("the token");
    let (cert, key) = wire::certificate();
    let door = |section: &str| {
        format!(
            "[{section}]\nlisten = \"{ip}:0\"\ntls_cert = {cert:?}\ntls_key = {key:?}\ntoken_file = {:?}\n",
            work.path("token")
        )
    };
    work.configure(&["tcp", "http", "query"].map(door).concat())
}

#[test]
fn no_secret_is_shown_or_logged_or_kept() {
    let work = Work::new(&[]);
    let more = guarded_arguments(&work, "") + " --log-level trace";
    let mut show = tally();
    let rest = work.run_arguments(&more);
    show.args(["config", "show"]).args(
        rest[1..].iter().filter(|argument| !argument.starts_with("--log")).filter(|argument| *argument != "trace"),
    );
    let mut said = text(&show.output().expect("config show"));
    assert!(said.contains("tcp.token_file") && said.contains(&work.path("token").display().to_string()), "{said}");
    said += &text(&show.args(["--output", "json"]).output().expect("config show"));

    let daemon = work.start(&more);
    let hello = |token: &str| format!("{{\"tally\":\"ack\",\"token\":\"{token}\"}}");
    let wrong = "wrong-70ken-0815";
    let mut client = Lines::begin(wire::tls(daemon.address("tcp")), &hello(TOKEN));
    client.write("{\"type\":\"action\"}\nnonsense\n");
    client.durable(2);
    for first_line in [hello(wrong), format!("{{\"tally\":\"ack\",\"token\":\"{TOKEN}\",\"producer\":1}}")] {
        said += &Lines::begin(wire::tls(daemon.address("tcp")), &first_line).answer().to_string();
    }
    // To a door that wants none.
    Lines::begin(wire::unix(&work.path("t.sock")), &hello(TOKEN)).write("{\"type\":\"action\"}\n");
    for token in [TOKEN, wrong] {
        let bearer = format!("Authorization: Bearer {token}");
        let json = "Content-Type: application/json";
        let post = |stream| request(stream, "POST /v1/events", &[&bearer, json], "{\"type\":\"action\"}");
        said += &post(wire::tls(daemon.address("http"))).body;
        for path in ["/v1/status", "/metrics", "/v1/rejected", "/v1/plugins", "/openapi.json", "/nowhere"] {
            said += &request(wire::tls(daemon.address("query_tcp")), &format!("GET {path}"), &[&bearer], "").body;
        }
    }
    daemon.signal("HUP");
    daemon.stop();
    said += &work.log();
    assert!(said.contains("DEBUG"), "everything there is to log is logged");
    keep_out(&said, "the daemon's output", wrong);
    look_through(&work.path("data"), wrong);
}

fn keep_out(text: &str, place: &str, wrong: &str) {
    let key = std::fs::read_to_string(wire::certificate().1).expect("the key");
    let key = key.lines().nth(1).expect("a line of the key");
    for secret in [TOKEN, wrong, key] {
        if let Some(at) = text.find(secret) {
            panic!("{secret:?} is in {place}: {:?}", &text[at.saturating_sub(200)..at + secret.len()]);
        }
    }
}

fn look_through(folder: &Path, wrong: &str) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            look_through(&path, wrong);
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            // The log's segments are mostly zeros.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            keep_out(&String::from_utf8_lossy(&bytes[..end]), &path.display().to_string(), wrong);
        }
    }
}
