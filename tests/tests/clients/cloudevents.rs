//! The CloudEvents SDK for Python.

use tally_tests::clients::{Open, installed, script};

use crate::stdlib::same_counts;

#[test]
fn the_sdk_sends_in_every_mode() {
    let Some(python) = installed("python") else { return };
    let open = Open::new("");
    let saw = open.run(script(python, "cloudevents_sdk.py"));
    same_counts(&open, &saw);
    let summary = open.summary("video-actions");
    // All but two pings without data; the data's user is found where the preset says.
    let actions = saw["accepted"].as_u64().map(|n| n - 2);
    assert_eq!(summary["total_events"].as_u64(), actions, "{summary}");
    assert_eq!((&summary["plays"], &summary["total_visitors"]), (&2.into(), &2.into()), "{summary}");
    open.end();
}
