//! curl: what people type, and what they get wrong.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tally_tests::clients::{Open, program};
use tally_tests::{Work, plugin, succeed, text};

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];
const VIEW: &str = r#"{"type":"action","user_id":"u1","resource_type":"posts:1","action":"view"}"#;

/// curl without what its user or the environment configures, with the status after the answer.
fn curl(arguments: &[&str]) -> Option<Command> {
    let mut curl = program("curl")?;
    curl.args([
        "-q",
        "--noproxy",
        "*",
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--write-out",
        "\n%{http_code}",
    ]);
    curl.args(arguments);
    Some(curl)
}

/// Status and answer.
fn answer(output: &Output) -> (u16, Value) {
    let printed = String::from_utf8_lossy(&output.stdout);
    let (body, status) = printed.rsplit_once('\n').unwrap_or_else(|| panic!("{}", text(output)));
    let status = status.parse().unwrap_or_else(|_| panic!("{}", text(output)));
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn ask(arguments: &[&str]) -> (u16, Value) {
    answer(&curl(arguments).and_then(|mut curl| curl.output().ok()).expect("curl runs"))
}

#[test]
fn events_in_every_way_that_curl_sends() {
    if curl(&[]).is_none() {
        return;
    }
    let open = Open::new("");
    let url = open.events("/v1/events");
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(open.work.path(name), bytes).expect("writing a file");
        format!("@{}", open.work.path(name).display())
    };
    let mut accepted = 0;
    let mut sent = |more: &[&str], events: u64| {
        let mut arguments = vec![url.as_str()];
        arguments.extend(more);
        let (status, answer) = ask(&arguments);
        assert_eq!(
            (status, &answer["accepted"], &answer["rejected"]),
            (200, &events.into(), &0.into()),
            "{more:?}: {answer}"
        );
        accepted += events;
        assert_eq!(answer["last_sequence"], accepted);
    };
    sent(&[JSON[0], JSON[1], "-d", VIEW], 1);
    sent(&["--http1.0", JSON[0], JSON[1], "-d", VIEW], 1);
    // An upgrade to HTTP/2 is offered, and may be left alone.
    sent(&["--http2", JSON[0], JSON[1], "-d", VIEW], 1);
    let lines = format!("{VIEW}\n").repeat(20_000);
    let ndjson = ["-H", "Content-Type: application/x-ndjson"];
    // More than a megabyte: curl asks first whether to go on.
    let big = file("lines", lines.as_bytes());
    sent(&[ndjson[0], ndjson[1], "-H", "Expect: 100-continue", "--data-binary", &big], 20_000);
    sent(&[ndjson[0], ndjson[1], "-X", "POST", "-T", &big[1..]], 20_000);
    // Of unknown length, in chunks.
    sent(&[ndjson[0], ndjson[1], "-H", "Transfer-Encoding: chunked", "--data-binary", &big], 20_000);
    assert!(Command::new("gzip").args(["-k", &big[1..]]).status().expect("gzip").success());
    let gzip = format!("{big}.gz");
    sent(&[ndjson[0], ndjson[1], "-H", "Content-Encoding: gzip", "--data-binary", &gzip], 20_000);
    // {"type":"action","user_id":"u","resource_type":"posts:1","action":"view"} in MessagePack, and an array of two.
    let view = b"\x84\xa4type\xa6action\xa7user_id\xa1u\xadresource_type\xa7posts:1\xa6action\xa4view";
    let msgpack = ["-H", "Content-Type: application/msgpack"];
    sent(&[msgpack[0], msgpack[1], "--data-binary", &file("one", view)], 1);
    let two = [b"\x92".as_slice(), view, view].concat();
    sent(&[msgpack[0], msgpack[1], "--data-binary", &file("two", &two)], 2);
    assert_eq!(open.ledger(), [accepted, accepted, 0, 0, 0]);
    assert_eq!(open.summary("video-actions")["total_views"], accepted);
    open.end();
}

#[test]
fn what_people_get_wrong_is_answered_with_what_to_do() {
    if curl(&[]).is_none() {
        return;
    }
    let open = Open::new("");
    let url = open.events("/v1/events");
    let refused = |status: u16, code: &str, hint: &str, more: &[&str]| {
        let mut arguments = more.to_vec();
        if !more.iter().any(|argument| argument.starts_with("http")) {
            arguments.push(&url);
        }
        let (got, answer) = ask(&arguments);
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{more:?}: {answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains(hint)), "{more:?}: {answer}");
    };
    refused(415, "unsupported_media_type", "-H 'Content-Type: application/json'", &["-d", VIEW]);
    refused(405, "method_not_allowed", "POST", &[]);
    refused(404, "not_found", "/v1/events", &[&open.events("/events"), JSON[0], JSON[1], "-d", VIEW]);
    refused(400, "empty_body", "event", &[JSON[0], JSON[1], "-d", ""]);
    refused(403, "host_not_allowed", "hosts", &["-H", "Host: evil.example", JSON[0], JSON[1], "-d", VIEW]);
    refused(403, "host_not_allowed", "hosts", &["-H", "Host: evil.example", &open.questions("/v1/status")]);
    refused(404, "unknown_aggregator", "nobody", &[&open.questions("/v1/aggregators/nobody")]);
    refused(403, "admin_only", "t.sock.admin", &["-X", "POST", &open.questions("/v1/plugins/reload")]);
    refused(400, "unknown_parameter", "rows", &[&open.questions("/v1/aggregators/video-actions?row=3")]);
    // A line that is wrong: which, where and why.
    let (status, answer) = ask(&[&url, JSON[0], JSON[1], "-d", r#"{"type":"action","timestamp":"now"}"#]);
    assert_eq!((status, &answer["rejects"][0]["field"]), (400, &"/timestamp".into()), "{answer}");
    assert_eq!(open.ledger(), [1, 0, 1, 0, 0]);
    open.end();
}

#[test]
fn questions_over_tcp_and_unix_sockets() {
    if curl(&[]).is_none() {
        return;
    }
    let open = Open::new("");
    ask(&[&open.events("/v1/events?wait=applied"), JSON[0], JSON[1], "-d", VIEW]);
    let path = "/v1/aggregators/video-actions/summary/hot_post";
    let (status, tcp) = ask(&[&open.questions(path)]);
    assert_eq!((status, &tcp["value"], &tcp["as_of_sequence"]), (200, &"post_1".into(), &1.into()), "{tcp}");
    for door in ["query", "admin"] {
        let (status, unix) = ask(&["--unix-socket", open.daemon.door(door), &format!("http://tally{path}")]);
        assert_eq!((status, &unix["value"]), (200, &tcp["value"]), "{door}: {unix}");
    }
    let reload = ["--unix-socket", open.daemon.door("admin"), "-X", "POST", "http://tally/v1/plugins/reload"];
    assert_eq!(ask(&reload).0, 200);
    let head = curl(&["--head", &open.questions(path)]).and_then(|mut curl| curl.output().ok()).expect("curl runs");
    let head = text(&head).to_ascii_lowercase();
    for header in
        ["200 ok", "content-type: application/json", "x-as-of-sequence: 1\r", "x-data-age: 0", "x-complete: true"]
    {
        assert!(head.contains(header), "no {header}: {head}");
    }
    assert_eq!(ask(&[&open.questions("/health")]), (200, json!({"status": "ok"})));
    assert_eq!(ask(&[&open.questions("/ready")]), (200, json!({"status": "ready"})));
    // Both over one connection.
    let both = curl(&["--verbose", &open.questions("/health"), &open.questions("/ready")]).expect("curl");
    let both = { both }.output().expect("curl runs");
    assert!(text(&both).contains("Re-using existing connection"), "{}", text(&both));
    open.end();
}

#[test]
fn tls_and_a_token_are_wanted_where_they_are_configured() {
    let (Some(_), Some(mut openssl)) = (curl(&[]), program("openssl")) else { return };
    let work = Work::new(&[plugin("video-actions")]);
    let path = |name: &str| work.path(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", &key, "-out", &cert]);
    succeed(&mut openssl);
    std::fs::write(path("token"), "s3cret\n").expect("writing a token");
    // A token and a key are nobody else's.
    for file in ["token", "key.pem"] {
        succeed(Command::new("chmod").arg("600").arg(path(file)));
    }
    let guards = "tls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\ntoken_file = \"token\"\nlisten = \"127.0.0.1:0\"\n";
    let open = Open::configured(work, &format!("[http]\n{guards}[query]\n{guards}"));
    let named = |door: &str, path: &str| {
        let port = open.daemon.door(door).rsplit_once(':').expect("a port").1.to_owned();
        format!("https://localhost:{port}{path}")
    };
    let (events, status) = (named("http", "/v1/events"), named("query_tcp", "/v1/status"));
    let trusted = |more: &[&str]| ask(&[&["--cacert", cert.as_str()], more].concat());
    let event = [JSON[0], JSON[1], "-d", VIEW, events.as_str()];
    assert_eq!(trusted(&event).1["code"], "unauthorized");
    assert_eq!(trusted(&[&event[..], &["-H", "Authorization: Bearer wrong"]].concat()).0, 401);
    assert_eq!(trusted(&[&event[..], &["-H", "Authorization: Bearer s3cret"]].concat()).0, 200);
    // As Segment's clients show their write key.
    assert_eq!(trusted(&[&event[..], &["--user", "s3cret:"]].concat()).0, 200);
    assert_eq!(trusted(&[&status]).0, 401);
    let (code, answer) = trusted(&[&status, "--oauth2-bearer", "s3cret"]);
    assert_eq!((code, &answer["ledger"]["received"]), (200, &2.into()), "{answer}");
    let health = named("query_tcp", "/health");
    assert_eq!(trusted(&[&health]).0, 200, "a probe needs no token");
    // No certificate of the system vouches for it, and without TLS there is no answer.
    assert_eq!(ask(&[&health]).0, 0);
    assert_eq!(ask(&[&health.replace("https", "http")]).0, 0);
    open.end();
}

#[test]
fn a_client_that_leaves_half_way_leaves_nothing_behind() {
    let Some(mut slow) = curl(&["--limit-rate", "1k", "--max-time", "1"]) else { return };
    let open = Open::new("");
    std::fs::write(open.work.path("lines"), format!("{VIEW}\n").repeat(20_000)).expect("writing a file");
    slow.args(["-H", "Content-Type: application/x-ndjson", "--data-binary"]);
    slow.arg(format!("@{}", open.work.path("lines").display())).arg(open.events("/v1/events"));
    assert!(!slow.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("curl runs").success());
    assert_eq!(ask(&[&open.events("/v1/events"), JSON[0], JSON[1], "-d", VIEW]).0, 200);
    assert_eq!(open.ledger(), [1, 1, 0, 0, 0], "a body that did not arrive whole is not taken in part");
    open.end();
}
