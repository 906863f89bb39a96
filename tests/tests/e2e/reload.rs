//! Plugins change while events flow: nothing is lost, counted twice or stopped.

use std::time::Duration;

use tally_tests::{Work, component, plugin, succeed, tally, wait_until};

use crate::counts::everything_equals_the_count;

#[test]
fn two_builds_alternate_under_load_and_every_event_counts_once() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let builds = [
        std::fs::read(plugin("video-actions")).expect("a build"),
        std::fs::read(component("TALLY_FIXTURES_DIR", "fixtures", "video-actions-alt")).expect("the other build"),
    ];
    assert_ne!(builds[0], builds[1]);
    let shape = "--events 400000 --seed 5 --invalid 0.01 --unsubscribed 0.1 --refused 0.01 --homepage 0.05";
    let events = work.generate("events", shape);
    let daemon = work.start("--flush-events 20000");
    let (mut generate, mut send) = work.stream(shape, 60_000, &[]);
    let mut swaps = 0;
    while send.try_wait().expect("tally send").is_none() {
        swaps += 1;
        work.put_plugin("video-actions", &builds[swaps % 2]);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(send.wait().expect("tally send").success());
    generate.wait().expect("tally generate");
    daemon.stop();
    let log: Vec<u8> = std::fs::read_dir(work.path("data/wal"))
        .expect("the log")
        .flat_map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a segment"))
        .collect();
    let needle = b"\"reason\":\"activation\"";
    let activations = log.windows(needle.len()).filter(|window| window == needle).count();
    assert!(activations >= 20, "{activations} activations for {swaps} swaps\n{}", work.log());
    everything_equals_the_count(&work, &events);
    work.verified(&[]);
}

#[test]
fn a_plugin_that_does_not_load_leaves_the_old_one_running() {
    let work = Work::new(&[plugin("video-actions")]);
    let events = work.generate("events", "--events 1000 --seed 1");
    let daemon = work.start("");
    let good = std::fs::read(plugin("video-actions")).expect("the plugin");
    work.put_plugin("video-actions", &good[..good.len() / 2]);
    let listed = || work.ask(&["plugin", "list"])["plugins"][0].clone();
    wait_until("the reason is listed", || listed()["reason"].is_string());
    let plugin = listed();
    assert_eq!(plugin["state"], "running");
    assert_ne!(plugin["wanted_digest"], plugin["running_digest"]);
    succeed(work.send(&["--ack"]).arg(&events));
    let total = work.ask(&["query", "video-actions", "--min-sequence", "1000"])["summary"]["total_events"].clone();
    assert_eq!(total, 1000);
    work.put_plugin("video-actions", &good);
    wait_until("the good one is taken", || listed()["reason"].is_null());
    daemon.stop();
    work.verified(&[]);
}

#[test]
fn a_plan_says_what_would_change_and_changes_nothing() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let events = work.generate("events", "--events 5000 --seed 2 --homepage 0.1");
    let daemon = work.start("--flush-events 1000");
    succeed(work.send(&["--ack"]).arg(&events));
    work.ask(&["query", "video-actions", "--min-sequence", "5000"]);
    // Questions and catching up have their cost.
    let listed = || {
        let mut list = work.ask(&["plugin", "list"])["plugins"].as_array().expect("plugins").clone();
        list.iter_mut().for_each(|plugin| drop(plugin["cost"].take()));
        list
    };
    let before = listed();
    let plan = |file: &std::path::Path, name: &str| {
        let mut command = tally();
        command.args(["plugin", "plan", "--name", name, "--output", "json", "--to"]).arg(work.path("t.sock.admin"));
        let output = command.arg(file).output().expect("tally plugin plan");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (answer["plan"][0].clone(), output.status.success())
    };
    let (same, fine) = plan(&plugin("video-actions"), "video-actions");
    assert!(fine && same["state"] == "same" && same["running"] == same["wanted"], "{same}");
    let (kept, fine) = plan(&component("TALLY_FIXTURES_DIR", "fixtures", "video-actions-alt"), "video-actions");
    assert!(fine && kept["state"] == "keep" && kept["saved_bytes"].as_u64() > Some(1000), "{kept}");
    assert_ne!(kept["running"]["digest"], kept["wanted"]["digest"]);
    let (refused, fine) = plan(&plugin("homepage-fetch"), "video-actions");
    assert!(!fine && refused["state"] == "refused", "{refused}");
    assert_eq!(refused["removed"]["fields"], serde_json::json!(["/action (text)", "/resource_type (text)"]));
    assert_eq!(refused["added"]["event_types"], serde_json::json!(["homepage_fetch"]));
    let (new, fine) = plan(&component("TALLY_FIXTURES_DIR", "fixtures", "probe"), "probe");
    assert!(fine && new["state"] == "new" && new["running"].is_null(), "{new}");
    let (broken, fine) = plan(&events, "broken");
    assert!(!fine && broken["reason"].to_string().contains("not a usable WebAssembly component"), "{broken}");
    // One that went away would catch up.
    std::fs::remove_file(work.path("plugins/homepage-fetch.wasm")).expect("removing the plugin");
    succeed(tally().args(["plugin", "reload", "--to"]).arg(work.path("t.sock.admin")));
    succeed(work.send(&["--ack"]).arg(&events));
    work.ask(&["query", "video-actions", "--min-sequence", "10000"]);
    let (back, fine) = plan(&plugin("homepage-fetch"), "homepage-fetch");
    assert!(fine && back["state"] == "keep" && back["catches_up_events"] == 5000, "{back}");
    work.put_plugin("homepage-fetch", &std::fs::read(plugin("homepage-fetch")).expect("the plugin"));
    succeed(tally().args(["plugin", "reload", "--to"]).arg(work.path("t.sock.admin")));
    // As soon as it has caught up.
    wait_until("all is as before", || listed() == before);
    let stored = std::fs::read_dir(work.path("data/plugins")).expect("the stored versions").count();
    assert_eq!(stored, 2, "a plan stores nothing");
    daemon.stop();
    work.verified(&[]);
}

#[test]
fn a_file_taken_away_pauses_and_the_same_name_catches_up() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let events = work.generate("events", "--events 30000 --seed 4 --homepage 0.2");
    let daemon = work.start("--flush-events 7000");
    succeed(work.send(&["--ack"]).arg(&events));
    std::fs::remove_file(work.path("plugins/homepage-fetch.wasm")).expect("removing the plugin");
    succeed(tally().args(["plugin", "reload", "--to"]).arg(work.path("t.sock.admin")));
    succeed(work.send(&["--ack"]).arg(&events));
    work.put_plugin("homepage-fetch", &std::fs::read(plugin("homepage-fetch")).expect("the plugin"));
    succeed(tally().args(["plugin", "reload", "--to"]).arg(work.path("t.sock.admin")));
    succeed(work.send(&["--ack"]).arg(&events));
    let fetches =
        work.ask(&["query", "homepage-fetch", "--min-sequence", "90000"])["summary"]["homepage_fetches"].clone();
    let count = work.count(&events, &[]);
    let once =
        count["count"]["aggregators"]["homepage-fetch"]["summary"]["homepage_fetches"].as_u64().expect("a count");
    assert_eq!(fetches, 3 * once);
    daemon.stop();
    work.verified(&[]);
}

#[test]
fn a_plugin_that_traps_is_quarantined_and_the_others_go_on() {
    let work = Work::new(&[plugin("video-actions"), component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let config = work.path("tally.toml");
    std::fs::write(&config, "[[aggregator]]\nname = \"bad\"\nplugin = \"probe\"\nsettings = { trap_in = \"save\" }\n")
        .expect("writing the configuration");
    let events = work.generate("events", "--events 20000 --seed 9");
    let more = format!("--flush-events 3000 --config {}", config.display());
    let daemon = work.start(&more);
    succeed(work.send(&["--ack"]).arg(&events));
    wait_until("the records go on", || work.ask(&["status"])["records_written"].as_u64() >= Some(6));
    let total = work.ask(&["query", "video-actions", "--min-sequence", "20000"])["summary"]["total_events"].clone();
    assert_eq!(total, 20_000);
    let status = work.ask(&["status"]);
    let reason = status["aggregators"]["bad"]["quarantined"].as_str().expect("a reason");
    assert!(reason.contains("trap"), "{reason}");
    daemon.stop();
    let daemon = work.start(&more);
    assert!(work.ask(&["status"])["aggregators"]["bad"]["quarantined"].is_string(), "quarantine outlives a restart");
    daemon.stop();
    assert!(work.records().iter().any(|record| record["quarantined"]["bad"].is_string()));
    work.verified(&[]);
}
