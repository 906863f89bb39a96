//! SIGKILL in the middle of it: what was skipped stays skipped, what was not is found again, and nothing counts twice.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;
use tally_tests::wait_until;

use crate::traffic::{LIMITS, World, view};

#[test]
fn kills_while_events_are_found_and_plugins_quarantined_change_nothing() {
    let limits = LIMITS.replace("[plugin]", "[plugin]\nstrikes = 100").replace("events = 100", "events = 700");
    let mut world = World::new(
        &limits,
        &[("obeys", "{ obey = true }"), ("trap-merge", "{ trap_in = \"merge\" }"), ("swells", "{ swell = 65536 }")],
    );
    let mut send = world
        .work
        .send(&["-", "--ack", "--producer", "p", "--retry-for", "120s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tally send");
    let mut input = send.stdin.take().expect("its input");
    let mut sent = 0;
    for kill in 0..8 {
        for _ in 0..2 {
            let lines: String = (0..500).map(|nth| view(sent + nth, (nth == 250).then_some("trap"))).collect();
            input.write_all(lines.as_bytes()).expect("writing to tally send");
            sent += 500;
        }
        wait_until("some of it has arrived", || {
            world.work.status()["sequence"].as_u64() > Some(sent.saturating_sub(900))
        });
        std::thread::sleep(std::time::Duration::from_millis(kill * 13 % 60));
        world.kill();
    }
    drop(input);
    assert!(send.wait().expect("tally send").success(), "everything was acknowledged in the end");
    world.also_sent(sent);
    let ledger = world.caught_up("obeys");
    assert_eq!((&ledger["skipped"], &ledger["applied"]), (&16.into(), &Value::from(sent - 16)), "{ledger}");
    let listed = world.work.ask(&["dead-letters", "list", "--rows", "100"]);
    let letters: Vec<u64> = listed["dead_letters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|letter| letter["sequence"].as_u64().expect("a sequence"))
        .collect();
    let expected: Vec<u64> = (0..16).rev().map(|block| block * 500 + 251).collect();
    assert_eq!(letters, expected);
    world.quarantined("trap-merge");
    world.quarantined("swells");
    world.end();
}
