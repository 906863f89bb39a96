//! `tally send` against a stand-in daemon that cuts connections at awkward moments.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Parser;
use expect_test::expect;

use super::*;

mod doors;

/// What one connection is cut after: so many bytes read, and then with or without acknowledging what was decided.
#[derive(Clone, Copy, Debug)]
struct Cut {
    after_bytes: usize,
    acknowledge: bool,
}

/// Decides every whole line; the word `bad` is rejected. Remembers one producer.
struct StandIn {
    socket: PathBuf,
    decided: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

impl StandIn {
    /// Serves one connection after the other, the n-th as `script` says; `None` is served to its end.
    fn start(script: Vec<Option<Cut>>) -> StandIn {
        StandIn::serving(script.into_iter().map(|cut| move |stream, decided: &_| serve(stream, decided, cut)).collect())
    }

    fn serving<F>(script: Vec<F>) -> StandIn
    where
        F: FnOnce(UnixStream, &Mutex<Vec<String>>) + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("t.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let decided = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&decided);
        std::thread::spawn(move || {
            for serve in script {
                serve(listener.accept().unwrap().0, &theirs);
            }
        });
        StandIn { socket, decided, folder }
    }

    fn file(&self, text: &str) -> String {
        let path = self.folder.path().join("lines");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    }

    /// Sends `text` with the flags; the summary and what went wrong.
    fn send(&self, text: &str, flags: &str) -> (Summary, Option<String>) {
        send_to(&format!("unix:{}", self.socket.display()), &self.file(text), flags)
    }

    fn decided(&self) -> Vec<String> {
        self.decided.lock().unwrap().clone()
    }
}

/// Sends a file with the flags; the summary and what went wrong.
fn send_to(to: &str, file: &str, flags: &str) -> (Summary, Option<String>) {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let words = ["send", file, "--to", to];
    let args = Line::parse_from(words.into_iter().chain(flags.split_whitespace())).args;
    let (summary, outcome) = send(args).unwrap();
    assert_eq!(summary.complete, outcome.is_ok());
    (summary, outcome.err().map(|error| format!("{error:#}")))
}

fn serve(stream: UnixStream, decided: &Mutex<Vec<String>>, cut: Option<Cut>) {
    let mut answers = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream);
    let mut hello = String::new();
    lines.read_line(&mut hello).unwrap();
    if hello.contains("producer") {
        writeln!(answers, "{{\"resume\":{}}}", decided.lock().unwrap().len()).unwrap();
    }
    let (mut durable, mut rejected) = (0, 0);
    let mut lines = lines.take(cut.map_or(u64::MAX, |cut| cut.after_bytes as u64));
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            return;
        }
        durable += 1;
        let bad = line.trim_end() == "bad";
        rejected += u64::from(bad);
        decided.lock().unwrap().push(line);
        if cut.is_none_or(|cut| cut.acknowledge) {
            let rejects = if bad { format!("[{durable},\"invalid_json\"]") } else { String::new() };
            let answer = format!(
                "{{\"durable\":{durable},\"sequence\":{durable},\"rejected\":{rejected},\"rejects\":[{rejects}]}}\n"
            );
            if answers.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn lines(count: usize) -> (String, Vec<String>) {
    let lines: Vec<String> =
        (0..count).map(|n| if n % 7 == 3 { "\n".to_string() } else { format!("line {n}\n") }).collect();
    (lines.concat(), lines)
}

#[test]
fn every_line_is_acknowledged_and_rejects_are_told_by_line() {
    let daemon = StandIn::start(vec![None]);
    let (mut summary, error) = daemon.send("a\nb\nbad\n\nbad", "--ack --from-line 2");
    assert_eq!(error, None);
    assert_eq!(daemon.decided().concat(), "b\nbad\n\nbad\n");
    summary.seconds = 0.002;
    expect![[r#"
        line 3 was rejected: invalid_json
        line 5 was rejected: invalid_json
        4 of 4 lines durable; 2 rejected (invalid_json 2); sequence 4; 0.002 s, 2000 lines/s
    "#]]
    .assert_eq(&summary.text());
    expect![[r#"
        {"complete":true,"connections":1,"duplicates":0,"durable":4,"lines":4,"rate":2000,"rejected":2,"rejected_by_reason":{"invalid_json":2},"resumed":0,"seconds":0.002,"sequence":4}
    "#]].assert_eq(&summary.json());
}

#[test]
fn a_named_stream_survives_cuts_anywhere_and_counts_nothing_twice() {
    let (text, expected) = lines(5_000);
    for after_bytes in [0, 1, 7, 8, 100, 10_000] {
        for acknowledge in [true, false] {
            let cut = Cut { after_bytes, acknowledge };
            let daemon = StandIn::start(vec![Some(cut), Some(cut), Some(cut), None]);
            let (summary, error) = daemon.send(&text, "--producer p");
            assert_eq!(error, None, "{cut:?}");
            assert!(daemon.decided() == expected, "{cut:?}: lines are missing or doubled");
            assert_eq!((summary.lines, summary.durable, summary.connections), (5_000, 5_000, 4), "{cut:?}");
        }
    }
}

#[test]
fn a_second_run_continues_where_the_daemon_is() {
    let (text, expected) = lines(100);
    let daemon = StandIn::start(vec![None, None]);
    daemon.decided.lock().unwrap().extend_from_slice(&expected[..60]);
    let (summary, error) = daemon.send(&text, "--producer p");
    assert_eq!((error, summary.resumed, summary.durable), (None, Some(60), 100));
    let (summary, error) = daemon.send(&text, "--producer p");
    assert_eq!((error, summary.resumed, summary.durable), (None, Some(100), 100));
    assert_eq!(daemon.decided(), expected);
}

#[test]
fn a_name_that_belongs_to_a_longer_stream_is_refused() {
    let daemon = StandIn::start(vec![None]);
    daemon.decided.lock().unwrap().extend(lines(60).1);
    let (summary, error) = daemon.send("only\ntwo\n", "--producer p");
    assert!(!summary.complete);
    let error = error.unwrap();
    assert!(error.contains("has decided 60 lines of `p`") && error.contains("has only 2"), "{error}");
}

#[test]
fn a_daemon_that_forgot_acknowledged_lines_is_not_fed_them_again() {
    let cut = Cut { after_bytes: 80, acknowledge: true };
    let serving = move |stream, decided: &Mutex<Vec<String>>| {
        serve(stream, decided, Some(cut));
        decided.lock().unwrap().clear();
    };
    let daemon = StandIn::serving(vec![serving, serving]);
    let (summary, error) = daemon.send(&lines(100).0, "--producer p");
    assert!(summary.durable > 0 && !summary.complete);
    assert!(error.unwrap().contains("now wants to resume at 0"));
    assert_eq!(daemon.decided().len(), 0);
}

#[test]
fn without_a_name_a_lost_connection_says_what_is_durable() {
    let daemon = StandIn::start(vec![Some(Cut { after_bytes: 42, acknowledge: true })]);
    let (summary, error) = daemon.send(&lines(10_000).0, "--ack");
    assert!(!summary.complete);
    assert_eq!(summary.durable as usize, daemon.decided().len());
    let error = error.unwrap();
    assert!(error.contains(&format!("{} lines are durable", summary.durable)), "{error}");
}

#[test]
fn a_superseded_stream_does_not_fight_back() {
    let serving = |mut stream: UnixStream, _: &Mutex<Vec<String>>| {
        stream
            .write_all(b"{\"resume\":0}\n{\"error\":\"superseded\",\"message\":\"another connection of p\"}\n")
            .unwrap();
        let _ = stream.read(&mut [0; 1000]);
    };
    let daemon = StandIn::serving(vec![serving, serving]);
    let (summary, error) = daemon.send(&lines(100).0, "--producer p");
    assert_eq!(summary.connections, 1);
    expect!["the daemon ended the connection: another connection of p (superseded)"].assert_eq(&error.unwrap());
}

#[test]
fn trying_again_ends() {
    let daemon = StandIn::start(vec![]);
    let (_, error) = daemon.send("a\n", "--producer p --retry-for 100ms");
    let error = error.unwrap();
    assert!(error.starts_with("gave up after 100ms without progress"), "{error}");
}

#[test]
fn plain_lines_are_written_and_nothing_is_promised() {
    let read_all = |mut stream: UnixStream, decided: &Mutex<Vec<String>>| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        decided.lock().unwrap().push(text);
    };
    let daemon = StandIn::serving(vec![read_all]);
    let (mut summary, error) = daemon.send("a\n\nb", "");
    assert_eq!(error, None);
    assert_eq!(daemon.decided(), ["a\n\nb\n"]);
    summary.seconds = 0.5;
    expect![[r#"
        3 lines sent in 0.500 s, 6 lines/s; nothing was acknowledged
    "#]]
    .assert_eq(&summary.text());
    expect![[r#"
        {"complete":true,"lines":3,"rate":6,"seconds":0.5}
    "#]]
    .assert_eq(&summary.json());
}

#[test]
fn more_than_the_window_goes_through() {
    let (text, expected) = lines(400_000);
    let text = text.replace("line", &"x".repeat(100));
    assert!(text.len() > 34 << 20);
    let cut = Cut { after_bytes: 30 << 20, acknowledge: true };
    let daemon = StandIn::start(vec![Some(cut), None]);
    let (summary, error) = daemon.send(&text, "--producer p");
    assert_eq!((error, summary.durable), (None, expected.len() as u64));
    assert!(daemon.decided().concat() == text);
}
