//! `tally verify` finds equal what is equal, whatever the size of a call, and names the place of any difference.

use std::path::PathBuf;

use serde_json::Value;
use tally_tests::{Work, plugin, succeed, text, wait_until};

fn flushed(events: &str, run: &str) -> Work {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let events = work.generate("events", events);
    let daemon = work.start(run);
    succeed(work.send(&["--ack"]).arg(&events));
    wait_until("the records are written", || work.ask(&["status"])["records_behind"] == 0);
    daemon.stop();
    work
}

#[test]
fn a_thousand_flushes_are_equal_whatever_the_rows_of_a_call() {
    let work = flushed("--events 22000 --seed 21 --homepage 0.1 --refused 0.02", "--flush-events 20");
    let chains = |rows: &str| {
        let printed = work.verified(&["--batch-rows", rows]);
        let chains: Vec<String> = printed.lines().skip(1).map(str::to_owned).collect();
        assert_eq!(chains.len(), 2, "{printed}");
        chains
    };
    assert!(work.records().len() >= 1000);
    let of_one = chains("1");
    assert_eq!(of_one, chains("7"));
    assert_eq!(of_one, chains("4096"));
}

#[test]
fn one_flipped_byte_is_found_and_named() {
    let work = flushed("--events 20000 --seed 22", "--flush-events 8000");
    work.verified(&[]);
    let check = |path: PathBuf, needle: &[u8], names: &[&str]| {
        let good = std::fs::read(&path).expect("a file of the data directory");
        let at = good.windows(needle.len()).position(|window| window == needle).expect("the bytes to damage");
        let mut bad = good.clone();
        bad[at + needle.len() / 2] ^= 1;
        std::fs::write(&path, bad).expect("damaging");
        let output = work.verify(&[]);
        std::fs::write(&path, good).expect("mending");
        let printed = text(&output);
        assert!(!output.status.success(), "damage of {} went unseen: {printed}", path.display());
        assert!(names.iter().all(|name| printed.contains(name)), "{printed}");
    };
    check(work.path("data/wal/wal_0000000001.seg"), b"\"user_id\"", &["wal_0000000001.seg", "at byte", "sequences"]);
    // Three flushes leave three runs as they were saved: none was merged away, so every copy of a post's id is in use.
    check(work.path("data/state.redb"), b"\x05\x00\x00\x0010123", &["video-actions"]);
    let stored = std::fs::read_dir(work.path("data/plugins")).expect("stored plugins");
    for entry in stored {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        check(path, b"tally:aggregator", &[&name]);
    }
    check(work.path("data/analytics_00001.log"), b"\"total_views\":", &["analytics_00001.log"]);
    work.verified(&[]);
}

#[test]
fn the_log_lets_old_segments_go_and_verify_begins_at_the_anchor() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let config = work.path("tally.toml");
    std::fs::write(&config, "[log]\nsegment_bytes = \"4MiB\"\nretain_bytes = \"8MiB\"\n").expect("the configuration");
    let more = format!("--flush-events 20000 --config {}", config.display());
    let events = work.generate("events", "--events 300000 --seed 23 --homepage 0.05");
    let daemon = work.start(&more);
    succeed(work.send(&["--ack"]).arg(&events));
    daemon.kill();
    let daemon = work.start(&more);
    succeed(work.send(&["--ack"]).arg(&events));
    wait_until("the first segment is gone", || !work.path("data/wal/wal_0000000001.seg").exists());
    daemon.stop();
    let total = &work.records().last().expect("a record")["totals"]["video-actions"]["total_events"].clone();
    let once = work.count(&events, &[])["count"]["aggregators"]["video-actions"]["applied"].as_u64().expect("a count");
    assert_eq!(*total, 2 * once);
    let report: Value = serde_json::from_str(&work.verified(&["--output", "json"])).expect("a report in JSON");
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name}: {report}"));
    let older = number("records_not_compared");
    assert!(older > 0, "records from before the anchor are there: {report}");
    assert_eq!(number("records") + older, work.records().len() as u64, "each is compared or not: {report}");
    let printed = work.verified(&[]);
    assert!(printed.starts_with("what came since the anchor is equal"), "{printed}");
    assert!(printed.contains(&format!("{older} older records not compared")), "{printed}");
}
