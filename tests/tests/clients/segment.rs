//! Segment's client for Python.

use tally_tests::clients::{Open, installed, script};

use crate::stdlib::same_counts;

#[test]
fn every_kind_of_call_arrives() {
    let Some(python) = installed("python") else { return };
    let open = Open::new("");
    let saw = open.run(script(python, "segment_analytics.py"));
    same_counts(&open, &saw);
    let summary = open.summary("video-actions");
    assert_eq!((&summary["plays"], &summary["total_visitors"]), (&10.into(), &5.into()), "{summary}");
    open.end();
}
