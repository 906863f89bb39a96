//! The quickstart as it is in the repository: its configuration, its one-liners and its producers, on ports and paths that
//! are free.

use std::process::{Command, Stdio};

use serde_json::Value;
use tally_tests::clients::program;
use tally_tests::{Daemon, Work, plugin, root, succeed, tally, wait_until};

/// The quickstart's daemon in a folder of its own.
fn start(work: &Work, http: &str) -> Daemon {
    let mut command = tally();
    let config = root().join("examples/quickstart/tally.toml");
    command.arg("run").arg("--config").arg(config);
    command.env("TALLY_DATA_DIR", work.path("data")).env("TALLY_PLUGINS_DIR", work.path("plugins"));
    command.env("TALLY_UNIX_PATH", work.path("tally.sock"));
    command.env("TALLY_HTTP_LISTEN", http).env("TALLY_QUERY_LISTEN", "127.0.0.1:0");
    work.start_as(command)
}

fn work() -> Work {
    Work::new(&[plugin("video-actions"), plugin("homepage-fetch")])
}

/// The one-liners of the README, in order, as they are written.
fn one_liners() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("examples/quickstart/README.md")).expect("the README");
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split_once("```").expect("the end of a block").0);
    // The first block builds and runs the daemon.
    blocks.skip(1).flat_map(str::lines).map(str::to_owned).collect()
}

#[test]
fn the_one_liners_say_what_the_readme_says() {
    let (Some(_), Some(_)) = (program("curl"), program("python3")) else { return };
    let work = work();
    let daemon = start(&work, "127.0.0.1:0");
    let mut answers = Vec::new();
    for line in one_liners() {
        let here = line
            .replace("127.0.0.1:7072", daemon.door("http"))
            .replace("127.0.0.1:7073", daemon.door("query_tcp"))
            .replace("/tmp/tally", &work.path("").display().to_string())
            .replace("target/release/tally", &tally().get_program().to_string_lossy());
        let mut shell = Command::new("bash");
        shell.args(["-e", "-o", "pipefail", "-c", &here]).current_dir(root()).env("NO_PROXY", "*");
        answers.push((line, succeed(shell.stderr(Stdio::null()))));
    }
    let mut answers = answers.into_iter().filter(|(line, _)| !line.contains("tally generate"));
    let mut next = || answers.next().unwrap_or_else(|| panic!("too few one-liners"));
    let mut json = || {
        let (line, answer) = next();
        serde_json::from_str::<Value>(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"))
    };
    let counts = |answer: &Value| ["accepted", "rejected", "duplicates"].map(|key| answer[key].as_u64());
    let one = json();
    let printed = r#"{"accepted":1,"rejected":0,"duplicates":0,"last_sequence":1,"rejects":[],"rejects_left_out":0}"#;
    assert_eq!(one, serde_json::from_str::<Value>(printed).expect("JSON"));
    let readme = std::fs::read_to_string(root().join("examples/quickstart/README.md")).expect("the README");
    assert!(readme.contains(printed), "the README says what is answered");
    let array = json();
    assert_eq!((counts(&array), &array["rejects"][0]["reason"]), ([Some(1), Some(1), Some(0)], &"missing_type".into()));
    assert_eq!([counts(&json()), counts(&json())], [[Some(1), Some(0), Some(0)], [Some(0), Some(0), Some(1)]]);
    assert_eq!(counts(&json()), [Some(1000), Some(0), Some(0)], "a file");
    assert_eq!(counts(&json()), [Some(1000), Some(0), Some(0)], "gzip");
    let applied = json();
    assert_eq!((counts(&applied), &applied["last_sequence"]), ([Some(1), Some(0), Some(0)], &2004.into()));
    let hot = json();
    assert!(hot["value"].is_string() && hot["as_of_sequence"] == 2004, "{hot}");
    let (_, csv) = next();
    assert!(csv.starts_with("post_id,") && csv.lines().count() == 4, "{csv}");
    let report = serde_json::from_str::<Value>(&next().1).expect("a report");
    assert_eq!(report["tables"]["posts"].as_array().map(Vec::len), Some(3));
    let status = serde_json::from_str::<Value>(&next().1).expect("a status");
    assert_eq!((&status["sequence"], &status["ledger"]["duplicate"]), (&2004.into(), &1.into()));
    let rejected = serde_json::from_str::<Value>(&next().1).expect("rejected lines");
    assert_eq!(rejected["rejected"][0]["reason"], "missing_type");
    assert_eq!(serde_json::from_str::<Value>(&next().1).expect("a value")["value"], hot["value"], "by the Unix socket");
    assert_eq!(next().1, "1000 lines decided in all, 0 rejected now\n");
    assert_eq!(next().1, "1000 events accepted, 0 counted before\n");
    assert!(answers.next().is_none(), "every one-liner is checked");
    daemon.stop();
    work.verified(&[]);
}

/// A producer of the quickstart sends events while the daemon is killed again and again; then the daemon has counted what
/// the events say. Gives what the producer printed.
fn survives_kills(producer: &str, to: impl Fn(&Work, &Daemon) -> Vec<String>) -> Option<String> {
    let mut python = program("python3")?;
    let work = work();
    let events = work.generate("generated", "--events 60000 --seed 21 --invalid 0.01 --refused 0.01 --homepage 0.1");
    // A service sends objects, right or wrong.
    let events = std::fs::read(events).expect("events");
    let lines = events.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let events: Vec<&str> =
        lines.filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|event| event.is_object())).collect();
    std::fs::write(work.path("events"), events.join("\n") + "\n").expect("writing events");
    let mut daemon = start(&work, "127.0.0.1:0");
    // The daemon comes back where it was.
    let http = daemon.door("http").to_owned();
    python.arg("-B").arg(root().join("examples/quickstart").join(producer)).args(to(&work, &daemon));
    python.stdin(std::fs::File::open(work.path("events")).expect("events")).env("NO_PROXY", "*");
    python.stderr(std::fs::File::create(work.path("rejects")).expect("a file"));
    let mut running = python.stdout(Stdio::piped()).spawn().expect("the producer starts");
    let mut kills = 0;
    while running.try_wait().expect("the producer").is_none() && kills < 6 {
        let before = daemon.sequence;
        wait_until("some are accepted", || {
            let status = succeed(tally().args(["status", "--output", "json", "--to"]).arg(daemon.door("query")));
            let status: Value = serde_json::from_str(&status).expect("a status");
            status["sequence"].as_u64() > Some(before) || running.try_wait().expect("the producer").is_some()
        });
        daemon.kill();
        daemon = start(&work, &http);
        kills += 1;
    }
    let output = running.wait_with_output().expect("the producer ends");
    let rejects = std::fs::read_to_string(work.path("rejects")).expect("rejects");
    assert!(output.status.success() && kills >= 3, "after {kills} kills: {rejects}\n{}", work.log());
    daemon.stop();
    let count = work.count(&work.path("events"), &[]);
    let records = work.records();
    let totals = &records.last().expect("a record")["totals"];
    for aggregator in ["video-actions", "homepage-fetch"] {
        for (column, value) in count["count"]["aggregators"][aggregator]["summary"].as_object().expect("a summary") {
            assert_eq!(&totals[aggregator][column], value, "{aggregator}: {column}");
        }
    }
    work.verified(&[]);
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_socket_producer_counts_once_what_it_sends_through_kills() {
    let to = |work: &Work, _: &Daemon| vec![work.path("tally.sock").display().to_string(), "api-1".to_owned()];
    let Some(printed) = survives_kills("producer.py", to) else { return };
    assert!(printed.contains("lines decided in all"), "{printed}");
}

#[test]
fn the_http_producer_counts_once_what_it_sends_through_kills() {
    let to = |_: &Work, daemon: &Daemon| vec![format!("http://{}", daemon.door("http"))];
    let Some(printed) = survives_kills("producer_http.py", to) else { return };
    assert!(printed.contains("events accepted"), "{printed}");
}

#[test]
fn the_socket_producer_goes_on_where_it_was() {
    let Some(_) = program("python3") else { return };
    let work = work();
    let daemon = start(&work, "127.0.0.1:0");
    let events = std::fs::read_to_string(work.generate("events", "--events 3000 --seed 4")).expect("events");
    let run = |lines: usize| {
        let some: String = events.lines().take(lines).map(|line| format!("{line}\n")).collect();
        std::fs::write(work.path("some"), some).expect("writing events");
        let mut python = program("python3").expect("python3");
        python.arg("-B").arg(root().join("examples/quickstart/producer.py")).arg(work.path("tally.sock")).arg("api-1");
        succeed(python.stdin(std::fs::File::open(work.path("some")).expect("events")))
    };
    // The first run ended early; the second reads everything again.
    assert_eq!(run(1000), "1000 lines decided in all, 0 rejected now\n");
    assert_eq!(run(3000), "3000 lines decided in all, 0 rejected now\n");
    daemon.stop();
    let records = work.records();
    assert_eq!(records.last().expect("a record")["ledger_total"]["received"], 3000);
    work.verified(&[]);
}
