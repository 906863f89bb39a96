//! Events that hurt: each is skipped for the plugin that fails on it alone, kept as a dead letter, and counted.

use serde_json::Value;
use tally_tests::{succeed, tally};

use crate::traffic::{LIMITS, World};

const OBEYS: [(&str, &str); 1] = [("obeys", "{ obey = true }")];

fn dead_letters(world: &World, more: &[&str]) -> Vec<Value> {
    let asked: Vec<&str> = ["dead-letters", "list"].iter().chain(more).copied().collect();
    world.work.ask(&asked)["dead_letters"].as_array().expect("a list").clone()
}

#[test]
fn an_event_that_a_plugin_fails_on_alone_is_skipped_and_dead_lettered() {
    let mut world = World::new(LIMITS, &OBEYS);
    let mut expected = Vec::new();
    for (what, says) in [
        ("trap", "`apply` trapped: wasm `unreachable` instruction executed"),
        ("loop", "`apply` used up its compute budget"),
        ("recurse", "`apply` trapped: call stack exhausted"),
        ("lie", "`apply` refused row 1 of 1"),
    ] {
        world.send(70, None);
        expected.push((world.sent() + 1, what, says));
        world.send(30, Some(what));
    }
    // Others are talked about, but do no harm.
    world.send(30, Some("log"));
    let ledger = world.caught_up("obeys");
    assert_eq!((&ledger["skipped"], &ledger["applied"]), (&4.into(), &(world.sent() - 4).into()), "{ledger}");
    world.is_unharmed();
    let listed = dead_letters(&world, &["--aggregator", "obeys"]);
    assert_eq!(listed.len(), 4);
    for (letter, (sequence, what, says)) in listed.iter().rev().zip(&expected) {
        assert_eq!(letter["sequence"], *sequence, "{letter}");
        assert!(letter["reason"].as_str().expect("a reason").contains(says), "{what}: {letter}");
        let shown = world.work.ask(&["dead-letters", "show", &format!("obeys:{sequence}")]);
        let event = shown["event"].as_str().expect("the event");
        assert!(event.contains(&format!("\"do\":\"{what}\"")), "{shown}");
        assert_eq!((&shown["plugin"], &shown["truncated"]), (&"probe".into(), &false.into()));
        if *what == "trap" {
            assert!(shown["backtrace"].as_str().expect("a backtrace").contains("trap_as_asked"), "{shown}");
        }
    }
    assert!(dead_letters(&world, &["--aggregator", "video-actions"]).is_empty());
    assert_eq!(dead_letters(&world, &["--rows", "1"]), listed[..1]);
    let unknown = world.work.get("/v1/dead-letters/obeys:1");
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (404, Some("no_dead_letter")));
    let metric = |name: &str| world.work.metric(&format!("tally_aggregator_{name}{{aggregator=\"obeys\"}}"));
    assert_eq!((metric("skipped_total"), metric("strikes"), metric("quarantined")), (4.0, 4.0, 0.0));
    assert_eq!(world.listed("obeys")["strikes"], 4);

    // All of that outlives the daemon, and nothing is found a second time.
    world.restart();
    assert_eq!(dead_letters(&world, &[]), listed);
    world.send(100, None);
    assert_eq!(world.caught_up("obeys")["skipped"], 4);
    assert_eq!(world.listed("obeys")["strikes"], 4);
    let work = world.end();
    let at_rest = |arguments: &[&str]| -> Value {
        let mut read = tally();
        read.arg("dead-letters").args(arguments).arg("--data-dir").arg(work.path("data")).args(["--output", "json"]);
        serde_json::from_str(&succeed(&mut read)).expect("JSON")
    };
    assert_eq!(at_rest(&["list"])["dead_letters"], Value::from(listed.clone()));
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!(at_rest(&["show", id])["reason"], listed[0]["reason"]);
}

#[test]
fn many_events_of_one_call_are_found_one_by_one() {
    let mut world = World::new(&LIMITS.replace("events = 100", "events = 5000"), &OBEYS);
    for _ in 0..8 {
        world.send(200, Some("trap"));
        world.send(1, Some("trap"));
    }
    let ledger = world.caught_up("obeys");
    assert_eq!((&ledger["skipped"], &ledger["applied"]), (&16.into(), &Value::from(world.sent() - 16)), "{ledger}");
    world.end();
}
