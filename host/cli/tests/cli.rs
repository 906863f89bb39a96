//! The binary as a shell sees it: exit codes, stdout and stderr, and a query against a stand-in daemon.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect};

fn tally(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tally"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Exit code, stdout and stderr of a command line, run in a folder with `files`.
fn check(files: &[(&str, &str)], line: &str, expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        // Whatever the umask is.
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }
    let output = tally(folder.path(), line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    expected.assert_eq(&format!(
        "exit {}\n{}{}",
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr)
    ));
}

#[test]
fn what_is_missing_is_named_with_its_flag() {
    check(
        &[],
        "run",
        expect![[r#"
        exit 2
        error: 3 mistakes in the configuration:
          no source of events: give --unix PATH, or unix.path, tcp.listen, udp.listen or http.listen in the configuration file
          data_dir: missing; give --data-dir DIR, TALLY_DATA_DIR, or data_dir in the configuration file
          plugins_dir: missing; give --plugins-dir DIR, TALLY_PLUGINS_DIR, or plugins_dir in the configuration file
    "#]],
    );
    check(
        &[],
        "run --unix t.sock --data-dir data",
        expect![[r#"
        exit 2
        error: plugins_dir: missing; give --plugins-dir DIR, TALLY_PLUGINS_DIR, or plugins_dir in the configuration file
    "#]],
    );
}

#[test]
fn mistakes_in_the_configuration_are_usage_errors() {
    check(
        &[("tally.toml", "[flush]\nevnts = 1\n")],
        &format!("run --config tally.toml {LEAST}"),
        expect![[r#"
        exit 2
        error: tally.toml:2: flush.evnts: unknown key; did you mean flush.events?
    "#]],
    );
    check(
        &[],
        "run --config none.toml",
        expect![[r#"
        exit 2
        error: cannot read the configuration none.toml (check the path given with --config): No such file or directory (os error 2)
    "#]],
    );
    check(
        &[],
        &format!("run {LEAST} --log-level tally=loud"),
        expect![[r#"
        exit 2
        error: --log-level: "tally=loud" cannot be read (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); write error, warn, info, debug or trace, or a filter such as info,tally_wal=debug
    "#]],
    );
    check(
        &[],
        &format!("run {LEAST} --set flush.evnts=5 --flush-interval soon"),
        expect![[r#"
        exit 2
        error: 2 mistakes in the configuration:
          --flush-interval: "soon" is no time; write a number with a unit (us, ms, s, m, h, d), e.g. "30s" or "1h30m"
          --set flush.evnts: unknown key; did you mean flush.events?
    "#]],
    );
    check(
        &[],
        "run --set flush.events",
        expect![[r#"
        exit 2
        error: invalid value 'flush.events' for '--set <KEY=VALUE>': write KEY=VALUE, e.g. --set limits.depth=32

        For more information, try '--help'.
    "#]],
    );
}

/// What a daemon needs to be told.
const LEAST: &str = "--data-dir data --plugins-dir plugins --unix t.sock";

#[test]
fn a_configuration_is_checked_without_a_daemon() {
    let file = "data_dir = 'd'\nplugins_dir = '.'\n[tcp]\nlisten = '127.0.0.1:0'\ntoken_file = 'token'\n";
    check(
        &[("tally.toml", file), ("token", "secret")],
        "config check --config tally.toml",
        expect![[r#"
        exit 0
        warning: tally.toml:5: tcp.token_file: token can be read by others (mode 0644); chmod 600 it
        the configuration is right but for the warnings
    "#]],
    );
    let more = "[[aggregator]]\nplugin = 'nowhere'\n[preset.unused]\n";
    check(
        &[("tally.toml", &format!("{file}{more}"))],
        "config check --config tally.toml",
        expect![[r#"
        exit 0
        warning: tally.toml:8: preset.unused is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset
        warning: tally.toml:6: aggregator.nowhere: there is no ./nowhere.wasm; put the plugin there, or correct `plugin`
        warning: tally.toml:5: tcp.token_file: token: No such file or directory (os error 2)
        the configuration is right but for the warnings
    "#]],
    );
    let wrong = "[limits]\ndepth = 0\n[udp]\nlisten = '0.0.0.0:1'\n";
    check(
        &[("tally.toml", &format!("{file}{wrong}"))],
        "config check --config tally.toml",
        expect![[r#"
            exit 2
            error: 2 mistakes in the configuration:
              tally.toml:7: limits.depth: 0 is not between 1 and 128
              tally.toml:9: udp.listen: 0.0.0.0:1 can be reached from other machines, and UDP has neither TLS nor tokens; listen on 127.0.0.1:1, or use tcp.listen with tcp.tls_cert, tcp.tls_key and tcp.token_file
        "#]],
    );
    check(
        &[],
        &format!("config check {LEAST} --log-level loud=loud"),
        expect![[r#"
        exit 2
        error: --log-level: "loud=loud" cannot be read (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); write error, warn, info, debug or trace, or a filter such as info,tally_wal=debug
    "#]],
    );
}

#[test]
fn a_check_can_be_had_as_json() {
    check(
        &[],
        &format!("config check {LEAST} --set tcp.preset=segment --output json"),
        expect![[r#"
        exit 0
        {"problems":[],"valid":true,"warnings":["--set tcp.preset: tcp.preset has no effect without tcp.listen","--plugins-dir: plugins_dir: plugins is no folder; create it, or set plugins_dir"]}
    "#]],
    );
    check(
        &[],
        &format!("config check {LEAST} --set limits.depth=0 --output json"),
        expect![[r#"
            exit 2
            {"problems":[{"key":"limits.depth","origin":{"from":"flag","name":"--set limits.depth"},"text":"0 is not between 1 and 128"}],"valid":false,"warnings":[]}
        "#]],
    );
}

#[test]
fn a_configuration_is_shown_with_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tally.toml"), "[flush]\nevents = 5\n[http]\ntoken_file = 't'\n").unwrap();
    let output = |format: &str| {
        let line = format!("config show --config tally.toml {LEAST} --set http.hosts=a,b --output {format}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tally"));
        command.args(line.split_whitespace()).current_dir(folder.path()).env_clear();
        String::from_utf8(command.env("TALLY_LIMITS_DEPTH", "9").output().unwrap().stdout).unwrap()
    };
    let table = output("table");
    let set: String = table
        .lines()
        .filter(|line| !line.is_empty() && !line.ends_with("default"))
        .map(|line| format!("{line}\n"))
        .collect();
    expect![[r#"
        data_dir               data                        --data-dir
        plugins_dir            plugins                     --plugins-dir
        unix.path              t.sock                      --unix
        http.token_file        t                           tally.toml:4
        http.hosts             a,b                         --set http.hosts
        flush.events           5                           tally.toml:2
        limits.depth           9                           TALLY_LIMITS_DEPTH
    "#]]
    .assert_eq(&set);
    let json = output("json");
    assert_eq!(json.lines().count(), 1);
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    let settings = answer["settings"].as_array().unwrap();
    let shown = |key: &str| format!("{:#}\n", settings.iter().find(|row| row["key"] == key).unwrap());
    expect![[r#"
        {
          "default": "1000000",
          "help": "Write an analytics record after so many accepted events",
          "key": "flush.events",
          "limit": false,
          "origin": {
            "file": "tally.toml",
            "from": "file",
            "line": 2
          },
          "reloadable": true,
          "unit": "number",
          "value": 5,
          "variable": "TALLY_FLUSH_EVENTS"
        }
        {
          "default": "1MiB",
          "help": "Longest event, without its newline",
          "key": "limits.line_bytes",
          "limit": true,
          "origin": {
            "from": "default"
          },
          "reloadable": true,
          "unit": "bytes",
          "value": 1048576,
          "variable": "TALLY_LIMITS_LINE_BYTES"
        }
        {
          "default": "64",
          "help": "Deepest nesting of an event's JSON; the event itself is 1",
          "key": "limits.depth",
          "limit": true,
          "origin": {
            "from": "environment",
            "name": "TALLY_LIMITS_DEPTH"
          },
          "reloadable": true,
          "unit": "number",
          "value": 9,
          "variable": "TALLY_LIMITS_DEPTH"
        }
    "#]]
    .assert_eq(&(shown("flush.events") + &shown("limits.line_bytes") + &shown("limits.depth")));
}

#[test]
fn sending_fails_with_what_to_do() {
    check(
        &[],
        "send none --to unix:t.sock",
        expect![[r#"
        exit 1
        error: cannot open none: No such file or directory (os error 2)
    "#]],
    );
    check(
        &[("lines", "a\n")],
        "send lines --to unix:t.sock --from-line 3",
        expect![[r#"
        exit 2
        error: --from-line 3: lines has only 1 lines
    "#]],
    );
    check(
        &[],
        "send . --to unix:t.sock",
        expect![[r#"
        exit 1
        error: . is a folder; give a file, or - for stdin
    "#]],
    );
}

#[test]
fn sending_to_nobody_fails_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lines"), "a\n").unwrap();
    for flags in ["", "--ack", "--producer p --retry-for 0s"] {
        let output = tally(folder.path(), &format!("send lines --to unix:t.sock {flags}"));
        assert_eq!(output.status.code(), Some(1), "{flags}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            errors.contains("cannot connect to t.sock (there is no such socket; start the daemon with `tally run`"),
            "{flags}: {errors}"
        );
    }
}

#[test]
fn asking_nobody_fails_with_what_to_do() {
    check(
        &[],
        "status --to q",
        expect![[r#"
        exit 1
        error: cannot connect to q (there is no such socket; start the daemon with `tally run`, or check the path): No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn wrong_flags_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "",
        "frobnicate",
        "send lines",
        "send lines --to t.sock",
        "send lines --to unix:t --from-line 0",
        "run --flush-interval soon",
        "config",
        "config show",
        "query --to q",
        "query a --to q --wait 5s",
        "verify",
    ] {
        assert_eq!(tally(folder.path(), line).status.code(), Some(2), "{line:?}");
    }
}

/// Answers one request with `response`; gives back the request's first line.
fn answer_once(socket: &Path, response: &'static str) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || answer(listener.accept().unwrap().0, response).lines().next().unwrap().to_string())
}

/// Reads a request's head and answers it.
fn answer(mut stream: impl Read + Write, response: &str) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    stream.write_all(response.as_bytes()).unwrap();
    String::from_utf8(request).unwrap()
}

#[test]
fn an_answer_is_printed_and_a_problem_fails() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("q");
    let daemon = answer_once(&socket, "HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{\"as_of_sequence\":   7}\n");
    let output = tally(folder.path(), "query video-actions --rows 2 --to q --output json");
    assert_eq!(daemon.join().unwrap(), "GET /v1/aggregators/video-actions?rows=2 HTTP/1.1");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"as_of_sequence\":7}\n");
    assert_eq!(output.status.code(), Some(0));

    std::fs::remove_file(&socket).unwrap();
    let problem = "{\"detail\":\"there is no aggregator `x`; there is video-actions\",\"code\":\"unknown_aggregator\"}";
    let response = format!("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n{problem}");
    let daemon = answer_once(&socket, response.leak());
    let output = tally(folder.path(), "query x --to unix:q");
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: there is no aggregator `x`; there is video-actions (404 unknown_aggregator)\n"
    );
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("q");
    let daemon = answer_once(&socket, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tally"))
        .args(["status", "--output", "json", "--to"])
        .arg(&socket)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
    daemon.join().unwrap();
}

/// What a command asks of the daemon, and what it prints of the answer.
fn check_question(line: &str, body: &'static str, expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let daemon = answer_once(&folder.path().join("q"), response.leak());
    let output = tally(folder.path(), &format!("{line} --to q"));
    let (code, stdout, stderr) = (output.status.code().unwrap(), output.stdout, output.stderr);
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    expected.assert_eq(&format!("{}\nexit {code}\n{text}", daemon.join().unwrap()));
}

#[test]
fn every_question_has_its_path() {
    let value = r#"{"table":"summary","column":"hot_post","kind":"text","value":"post_1","as_of_sequence":12}"#;
    check_question(
        "query video-actions summary hot_post",
        value,
        expect![[r#"
        GET /v1/aggregators/video-actions/summary/hot_post HTTP/1.1
        exit 0
        post_1
    "#]],
    );
    check_question(
        "query video-actions posts --rows 2 --format csv",
        "post_id,plays\n1,3\n",
        expect![[r#"
        GET /v1/aggregators/video-actions/posts?rows=2&format=csv HTTP/1.1
        exit 0
        post_id,plays
        1,3
    "#]],
    );
    let table = r#"{"as_of_sequence":12,"watermark":null,"complete":true,"columns":[{"name":"post_id"},{"name":"plays"}],
        "rows":[{"plays":3,"post_id":"1"}],"rows_left_out":0}"#;
    check_question(
        "query video-actions posts",
        table,
        expect![[r#"
        GET /v1/aggregators/video-actions/posts HTTP/1.1
        exit 0
        as of sequence 12, watermark -

        post_id  plays
        1            3
    "#]],
    );
    let batch = r#"{"batch_id":3,"totals":{"a":{"n":1},"b":{"n":2}}}"#;
    check_question(
        "batch last",
        batch,
        expect![[r#"
            GET /v1/batches/last HTTP/1.1
            exit 0
            batch_id  3

            totals
               a  b
            n  1  2
        "#]],
    );
    check_question(
        "batch show 3 --output json",
        batch,
        expect![[r#"
        GET /v1/batches/3 HTTP/1.1
        exit 0
        {"batch_id":3,"totals":{"a":{"n":1},"b":{"n":2}}}"#]],
    );
    let rejected = r#"{"counts":{"invalid_json":1},"rejected":[{"reason":"invalid_json","bytes":"{"}]}"#;
    check_question(
        "rejected --reason invalid_json --rows 5 --output json",
        rejected,
        expect![[r#"
        GET /v1/rejected?rows=5&reason=invalid_json HTTP/1.1
        exit 0
        {"counts":{"invalid_json":1},"rejected":[{"bytes":"{","reason":"invalid_json"}]}
    "#]],
    );
}

#[test]
fn a_reload_that_leaves_something_wanted_behind_fails() {
    let plugins = r#"{"plugins":[{"name":"a","wanted_digest":"1","running_digest":null,"reason":"no component"}]}"#;
    check_question(
        "plugin reload --output json",
        plugins,
        expect![[r#"
        POST /v1/plugins/reload HTTP/1.1
        exit 1
        {"plugins":[{"name":"a","reason":"no component","running_digest":null,"wanted_digest":"1"}]}
        error: not everything wanted runs: a (no component)
    "#]],
    );
}

#[test]
fn questions_go_by_tcp_too_and_show_their_token() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let daemon = std::thread::spawn(move || {
        answer(listener.accept().unwrap().0, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"ready\":true}")
    });
    let output = tally(folder.path(), &format!("status --to http://localhost:{port} --token-file token"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready  true\n");
    let request = daemon.join().unwrap();
    assert!(request.starts_with("GET /v1/status HTTP/1.1"), "{request}");
    assert!(request.contains("authorization: Bearer s3cret") && request.contains(&format!("host: localhost:{port}")));
}

#[test]
fn the_daemon_is_found_by_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tally.toml"), "[unix]\npath = \"t\"\n").unwrap();
    let daemon = answer_once(&folder.path().join("t.query"), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}");
    assert_eq!(tally(folder.path(), "status --output json").stdout, b"{}\n");
    assert_eq!(daemon.join().unwrap(), "GET /v1/status HTTP/1.1");
}

#[test]
fn what_cannot_be_answered_says_what_to_do() {
    check(
        &[],
        "query a --to q --format csv",
        expect![[r#"
        exit 2
        error: csv is one table: name it, e.g. `tally query a summary --format csv`
    "#]],
    );
    check(
        &[],
        "top --to q",
        expect![[r#"
            exit 1
            error: cannot connect to q (there is no such socket; start the daemon with `tally run`, or check the path): No such file or directory (os error 2)
        "#]],
    );
    check(
        &[],
        "plugin inspect a",
        expect![[r#"
        exit 2
        error: where is the daemon? Give --to PATH (its query socket, e.g. /tmp/tally.sock.query) or --to http://HOST:PORT, or set TALLY_QUERY_SOCKET, or TALLY_CONFIG to its configuration file; there is no ./tally.toml
    "#]],
    );
    check(
        &[("x.wasm", "no")],
        "plugin check x.wasm",
        expect![[r#"
        exit 1
        error: x.wasm would not be taken: not a usable WebAssembly component: the file is empty or ends within the first eight bytes; was it still being written?
    "#]],
    );
    check(
        &[("e", "{}\n")],
        "send e --to udp:localhost:9 --ack",
        expect![[r#"
        exit 2
        error: UDP acknowledges nothing; leave out --ack and --producer, or send by unix, tcp or http
    "#]],
    );
    check(
        &[("e", "{}\n")],
        "send e --to unix:t --wait durable",
        expect![[r#"
        exit 2
        error: --wait is for http; on a socket --ack waits until lines are durable
    "#]],
    );
    check(
        &[],
        "man plugin frobnicate",
        expect![[r#"
        exit 2
        error: there is no command `plugin frobnicate`; see `tally --help`
    "#]],
    );
}
