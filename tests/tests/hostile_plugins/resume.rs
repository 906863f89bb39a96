//! Strikes lead to quarantine, the log goes on filling, and `plugin resume` goes on from there.

use tally_tests::text;

use crate::traffic::{LIMITS, World};

#[test]
fn strikes_lead_to_quarantine_and_a_resumed_plugin_catches_up() {
    let limits = LIMITS.replace("[plugin]", "[plugin]\nstrikes = 3");
    let mut world = World::new(&limits, &[("obeys", "{ obey = true }")]);
    let refused = world.admin(&["plugin", "resume", "obeys"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("aggregator obeys is not in quarantine"), "{}", text(&refused));
    let unknown = world.admin(&["plugin", "resume", "nobody"]);
    assert!(text(&unknown).contains("there is no aggregator \"nobody\""), "{}", text(&unknown));
    for _ in 0..5 {
        world.send(60, Some("trap"));
    }
    let reason = world.quarantined("obeys");
    assert!(reason.contains("it failed on 3 events before, and plugin.strikes allows 3"), "{reason}");
    world.send(250, None);
    world.is_unharmed();
    assert!(world.listed("obeys")["quarantined_after_cut"].is_u64());

    // Three strikes are forgiven, what was skipped before stays skipped, and two events are left to fail on.
    let resumed = world.admin(&["plugin", "resume", "obeys"]);
    assert!(resumed.status.success(), "{}", text(&resumed));
    let ledger = world.caught_up("obeys");
    assert_eq!((&ledger["skipped"], &ledger["applied"]), (&5.into(), &(world.sent() - 5).into()), "{ledger}");
    let listed = world.listed("obeys");
    assert_eq!((&listed["state"], &listed["strikes"]), (&"running".into(), &2.into()), "{listed}");
    assert!(listed["reason"].is_null(), "{listed}");
    world.restart();
    world.send(100, None);
    assert_eq!(world.caught_up("obeys")["skipped"], 5);
    world.end();
}

#[test]
fn memory_is_no_events_fault_and_the_next_version_takes_over() {
    let mut world = World::new(LIMITS, &[("obeys", "{ obey = true }")]);
    world.send(150, None);
    world.send(50, Some("grow"));
    let reason = world.quarantined("obeys");
    assert!(reason.contains("`apply` wanted too much memory"), "{reason}");
    assert!(world.work.ask(&["dead-letters", "list"])["dead_letters"].as_array().expect("a list").is_empty());
    // The same plugin fails at the same place.
    let resumed = world.admin(&["plugin", "resume", "obeys"]);
    assert!(resumed.status.success(), "{}", text(&resumed));
    world.quarantined("obeys");
    world.send(100, None);
    world.is_unharmed();
    world.end();
}

#[test]
fn plugins_that_no_longer_start_stop_no_daemon() {
    let mut world = World::new(LIMITS, &[("obeys", "{ obey = true }")]);
    world.send(150, None);
    world.restart_with("\"24MiB\"", "\"1MiB\"");
    let reason = world.quarantined("obeys");
    assert!(reason.contains("`instantiate` wanted too much memory"), "{reason}");
    world.send(150, None);
    let refused = world.admin(&["plugin", "resume", "obeys"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("aggregator obeys stays in quarantine"), "{}", text(&refused));
    assert!(text(&refused).contains("wanted too much memory"), "{}", text(&refused));
    world.restart_with("\"1MiB\"", "\"24MiB\"");
    // Nobody started in so little; events were taken all the same.
    for name in ["obeys", "video-actions"] {
        let resumed = world.admin(&["plugin", "resume", name]);
        assert!(resumed.status.success(), "{}", text(&resumed));
        assert_eq!(world.caught_up(name)["applied"], world.sent());
    }
    // The next record has them all again.
    world.send(200, None);
    world.end();
}
