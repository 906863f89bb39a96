//! Python's standard library: urllib, http.client and sockets.

use serde_json::Value;
use tally_tests::clients::{Open, program, script};
use tally_tests::wait_until;

/// What a script says it sent is what the daemon has.
pub fn same_counts(open: &Open, saw: &Value) {
    let [received, accepted, rejected, duplicate, dropped] = open.ledger();
    let daemon = serde_json::json!({"accepted": accepted, "rejected": rejected, "duplicates": duplicate});
    assert_eq!((&daemon, dropped), (saw, 0), "of {received} received");
}

#[test]
fn urllib_sends_over_http() {
    let Some(python) = program("python3") else { return };
    let open = Open::new("");
    let saw = open.run(script(python, "urllib_http.py"));
    // What a request queued without waiting, and what a client left behind, is decided in its own time.
    wait_until("everything is decided", || open.ask("/v1/status")["sequence"] == saw["accepted"]);
    same_counts(&open, &saw);
    // One of the accepted is a login, which nobody counts.
    let summary = open.summary("video-actions");
    assert_eq!(summary["total_views"].as_u64(), saw["accepted"].as_u64().map(|n| n - 1), "{summary}");
    let rejected = saw["rejected"].as_u64().map(|n| n as usize);
    wait_until("rejected lines are in their file", || {
        open.ask("/v1/rejected?rows=100")["rejected"].as_array().map(Vec::len) == rejected
    });
    open.end();
}

#[test]
fn sockets_send_lines_frames_and_datagrams() {
    let Some(python) = program("python3") else { return };
    let open = Open::new("");
    let saw = open.run(script(python, "sockets.py"));
    wait_until("the datagrams are decided", || open.ask("/v1/status")["sequence"] == saw["accepted"]);
    wait_until("the wrong one is counted", || open.ledger()[2] == saw["rejected"].as_u64().expect("a count"));
    same_counts(&open, &saw);
    assert_eq!(open.summary("video-actions")["total_views"], saw["accepted"]);
    open.end();
}
