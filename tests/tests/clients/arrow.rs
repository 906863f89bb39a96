//! pyarrow, which reads what the query door answers.

use tally_tests::clients::{Open, installed, script};
use tally_tests::succeed;

#[test]
fn pyarrow_reads_what_json_and_csv_say() {
    let Some(python) = installed("python") else { return };
    let open = Open::new("");
    let events = open.work.generate("events", "--events 5000 --seed 7 --homepage 0.1");
    succeed(open.work.send(&["--ack"]).arg(&events));
    assert!(open.summary("video-actions")["total_events"].as_u64() > Some(4000));
    assert!(open.summary("homepage-fetch")["homepage_fetches"].as_u64() > Some(0));
    let saw = open.run(script(python, "arrow_answers.py"));
    assert!(saw["rows"]["/video-actions/posts?rows=0"].as_u64() > Some(10), "{saw}");
    assert_eq!(saw["rows"]["/video-actions/summary"], 1);
    open.end();
}
