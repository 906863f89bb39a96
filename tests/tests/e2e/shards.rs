//! An aggregator in several shards: whatever their number, and however it changes, every number is as it would be with one.

use std::time::Duration;

use tally_tests::{Daemon, Work, component, plugin, tally, text, wait_until};

use crate::counts::everything_equals_the_count;

fn shards(of_actions: u32, of_fetches: u32) -> String {
    format!(
        "[[aggregator]]\nplugin = \"video-actions\"\nshards = {of_actions}\n\
         [[aggregator]]\nplugin = \"homepage-fetch\"\nshards = {of_fetches}\n"
    )
}

/// Has a new number of shards read, and waits until it is to be.
fn reload(work: &Work, daemon: &Daemon, of_actions: u32, of_fetches: u32) {
    work.configure(&shards(of_actions, of_fetches));
    daemon.signal("HUP");
    let wanted = [of_fetches, of_actions];
    wait_until("the new number is listed", || {
        let plugins = work.ask(&["plugin", "list"])["plugins"].clone();
        plugins.as_array().is_some_and(|plugins| plugins.iter().map(|plugin| &plugin["shards"]).eq(&wanted))
    });
}

#[test]
fn kills_and_other_numbers_of_shards_change_no_number() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let shape = "--events 300000 --seed 31 --invalid 0.01 --unsubscribed 0.1 --refused 0.01 --homepage 0.2";
    let events = work.generate("events", shape);
    let mut daemon = work.start(&format!("--flush-events 40000 {}", work.configure(&shards(3, 2))));
    let (mut generate, mut send) = work.stream(shape, 60_000, &["--producer", "api-1", "--retry-for", "120s"]);
    for (of_actions, of_fetches) in [(1, 3), (4, 1), (2, 2), (3, 5)] {
        std::thread::sleep(Duration::from_millis(500));
        daemon.kill();
        daemon = work.start(&format!("--flush-events 40000 {}", work.configure(&shards(of_actions, of_fetches))));
        std::thread::sleep(Duration::from_millis(200));
        reload(&work, &daemon, of_actions + 1, of_fetches);
    }
    assert!(send.wait().expect("tally send").success(), "everything was acknowledged in the end\n{}", work.log());
    generate.wait().expect("tally generate");
    daemon.stop();
    everything_equals_the_count(&work, &events);
    // It replays in one shard and compares the bytes of every cut.
    work.verified(&[]);
}

#[test]
fn shards_without_a_shard_key_are_refused_by_name() {
    let work = Work::new(&[plugin("video-actions"), component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let one = "[[aggregator]]\nname = \"all\"\nplugin = \"probe\"\n";
    let daemon = work.start(&work.configure(&format!("{one}shards = 2\n")));
    let listed = || {
        let plugins = work.ask(&["plugin", "list"])["plugins"].clone();
        plugins.as_array().and_then(|list| list.iter().find(|plugin| plugin["name"] == "all").cloned())
    };
    wait_until("it is listed", || listed().is_some());
    let refused = listed().expect("it is listed");
    let reason = refused["reason"].as_str().expect("a reason");
    assert_eq!(
        (refused["state"].as_str(), reason),
        (
            Some("failed"),
            "it is to run in 2 shards, but the plugin probe names no shard key to deal events by: set `shards` to 1, or \
             have the plugin name one"
        )
    );
    assert!(work.log().contains("aggregator=\"all\""), "{}", work.log());
    // With one shard it runs, and goes on running while more are asked for.
    for (text, runs) in [(one.to_owned(), true), (format!("{one}shards = 3\n"), false)] {
        work.configure(&text);
        daemon.signal("HUP");
        wait_until("the reload is done", || listed().is_some_and(|plugin| plugin["reason"].is_null() == runs));
        assert_eq!(listed().expect("it is listed")["state"], "running");
    }
    daemon.stop();
    let refused =
        tally().args(work.run_arguments(&work.configure(&format!("{one}shards = 0\n")))).output().expect("run");
    assert!(text(&refused).contains("aggregator[0].shards: 0 is not between 1 and 64"), "{}", text(&refused));
}
