//! Crashes: SIGKILL at any moment loses nothing acknowledged and counts nothing twice; what is acknowledged is on disk.

use std::process::Command;
use std::time::Duration;

use tally_tests::torture::clocks;
use tally_tests::{Client, Daemon, Work, component, plugin, root, succeed, tally};

use crate::counts::everything_equals_the_count;

#[test]
fn twenty_kills_count_every_event_once() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let shape = "--events 300000 --seed 11 --invalid 0.01 --unsubscribed 0.1 --refused 0.01 --homepage 0.05";
    let events = work.generate("events", shape);
    let mut daemon = work.start("--flush-events 9000");
    let (mut generate, mut send) = work.stream(shape, 15_000, &["--producer", "api-1", "--retry-for", "120s"]);
    let mut kills = 0;
    let mut moment: u64 = 12345;
    while kills < 20 {
        moment = moment.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_millis(60 + moment % 300));
        daemon.kill();
        daemon = work.start("--flush-events 9000");
        assert!(daemon.sequence < 295_000, "kill {kills} came after everything was sent");
        kills += u32::from(daemon.sequence > 0);
    }
    assert!(send.wait().expect("tally send").success(), "everything was acknowledged in the end\n{}", work.log());
    generate.wait().expect("tally generate");
    daemon.stop();
    everything_equals_the_count(&work, &events);
    work.verified(&[]);
}

#[test]
fn nothing_is_acknowledged_before_it_is_synced() {
    let work = Work::new(&[plugin("video-actions")]);
    let trace = work.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-s", "8192", "-e", "trace=pwrite64,pwritev,fdatasync,write,writev,sendto,sendmsg", "-o"]);
    strace.arg(&trace).arg(tally().get_program()).args(work.run_arguments(""));
    let daemon = work.start_as(strace);
    let mut client = Client::connect(&work, r#"{"tally":"ack"}"#);
    for i in 1..=40 {
        client.write(&format!(
            "{{\"type\":\"action\",\"user_id\":\"strace-{i:03}\",\"resource_type\":\"posts:1\",\"action\":\"view\"}}\n"
        ));
        while client.answer()["durable"] != i {}
    }
    drop(client);
    drop(daemon);
    let trace = std::fs::read_to_string(trace).expect("the trace");
    for i in 1..=40 {
        let mut written: Option<(String, bool)> = None;
        let mut acknowledged = false;
        let mut pending: std::collections::HashMap<&str, &str> = std::collections::HashMap::new();
        for line in trace.lines() {
            let (pid, call) = line.split_once(' ').expect("a process id");
            let call = call.trim_start();
            let started = pending.get(pid).copied();
            if call.starts_with("pwrite") && call.contains(&format!("strace-{i:03}")) {
                let fd = call.split(['(', ',']).nth(1).expect("a descriptor").to_owned();
                written = Some((fd, false));
            } else if let Some((fd, synced)) = &mut written {
                let of_log = call.starts_with(&format!("fdatasync({fd})"))
                    || call.starts_with(&format!("fdatasync({fd} "))
                    || (call.starts_with("<... fdatasync resumed") && started == Some(fd.as_str()));
                *synced |= of_log && call.ends_with("= 0");
            }
            if call.starts_with("fdatasync(") && call.ends_with("<unfinished ...>") {
                pending.insert(pid, call.split(['(', ' ', ')']).nth(1).expect("a descriptor"));
            }
            if call.contains(&format!("{{\\\"durable\\\":{i},")) {
                let synced = written.as_ref().is_some_and(|(_, synced)| *synced);
                assert!(synced, "event {i} was acknowledged before fdatasync returned: {line}");
                acknowledged = true;
                break;
            }
        }
        assert!(acknowledged, "the acknowledgement of event {i} is in the trace");
    }
}

#[test]
fn real_edits_with_a_crash_in_the_middle_give_the_published_numbers() {
    let data = root().join("../shared/data/wikipedia-edits.ndjson.gz");
    if !data.exists() {
        println!("skipped: {} is not here", data.display());
        return;
    }
    let work = Work::new(&[component("TALLY_EXAMPLE_PLUGINS_DIR", "example-plugins", "wikipedia-edits")]);
    let example = std::fs::read_to_string(root().join("examples/wikipedia/tally.toml")).expect("the example");
    let config = work.path("tally.toml");
    std::fs::write(&config, example).expect("writing the configuration");
    let free_ports = "--tcp 127.0.0.1:0 --udp 127.0.0.1:0 --http 127.0.0.1:0 --query-listen 127.0.0.1:0";
    let more = format!("--config {} {free_ports}", config.display());
    let daemon = work.start(&more);
    let edits = succeed(Command::new("gzip").arg("-dc").arg(&data));
    let half: String = edits.split_inclusive('\n').take(20_000).collect();
    let mut client = Client::connect(&work, r#"{"tally":"ack","producer":"wiki"}"#);
    assert_eq!(client.answer()["resume"], 0);
    client.write(&half);
    assert!(client.answer()["durable"].as_u64() > Some(0));
    daemon.kill();
    let daemon = work.start(&more);
    assert!((1..39_244).contains(&daemon.sequence), "killed in the middle: {}", daemon.sequence);
    succeed(work.send(&["--ack", "--producer", "wiki"]).arg(&data));
    let answer = work.ask(&["query", "wikipedia-edits", "--table", "pages", "--rows", "5", "--min-sequence", "39244"]);
    assert_eq!(answer["summary"]["edits"], 39_244);
    assert_eq!(answer["summary"]["deleted"], 394_298);
    let pages: Vec<(&str, u64)> = answer["tables"]["pages"]
        .as_array()
        .expect("pages")
        .iter()
        .map(|row| (row["page"].as_str().expect("a page"), row["edits"].as_u64().expect("edits")))
        .collect();
    let published = [
        ("Wikipedia:Vandalismusmeldung", 33),
        ("User:Cyde/List of candidates for speedy deletion/Subpage", 28),
        ("Jeremy Corbyn", 27),
        ("Wikipedia:Administrators' noticeboard/Incidents", 21),
        ("Flavia Pennetta", 20),
    ];
    assert_eq!(pages, published);
    daemon.stop();
    work.verified(&[]);
}

#[test]
fn a_clock_that_was_ahead_is_warned_of_once_it_is_set_right() {
    let Some(library) = clocks::library() else {
        eprintln!("skipped: libfaketime is not installed");
        return;
    };
    let work = Work::new(&[plugin("video-actions")]);
    let mut ahead = tally();
    ahead
        .args(work.run_arguments(""))
        .env("LD_PRELOAD", library)
        .env("FAKETIME", "+2h")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let warning = "behind the log, whose time never goes backwards";
    let add = |daemon: Daemon| {
        let mut client = Client::connect(&work, r#"{"tally":"ack"}"#);
        client.write("{\"type\":\"action\",\"user_id\":\"u\",\"resource_type\":\"posts:1\",\"action\":\"view\"}\n");
        client.answer();
        drop(client);
        daemon.stop();
    };
    add(work.start_as(ahead));
    assert!(!work.log().contains(warning), "{}", work.log());
    // At the start, and not again with the event and the flush that are dated so.
    add(work.start(""));
    assert_eq!(work.log().matches(warning).count(), 1, "{}", work.log());
    let times: Vec<_> = work.records().iter().map(|record| record["to"].clone()).collect();
    let [first, second] = &times[..] else { panic!("two flushes: {times:?}") };
    assert_eq!(first, second, "the log's time stands still");
}
