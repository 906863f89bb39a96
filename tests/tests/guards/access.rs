//! Guards of the doors: users and groups, TLS, tokens, names.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use tally_tests::wire::{self, Lines, Reply, request};
use tally_tests::{Daemon, Work, tally, text, wait_until};

use crate::secrets::{TOKEN, guarded};

const VIEW: &str = r#"{"type":"action","user_id":"u1","resource_type":"posts:1","action":"view"}"#;
const JSON: &str = "Content-Type: application/json";
const ACK: &str = r#"{"tally":"ack"}"#;

fn accepted(client: &mut Lines, sent: u64) {
    client.write(format!("{VIEW}\n"));
    assert_eq!(client.durable(sent)["rejected"], 0);
}

#[test]
fn a_unix_socket_lets_in_whom_its_lists_name() {
    let work = Work::new(&[]);
    let (uid, gid) = {
        let me = std::fs::metadata(work.path("")).expect("the folder");
        (me.uid(), me.gid())
    };
    let nobody = 4_242_424;
    let daemon =
        work.start(&format!("--tcp 127.0.0.1:0 --set unix.allow_uids={nobody} --set unix.allow_gids={nobody}"));
    let mode = |name: &str| std::fs::metadata(work.path(name)).expect("a socket").mode() & 0o777;
    assert_eq!([mode("t.sock"), mode("t.sock.query"), mode("t.sock.admin")], [0o660; 3]);
    let mut bystander = Lines::begin(wire::tcp(daemon.address("tcp")), ACK);
    accepted(&mut bystander, 1);
    let refused = Lines::begin(wire::unix(&work.path("t.sock")), ACK).answer();
    assert_eq!(refused["error"], "peer_not_allowed");
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains(&format!("uid={uid}")) || message.contains(&format!("uid {uid}")), "{message}");
    let ended = "tally_source_connections_ended_total{source=\"unix\",reason=\"peer_not_allowed\"}";
    assert_eq!(work.metric(ended), 1.0);
    let admin = wire::request(wire::unix(&work.path("t.sock.admin")), "GET /v1/plugins", &[], "");
    assert_eq!((admin.status, admin.code().as_str()), (403, "peer_not_allowed"));
    assert_eq!(work.get("/v1/plugins").status, 200, "questions are for all that may open their socket");
    accepted(&mut bystander, 2);
    daemon.stop();

    for allow in [format!("unix.allow_uids={nobody},{uid}"), format!("unix.allow_gids={gid}")] {
        let daemon = work.start(&format!("--set {allow} --set unix.mode=0600"));
        assert_eq!(mode("t.sock"), 0o600);
        accepted(&mut Lines::begin(wire::unix(&work.path("t.sock")), ACK), 1);
        daemon.stop();
    }
}

#[test]
fn with_tls_and_a_token_only_the_right_token_opens_sockets() {
    let work = Work::new(&[]);
    let daemon = guarded(&work, "");
    let address = daemon.address("tcp");
    let mut bystander = Lines::begin(wire::tls(address), &format!("{{\"tally\":\"ack\",\"token\":\"{TOKEN}\"}}"));
    accepted(&mut bystander, 1);
    let wrong = [ACK.to_owned(), VIEW.to_owned(), r#"{"tally":"ack","token":"wrong-token"}"#.to_owned()];
    for first_line in &wrong {
        let mut client = Lines::begin(wire::tls(address), first_line);
        client.write(format!("{VIEW}\n"));
        let answer = client.answer();
        assert_eq!(answer["error"], "unauthorized", "{answer}");
        assert_eq!(client.answer(), Value::Null, "and it is closed");
    }
    let ended = |reason: &str| {
        work.metric(&format!("tally_source_connections_ended_total{{source=\"tcp\",reason=\"{reason}\"}}"))
    };
    wait_until("they are counted", || ended("unauthorized") == 3.0);
    // Without TLS nothing is understood, the token or not.
    let mut plain = wire::tcp(address);
    plain.write_all(format!("{{\"tally\":\"ack\",\"token\":\"{TOKEN}\"}}\n{VIEW}\n").as_bytes()).expect("writing");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("durable"));
    wait_until("it is counted", || ended("tls_failed") == 1.0);
    accepted(&mut bystander, 2);
    assert_eq!(work.status()["ledger"]["received"], 2, "nothing came in without the token");
    daemon.stop();
}

#[test]
fn with_tls_and_a_token_only_the_right_token_opens_http() {
    let work = Work::new(&[]);
    let daemon = guarded(&work, "");
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let post = |headers: &[&str]| {
        request(wire::tls(daemon.address("http")), "POST /v1/events", &[&[JSON], headers].concat(), VIEW)
    };
    let get = |path: &str, headers: &[&str]| {
        request(wire::tls(daemon.address("query_tcp")), &format!("GET {path}"), headers, "")
    };
    let refused = |reply: Reply| {
        assert_eq!((reply.status, reply.code().as_str()), (401, "unauthorized"), "{reply:?}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    };
    for wrong in
        [vec![], vec![bearer("wrong-token")], vec![bearer(&TOKEN[1..])], vec![format!("Authorization: {TOKEN}")]]
    {
        let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
        refused(post(&wrong));
        refused(get("/v1/status", &wrong));
        refused(get("/metrics", &wrong));
    }
    for (door, requests) in [("http", 4.0), ("query_tcp", 8.0)] {
        let counted = format!("tally_door_refused_total{{door=\"{door}\",reason=\"unauthorized\"}}");
        assert_eq!(work.metric(&counted), requests, "{door}");
    }
    let right = bearer(TOKEN);
    assert_eq!(post(&[&right]).json()["accepted"], 1);
    assert_eq!(get("/v1/status", &[&right]).json()["ledger"]["received"], 1, "nothing came in without the token");
    for probe in ["/health", "/ready"] {
        assert_eq!(get(probe, &[]).status, 200, "a probe needs no token");
    }
    daemon.stop();
}

#[test]
fn a_tcp_door_answers_to_its_own_names_alone() {
    let work = Work::new(&[]);
    let hosts = "--set http.hosts=stats.example.org --set query.hosts=stats.example.org";
    let daemon = work.start(&format!("--http 127.0.0.1:0 --query-listen 127.0.0.1:0 {hosts}"));
    let ask = |door: &str, host: &str| {
        let (method, body) = if door == "http" { ("POST /v1/events", VIEW) } else { ("GET /v1/status", "") };
        request(wire::tcp(daemon.address(door)), method, &[JSON, host], body)
    };
    for door in ["http", "query_tcp"] {
        let own = format!("Host: {}", daemon.address(door));
        for host in [own.as_str(), "Host: localhost:1", "Host: STATS.example.org"] {
            assert_eq!(ask(door, host).status, 200, "{door} {host}");
        }
        for host in ["Host: evil.example.org", "Host: localhost.evil.org", "Host: 127.0.0.1.evil.org:80"] {
            let reply = ask(door, host);
            assert_eq!((reply.status, reply.code().as_str()), (403, "host_not_allowed"), "{door} {host}");
        }
        assert_eq!(work.metric(&format!("tally_door_refused_total{{door=\"{door}\",reason=\"wrong_host\"}}")), 3.0);
    }
    assert_eq!(work.status()["ledger"]["received"], json!(3));
    daemon.stop();
}

/// What a daemon says that does not start.
fn not_started(work: &Work, more: &str) -> String {
    let output = tally().args(work.run_arguments(more)).output().expect("a daemon");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    text(&output)
}

#[test]
fn a_door_beyond_this_machine_takes_tls_and_a_token() {
    let work = Work::new(&[]);
    for (flag, section) in [("--tcp", "tcp"), ("--http", "http"), ("--query-listen", "query")] {
        let said = not_started(&work, &format!("{flag} 0.0.0.0:0"));
        let keys = ["tls_cert", "tls_key", "token_file"].map(|key| format!("{section}.{key}"));
        assert!(keys.iter().all(|key| said.contains(key)), "{said}");
        let token = work.path("token").display().to_string();
        let said = not_started(&work, &format!("{flag} [::]:0 --set {section}.token_file={token}"));
        assert!(said.contains(&keys[0]) && said.contains(&keys[1]), "a token alone would be read by others: {said}");
    }
    let said = not_started(&work, "--udp 0.0.0.0:0");
    assert!(said.contains("--udp") && said.contains("127.0.0.1:0"), "{said}");
    let daemon: Daemon = guarded(&work, "0.0.0.0");
    let address = daemon.address("tcp").replace("0.0.0.0", "127.0.0.1");
    accepted(&mut Lines::begin(wire::tls(&address), &format!("{{\"tally\":\"ack\",\"token\":\"{TOKEN}\"}}")), 1);
    daemon.stop();
}
