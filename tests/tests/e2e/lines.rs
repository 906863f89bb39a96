//! An aggregator's state is computed anew, goes back, is given up and forgotten: on purpose, while events come, and over kills.

use serde_json::Value;
use tally_tests::{Work, component, plugin, succeed, tally, text, wait_until};

struct World {
    work: Work,
    sent: u64,
    events: std::path::PathBuf,
}

impl World {
    fn new(more: &[std::path::PathBuf]) -> Self {
        let plugins: Vec<_> = std::iter::once(plugin("video-actions")).chain(more.iter().cloned()).collect();
        let work = Work::new(&plugins);
        let events = work.generate("events", "--events 10000 --seed 3");
        Self { work, sent: 0, events }
    }

    fn send(&mut self) {
        succeed(self.work.send(&["--ack"]).arg(&self.events));
        self.sent += 10_000;
    }

    /// The number of events in the aggregator's state once it has seen all.
    fn total(&self, name: &str) -> u64 {
        wait_until("it caught up", || self.listed(name)["catching_up"].is_null());
        let sent = self.sent.to_string();
        let summary = self.work.ask(&["query", name, "--min-sequence", &sent])["summary"].clone();
        summary["total_events"].as_u64().expect("a number")
    }

    fn listed(&self, name: &str) -> Value {
        let list = self.work.ask(&["plugin", "list"]);
        let plugins = list["plugins"].as_array().expect("a list");
        plugins.iter().find(|plugin| plugin["name"] == name).cloned().unwrap_or_default()
    }

    /// What a command of `tally plugin` answers at the admin door, and whether it was done.
    fn plugin(&self, arguments: &[&str]) -> (String, bool) {
        let mut command = tally();
        command.arg("plugin").args(arguments).args(["--output", "json", "--to"]).arg(self.work.path("t.sock.admin"));
        let output = command.output().expect("tally plugin");
        (text(&output), output.status.success())
    }

    fn done(&self, arguments: &[&str]) {
        let (said, done) = self.plugin(arguments);
        assert!(done, "{arguments:?}: {said}");
    }

    fn refused(&self, arguments: &[&str], why: &str) {
        let (said, done) = self.plugin(arguments);
        assert!(!done && said.contains(why), "{arguments:?}: {said}");
    }

    /// Has the configuration run `probe` with these settings.
    fn configure(&self, settings: &str) {
        let text = format!("[[aggregator]]\nname = \"probe\"\nplugin = \"probe\"\nsettings = {settings}\n");
        std::fs::write(self.work.path("tally.toml"), text).expect("writing the configuration");
    }

    fn put(&self, plugin: &std::path::Path) {
        self.work.put_plugin("video-actions", &std::fs::read(plugin).expect("a component"));
        self.done(&["reload"]);
    }
}

fn another() -> std::path::PathBuf {
    component("TALLY_FIXTURES_DIR", "fixtures", "video-actions-alt")
}

#[test]
fn a_state_is_rebuilt_given_up_and_taken_back() {
    let mut world = World::new(&[]);
    let daemon = world.work.start("--flush-events 3000");
    world.send();
    world.refused(&["rollback", "video-actions"], "has had no other version or state");
    world.done(&["rebuild", "video-actions"]);
    assert_eq!(world.total("video-actions"), 10_000);
    world.refused(&["reset", "video-actions"], "--discard-state");
    world.done(&["reset", "video-actions", "--discard-state"]);
    assert_eq!(world.total("video-actions"), 0);
    world.send();
    assert_eq!(world.total("video-actions"), 10_000);
    daemon.kill();
    let daemon = world.work.start("--flush-events 3000");
    assert_eq!(world.total("video-actions"), 10_000);
    world.done(&["rollback", "video-actions"]);
    assert_eq!(world.total("video-actions"), 20_000);
    daemon.kill();
    let daemon = world.work.start("--flush-events 3000");
    world.send();
    assert_eq!(world.total("video-actions"), 30_000);
    // A second rollback takes the first one back.
    world.done(&["rollback", "video-actions"]);
    assert_eq!(world.total("video-actions"), 20_000);
    world.refused(&["rebuild", "video-actions", "--from", "2100-01-01T00:00:00Z"], "would begin behind event 30000");
    world.refused(&["rebuild", "video-actions", "--from", "yesterday"], "neither `beginning` nor a time");
    for change in ["pause", "resume", "rebuild", "rollback", "promote"] {
        world.refused(&[change, "nobody"], "(404 unknown_aggregator)");
    }
    world.done(&["rebuild", "video-actions", "--from", "2000-01-01T00:00:00Z"]);
    assert_eq!(world.total("video-actions"), 30_000);
    daemon.stop();
    world.work.verified(&[]);
    let records = world.work.records();
    let last = &records.last().expect("a record")["totals"]["video-actions"]["total_events"];
    assert_eq!(last, 30_000);
}

#[test]
fn a_rolled_back_version_runs_in_place_of_the_file_until_there_is_another() {
    let mut world = World::new(&[]);
    let daemon = world.work.start("--flush-events 3000");
    world.send();
    let first = world.listed("video-actions")["running_digest"].clone();
    world.put(&another());
    let second = world.listed("video-actions")["running_digest"].clone();
    assert_ne!(first, second);
    world.send();
    world.done(&["rollback", "video-actions"]);
    assert_eq!(world.total("video-actions"), 20_000);
    let is_held = |world: &World| {
        let listed = world.listed("video-actions");
        assert_eq!((&listed["running_digest"], &listed["wanted_digest"]), (&first, &second), "{listed}");
        assert_eq!(listed["held"], "rolled back");
    };
    is_held(&world);
    world.done(&["reload"]);
    is_held(&world);
    daemon.kill();
    let daemon = world.work.start("--flush-events 3000");
    is_held(&world);
    assert_eq!(world.total("video-actions"), 20_000);
    // Forward again: it is the file that runs.
    world.done(&["rollback", "video-actions"]);
    let listed = world.listed("video-actions");
    assert_eq!((&listed["running_digest"], &listed["held"]), (&second, &Value::Null), "{listed}");
    assert_eq!(world.total("video-actions"), 20_000);
    world.done(&["rollback", "video-actions"]);
    is_held(&world);
    // Another file ends it, even the first one.
    world.put(&plugin("video-actions"));
    let listed = world.listed("video-actions");
    assert_eq!((&listed["running_digest"], &listed["held"]), (&first, &Value::Null), "{listed}");
    world.send();
    assert_eq!(world.total("video-actions"), 30_000);
    daemon.stop();
    world.work.verified(&[]);
}

#[test]
fn a_paused_aggregator_stays_out_over_restarts_and_a_removed_one_is_forgotten() {
    let mut world = World::new(&[]);
    let daemon = world.work.start("--flush-events 3000");
    world.send();
    world.refused(&["resume", "video-actions"], "not in quarantine, and not paused");
    world.done(&["pause", "video-actions"]);
    world.refused(&["pause", "video-actions"], "paused already");
    world.refused(&["rebuild", "video-actions"], "is paused; resume it first");
    world.send();
    daemon.kill();
    let daemon = world.work.start("--flush-events 3000");
    let listed = world.listed("video-actions");
    assert_eq!(listed["state"], "paused", "{listed}");
    assert!(listed["reason"].to_string().contains("tally plugin resume"), "{listed}");
    world.done(&["resume", "video-actions"]);
    assert_eq!(world.total("video-actions"), 20_000);
    world.refused(&["remove", "video-actions", "--discard-state"], "is wanted");
    world.done(&["pause", "video-actions"]);
    world.refused(&["remove", "video-actions"], "--discard-state");
    world.done(&["remove", "video-actions", "--discard-state"]);
    world.refused(&["remove", "video-actions", "--discard-state"], "nothing is saved");
    daemon.kill();
    let daemon = world.work.start("--flush-events 3000");
    world.done(&["resume", "video-actions"]);
    assert_eq!(world.total("video-actions"), 0);
    world.send();
    assert_eq!(world.total("video-actions"), 10_000);
    std::fs::remove_file(world.work.path("plugins/video-actions.wasm")).expect("removing the plugin");
    world.done(&["reload"]);
    world.done(&["remove", "video-actions", "--discard-state"]);
    assert_eq!(world.listed("video-actions"), Value::Null);
    daemon.stop();
    world.work.verified(&[]);
}

#[test]
fn a_version_that_does_not_load_the_state_is_taken_when_it_may_compute_it_anew() {
    let mut world = World::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let more = format!("--flush-events 3000 --config {}", world.work.path("tally.toml").display());
    // Nobody loads what version 0 saves.
    world.configure("{ state_version = \"0\" }");
    let daemon = world.work.start(&more);
    succeed(world.work.send(&["--ack"]).arg(&world.events));
    daemon.stop();
    world.configure("{ state_version = \"2\" }");
    let daemon = world.work.start(&more);
    let listed = world.listed("probe");
    assert!(listed["reason"].to_string().contains("state version"), "{listed}");
    world.done(&["rebuild", "probe"]);
    let listed = world.listed("probe");
    assert_eq!((&listed["state"], &listed["reason"]), (&Value::from("running"), &Value::Null), "{listed}");
    let ledger = world.work.ask(&["status"])["aggregators"]["probe"].clone();
    assert_eq!(ledger["sequence"], 10_000, "{ledger}");
    world.sent = 10_000;
    daemon.stop();
    world.work.verified(&[]);
}

#[test]
fn dead_letters_are_given_again_to_a_mended_plugin_and_counted_once() {
    let world = World::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let more = format!("--flush-events 3000 --config {}", world.work.path("tally.toml").display());
    let replay = || {
        let mut command = tally();
        let output = command.args(["dead-letters", "replay", "probe", "--to"]).arg(world.work.path("t.sock.admin"));
        let output = output.output().expect("tally dead-letters");
        (text(&output), output.status.success())
    };
    world.configure("{ trap_on_sequence = 4321 }");
    let daemon = world.work.start(&more);
    let (said, done) = replay();
    assert!(!done && said.contains("there are no dead letters"), "{said}");
    succeed(world.work.send(&["--ack"]).arg(&world.events));
    let all_applied = || world.work.ask(&["query", "probe", "--min-sequence", "10000"]);
    all_applied();
    let letters = || world.work.ask(&["dead-letters", "list"])["dead_letters"].as_array().expect("a list").len();
    assert_eq!(letters(), 1);
    let (said, done) = replay();
    assert!(!done && said.contains("1 events were given again: 0 applied") && said.contains("probe:4321"), "{said}");
    assert_eq!(letters(), 1);
    daemon.stop();
    world.configure("{}");
    let daemon = world.work.start(&more);
    let (said, done) = replay();
    assert!(done && said.contains("1 events were given again: 1 applied"), "{said}");
    assert_eq!(letters(), 0);
    let counted = |applied: u64, skipped: u64| {
        all_applied();
        let ledger = world.work.ask(&["status"])["aggregators"]["probe"]["ledger"].clone();
        assert_eq!((&ledger["applied"], &ledger["skipped"]), (&applied.into(), &skipped.into()), "{ledger}");
    };
    counted(10_000, 0);
    // The letter comes back with the state, and goes with it, over a kill as well.
    world.done(&["rollback", "probe"]);
    counted(9_999, 1);
    assert_eq!(letters(), 1);
    daemon.kill();
    let daemon = world.work.start(&more);
    assert_eq!(letters(), 1);
    world.done(&["rollback", "probe"]);
    counted(10_000, 0);
    assert_eq!(letters(), 0);
    daemon.stop();
    world.work.verified(&[]);
}

#[test]
fn letters_are_given_again_from_where_the_state_began() {
    let world = World::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let more = format!("--flush-events 3000 --config {}", world.work.path("tally.toml").display());
    let send = || succeed(world.work.send(&["--ack"]).arg(&world.events));
    let applied = |sequence: &str| {
        world.work.ask(&["query", "probe", "--min-sequence", sequence]);
        world.work.ask(&["status"])["aggregators"]["probe"]["ledger"]["applied"].clone()
    };
    world.configure("{ trap_on_sequence = 14321 }");
    let daemon = world.work.start(&more);
    send();
    assert_eq!(applied("10000"), 10_000);
    world.done(&["reset", "probe", "--discard-state"]);
    send();
    assert_eq!(applied("20000"), 9_999);
    daemon.stop();
    world.configure("{}");
    let daemon = world.work.start(&more);
    let mut replay = tally();
    replay.args(["dead-letters", "replay", "probe", "--to"]).arg(world.work.path("t.sock.admin"));
    let output = replay.output().expect("tally dead-letters");
    assert!(output.status.success(), "{}", text(&output));
    // What was given up before stays so.
    assert_eq!(applied("20000"), 10_000);
    world.done(&["rebuild", "probe"]);
    assert_eq!(applied("20000"), 20_000);
    daemon.stop();
    world.work.verified(&[]);
}

#[test]
fn nothing_goes_back_to_what_was_forgotten() {
    let mut world = World::new(&[]);
    let mut daemon = world.work.start("--flush-events 3000");
    for killed in [false, true] {
        world.send();
        // An earlier state is kept for a way back, and goes with the rest.
        world.done(&["rebuild", "video-actions"]);
        world.done(&["pause", "video-actions"]);
        world.done(&["remove", "video-actions", "--discard-state"]);
        if killed {
            daemon.kill();
            daemon = world.work.start("--flush-events 3000");
        }
        world.refused(&["rollback", "video-actions"], "has had no other version or state");
        world.done(&["resume", "video-actions"]);
        assert_eq!(world.total("video-actions"), 0);
        world.refused(&["rollback", "video-actions"], "has had no other version or state");
    }
    world.send();
    assert_eq!(world.total("video-actions"), 10_000);
    // The log has all of it.
    world.done(&["rebuild", "video-actions"]);
    assert_eq!(world.total("video-actions"), 30_000);
    world.done(&["rollback", "video-actions"]);
    assert_eq!(world.total("video-actions"), 10_000);
    daemon.kill();
    world.work.verified(&[]);
}

#[test]
fn verify_knows_of_lines_that_nobody_took_over_and_of_what_was_forgotten() {
    let mut world = World::new(&[plugin("homepage-fetch")]);
    let more = "--flush-events 3000 --set log.segment_bytes=4MiB --set log.retain_bytes=4MiB";
    let mut daemon = world.work.start(more);
    world.send();
    // Killed as soon as it is logged, again and again: with and without a start before it is verified.
    for round in 0..6 {
        world.done(&["reset", "video-actions", "--discard-state"]);
        daemon.kill();
        world.work.verified(&[]);
        daemon = world.work.start(more);
        world.send();
        assert_eq!(world.total("video-actions"), 10_000, "round {round}");
    }
    // Until the log lets its beginning go.
    for _ in 0..12 {
        world.send();
    }
    let first = || world.work.path("data/wal/wal_0000000001.seg").exists();
    wait_until("the log lets go", || !first());
    // Of what it was before, records behind the anchor are left, and nothing in the log says how that began.
    world.send();
    world.total("video-actions");
    world.done(&["reset", "video-actions", "--discard-state"]);
    daemon.kill();
    world.work.verified(&[]);
    daemon = world.work.start(more);
    world.done(&["rebuild", "video-actions", "--discard-state"]);
    world.total("video-actions");
    world.done(&["pause", "video-actions"]);
    world.done(&["remove", "video-actions", "--discard-state"]);
    daemon.stop();
    let said = world.work.verified(&[]);
    assert!(said.contains("forgotten"), "{said}");
}
