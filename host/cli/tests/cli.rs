//! The binary as a shell sees it: exit codes, stdout and stderr, and a query against a stand-in daemon.

use std::io::{Read, Write};
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
        std::fs::write(folder.path().join(name), text).unwrap();
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
        error: no socket for events: give --unix PATH, or `unix.path` in the configuration file
    "#]],
    );
    check(
        &[],
        "run --unix t.sock --data-dir data",
        expect![[r#"
        exit 2
        error: no plugins directory: give --plugins-dir DIR, or `plugins_dir` in the configuration file
    "#]],
    );
}

#[test]
fn mistakes_in_the_configuration_are_usage_errors() {
    check(
        &[("tally.toml", "[flush]\nevnts = 1\n")],
        "run --config tally.toml",
        expect![[r#"
        exit 2
        error: tally.toml:2:1: unknown key `evnts`; did you mean `events`?
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
        "run --log-level tally=loud",
        expect![[r#"
        exit 2
        error: --log-level tally=loud cannot be read (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); write error, warn, info, debug or trace, or a filter such as info,tally_wal=debug
    "#]],
    );
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
        "query --to q",
        "query a --to q --wait 5s",
        "verify",
    ] {
        assert_eq!(tally(folder.path(), line).status.code(), Some(2), "{line:?}");
    }
}

#[test]
fn every_help_page_has_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["run", "send", "generate", "query", "status", "plugin list", "plugin reload", "verify"] {
        let output = tally(folder.path(), &format!("{command} --help"));
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Example:"), "{command} --help teaches nothing:\n{help}");
    }
}

/// Answers one request with `response`; gives back the request's first line.
fn answer_once(socket: &Path, response: &'static str) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(response.as_bytes()).unwrap();
        String::from_utf8(request).unwrap().lines().next().unwrap().to_string()
    })
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
