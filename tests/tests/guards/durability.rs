//! Whatever the durability, an end of the process loses nothing acknowledged: only a power cut could.

use tally_tests::wire::{self, Lines};
use tally_tests::{Work, plugin, succeed, wait_until};

const EVENTS: u64 = 30_000;

fn nothing_is_lost(durability: &str) {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let more = work.configure(&format!("[log]\n{durability}\n[flush]\nevents = 7000\n"));
    let events = work.generate("events", &format!("--events {EVENTS} --seed 51 --homepage 0.1 --refused 0.01"));
    let text = std::fs::read_to_string(&events).expect("events");
    let daemon = work.start(&more);
    succeed(work.send(&["--ack"]).arg(&events));
    daemon.kill();
    let daemon = work.start(&more);
    assert_eq!(daemon.sequence, EVENTS, "SIGKILL");

    // In the middle: what was acknowledged is there, and the producer goes on behind it.
    let hello = r#"{"tally":"ack","producer":"p"}"#;
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), hello);
    assert_eq!(client.answer()["resume"], 0);
    client.write(&text);
    let acknowledged = client.answer()["durable"].as_u64().expect("progress");
    daemon.kill();
    let daemon = work.start(&more);
    assert!(daemon.sequence >= EVENTS + acknowledged, "SIGKILL in the middle: {} {acknowledged}", daemon.sequence);
    succeed(work.send(&["--ack", "--producer", "p"]).arg(&events));
    daemon.stop();

    let daemon = work.start(&more);
    assert_eq!(daemon.sequence, 2 * EVENTS, "SIGTERM");
    wait_until("the records are written", || work.status()["records_behind"] == 0);
    daemon.stop();
    let once = work.count(&events, &[])["count"]["aggregators"]["video-actions"]["applied"].as_u64().expect("a count");
    let totals = &work.records().last().expect("a record")["totals"]["video-actions"].clone();
    assert_eq!(totals["total_events"], 2 * once, "everything counts once for each time it was sent");
    work.verified(&[]);
}

#[test]
fn nothing_is_lost_when_synced_now_and_then() {
    nothing_is_lost("durability = \"interval\"\nsync_interval = \"1h\"");
}

#[test]
fn nothing_is_lost_when_the_system_syncs() {
    nothing_is_lost("durability = \"os\"");
}
