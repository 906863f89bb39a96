//! Limits on what is remembered, answered and recorded. Going past these loses no count, and shows.

use serde_json::json;
use tally_tests::wire::{self, Lines};
use tally_tests::{Work, component, plugin, succeed, wait_until};

use crate::bystander::Bystander;

const ACK: &str = r#"{"tally":"ack"}"#;

pub fn query_max_rows() {
    let work = Work::new(&[plugin("video-actions")]);
    let events = work.generate("events", "--events 1000 --seed 31");
    let daemon = work.start("--set query.max_rows=3");
    let mut bystander = Bystander::new(&work);
    succeed(work.send(&["--ack"]).arg(&events));
    for (route, parameters) in [("", "&table=posts"), ("/posts", "")] {
        let get = |rows: u64| {
            work.get(&format!("/v1/aggregators/video-actions{route}?rows={rows}&min_sequence=1001{parameters}"))
        };
        for rows in [4, 0] {
            let refused = get(rows);
            assert_eq!((refused.status, refused.code().as_str()), (400, "too_many_rows"), "{refused:?}");
            assert!(refused.body.contains("query.max_rows"), "{refused:?}");
        }
        bystander.works();
        let page = get(3).json();
        let (rows, left_out) = match route {
            "" => (&page["tables"]["posts"], &page["rows_left_out"]["posts"]),
            _ => (&page["rows"], &page["rows_left_out"]),
        };
        assert_eq!(rows.as_array().map(Vec::len), Some(3), "{page}");
        assert!(left_out.as_u64() > Some(0), "what is left out is counted: {page}");
    }
    assert_eq!(work.metric("tally_door_answers_total{door=\"query\",status=\"400\"}"), 4.0);
    daemon.stop();
}

pub fn analytics_table_rows() {
    let work = Work::new(&[plugin("video-actions")]);
    let events = work.generate("events", "--events 1000 --seed 32");
    let daemon = work.start("--set analytics.table_rows=2");
    succeed(work.send(&["--ack"]).arg(&events));
    let all = work.get("/v1/aggregators/video-actions?rows=10000&min_sequence=1000&table=posts").json();
    let posts = all["tables"]["posts"].as_array().expect("posts").len();
    assert!(posts > 2, "an answer is not bound by it");
    daemon.stop();
    let records = work.records();
    let count = work.count(&events, &[(1, 1000)]);
    let counted = &count["count"]["aggregators"]["video-actions"]["summary"];
    for report in ["aggregates", "totals"] {
        let report = &records.last().expect("a record")[report]["video-actions"];
        assert_eq!(report["tables"]["posts"].as_array().map(Vec::len), Some(2), "{report}");
        assert_eq!(report["rows_left_out"]["posts"], posts - 2, "what is left out is counted");
        assert_eq!(report["total_events"], counted["total_events"], "and still in the sums");
    }
    work.verified(&[]);
}

pub fn log_tail_bytes() {
    const EVENTS: u64 = 20_000;
    const CHUNK: usize = 800;
    let work = Work::new(&[plugin("video-actions"), component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let more = work.configure(
        "[log]\ntail_bytes = 0\n[plugin]\nfuel_base = 1000000000000\n[[aggregator]]\nname = \"slow\"\nplugin = \"probe\"\nsettings = { spin = 100000000 }\n\
         [[aggregator]]\nname = \"video-actions\"\nplugin = \"video-actions\"\n",
    );
    let events = work.generate("events", &format!("--events {EVENTS} --seed 33"));
    let daemon = work.start(&format!("{more} --flush-events 3000"));
    let mut bystander = Bystander::new(&work);
    // Slower than the log: only the newest frame stays in memory, so the slow one must read the others from disk.
    let text = std::fs::read_to_string(&events).expect("events");
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for (i, chunk) in lines.chunks(CHUNK).enumerate() {
        client.write(chunk.concat());
        client.durable((i * CHUNK + chunk.len()) as u64);
    }
    let behind = work.metric("tally_aggregator_lag_events{aggregator=\"slow\"}");
    assert!(behind > 1000.0, "the slow one is behind, which can be seen: {behind}");
    bystander.works();
    let everything = EVENTS + bystander.sent();
    let of = |name: &str| work.get(&format!("/v1/aggregators/{name}?min_sequence={everything}&wait=60s")).json();
    assert_eq!(of("video-actions")["as_of_sequence"], everything, "it does not wait for the slow one");
    let slow = of("slow");
    let rows: u64 =
        ["actions", "homepage_fetches", "others"].iter().filter_map(|one| slow["summary"][one].as_u64()).sum();
    assert_eq!(rows, everything, "what it reads from disk is what it would have read from memory: {slow}");
    daemon.stop();
    work.verified(&[]);
}

fn event(id: &str) -> String {
    format!("{{\"type\":\"action\",\"event_id\":\"{id}\"}}\n")
}

pub fn dedupe_ids() {
    let work = Work::new(&[]);
    let daemon = work.start("--set dedupe.ids=2");
    let mut bystander = Bystander::new(&work);
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    let mut sent = 0;
    let mut duplicates = |id: &str| {
        client.write(event(id));
        sent += 1;
        client.durable(sent)["duplicates"].as_u64().unwrap_or(0)
    };
    // The connection's duplicates so far.
    assert_eq!([duplicates("a"), duplicates("b"), duplicates("a")], [0, 0, 1], "two are remembered");
    assert_eq!([duplicates("c"), duplicates("a")], [1, 1], "c is new, and a, the oldest, is forgotten for it");
    assert_eq!(duplicates("c"), 2, "c is remembered");
    bystander.works();
    let ledger = &work.status()["ledger"];
    assert_eq!((&ledger["duplicate"], &ledger["accepted"]), (&json!(2), &json!(4 + bystander.sent())));
    assert_eq!(work.metric("tally_events_duplicate_total"), 2.0);
    daemon.stop();
}

pub fn dedupe_window() {
    let work = Work::new(&[]);
    let daemon = work.start("--set dedupe.window=1s");
    let mut bystander = Bystander::new(&work);
    let mut client = Lines::begin(wire::unix(&work.path("t.sock")), ACK);
    client.write(event("a") + &event("a"));
    assert_eq!(client.durable(2)["duplicates"], 1, "within the window");
    let accepted = || work.status()["ledger"]["accepted"].as_u64().expect("a count");
    let before = accepted();
    let mut sent = 2;
    wait_until("the id is forgotten", || {
        client.write(event("a"));
        sent += 1;
        client.durable(sent);
        accepted() > before
    });
    let ledger = work.status()["ledger"].clone();
    let duplicates = sent - 2;
    assert_eq!(ledger["duplicate"], duplicates, "every event is accepted or a duplicate: {ledger}");
    assert_eq!(work.metric("tally_events_duplicate_total"), duplicates as f64);
    bystander.works();
    daemon.stop();
}
