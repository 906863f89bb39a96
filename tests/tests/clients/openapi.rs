//! schemathesis, which asks whatever the daemon's own description allows, and much that it does not.

use tally_tests::clients::{Open, installed};
use tally_tests::{succeed, text};

#[test]
fn schemathesis_finds_the_daemon_as_it_describes_itself() {
    let Some(mut schemathesis) = installed("st") else { return };
    let open = Open::new("");
    let events = open.work.generate("events", "--events 3000 --seed 5 --invalid 0.05 --homepage 0.1");
    succeed(open.work.send(&["--ack"]).arg(&events));
    open.summary("video-actions");
    let before = open.ledger();
    // Whoever asks for events that never come waits, and is told so in the end.
    let settings = "[parameters]\n\"query.wait\" = \"100ms\"\n\
                    [checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", 504]\n";
    std::fs::write(open.work.path("schemathesis.toml"), settings).expect("writing its settings");
    schemathesis.arg("run").arg(open.questions("/openapi.json"));
    // The same requests on every machine. Phases that go on from one answer to the next have nothing to go on here.
    schemathesis.args(["--max-examples", "30", "--generation-deterministic", "--no-color"]);
    schemathesis.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure"]);
    let output = schemathesis.current_dir(open.work.path("")).output().expect("schemathesis runs");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(open.ledger(), before, "questions change nothing");
    open.end();
}
