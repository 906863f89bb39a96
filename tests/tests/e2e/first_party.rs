//! The small first-party aggregators in the daemon: comments, follows and activities, in shards, across a kill, against a count of our own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tally_tests::{Http, Work, plugin};

const AGGREGATORS: [&str; 3] = ["comment-create", "follow-user", "page-views"];
const FOLLOWS: u64 = 120_000;
const OTHERS: u64 = 6_000;

/// More followers than are counted exactly, more types of activities than are kept apart.
fn lines() -> Vec<String> {
    let comment = |n: u64| {
        format!(r#"{{"type":"comment_create","user_id":"u{}","resource_type":"posts:{}"}}"#, n % 77, n * n % 31)
    };
    let activity =
        |n: u64| format!(r#"{{"type":"user_activity","user_id":"u{}","activity_type":"{}"}}"#, n % 99, kind_of(n));
    let follow = |n: u64| {
        let day = 1 + n % 28;
        format!(
            r#"{{"type":"follow_user","timestamp":"2026-02-{day:02}T12:00:00Z","user_id":"u{n}","resource_type":"users:u{}"}}"#,
            n % 7
        )
    };
    (0..OTHERS).flat_map(|n| [comment(n), activity(n)]).chain((0..FOLLOWS).map(follow)).collect()
}

fn kind_of(n: u64) -> String {
    if n.is_multiple_of(3) { "page_view".to_owned() } else { format!("kind {}", n % 2_000) }
}

#[test]
fn comments_follows_and_activities_are_counted_as_they_say() {
    let work = Work::new(&AGGREGATORS.map(plugin));
    let shards = AGGREGATORS.map(|name| format!("[[aggregator]]\nplugin = \"{name}\"\nshards = 2\n"));
    let configured = work.configure(&(shards.concat() + "[http]\nlisten = \"127.0.0.1:0\"\n"));
    let arguments = format!("--flush-events 30000 {configured}");
    let file = work.path("events");
    std::fs::write(&file, lines().join("\n") + "\n").expect("writing events");
    let send = || {
        let file = file.display().to_string();
        let mut send = work.send(&[&file, "--ack", "--producer", "one"]);
        assert!(send.status().expect("tally send").success(), "everything is acknowledged\n{}", work.log());
    };
    let daemon = work.start(&arguments);
    send();
    daemon.kill();
    let daemon = work.start(&arguments);
    // All of it was acknowledged: nothing is counted twice.
    send();
    let mut http = Http::connect(daemon.address("http"));
    let view = br#"{"activity_type":"page_view","user_id":"only here"}"#;
    let (status, answer) = http.ask("POST", "/activity", &[("Content-Type", "application/json")], view);
    assert_eq!(status, 200, "{answer}");
    let last = (FOLLOWS + 2 * OTHERS + 1).to_string();
    let ask = |name: &str| work.ask(&["query", name, "--min-sequence", &last, "--rows", "0"]);

    let comments = ask("comment-create");
    let mut posts = BTreeMap::<String, u64>::new();
    (0..OTHERS).for_each(|n| *posts.entry((n * n % 31).to_string()).or_default() += 1);
    let most = posts.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0))).expect("there are posts");
    assert_eq!(comments["summary"]["comments"], OTHERS);
    assert_eq!(comments["summary"]["unique_commenters"], 77);
    assert_eq!(comments["summary"]["most_commented_post"], format!("post_{}", most.0));
    assert_eq!(rows(&comments, "posts", "post_id", "comments"), posts);

    let follows = ask("follow-user");
    let number = |column: &str| follows["summary"][column].as_f64().expect("a number");
    assert_eq!(follows["summary"]["follows"], FOLLOWS);
    assert_eq!(follows["summary"]["unique_followed"], 7);
    assert_eq!(number("unique_followed_standard_error"), 0.0, "so few are counted exactly");
    let (about, error) = (number("unique_followers"), number("unique_followers_standard_error"));
    assert!(error > 0.0, "so many are not");
    assert!((about / FOLLOWS as f64 - 1.0).abs() < 3.0 * error, "{about} for {FOLLOWS}, with an error of {error}");
    assert_eq!(rows(&follows, "days", "day", "follows").values().sum::<u64>(), FOLLOWS);

    let activities = ask("page-views");
    let mut kinds = BTreeMap::<String, u64>::from([("page_view".to_owned(), 1)]);
    (0..OTHERS).for_each(|n| *kinds.entry(kind_of(n)).or_default() += 1);
    let found = rows(&activities, "activities", "activity_type", "count");
    assert_eq!(activities["summary"]["unique_users"], 100);
    assert_eq!(activities["summary"]["page_view_count"], kinds["page_view"]);
    assert_eq!(found.len(), 1_001, "page views, and a thousand types of the others");
    assert!(found.iter().all(|(kind, count)| kinds[kind] == *count), "what is kept apart is exact");
    let kept: BTreeSet<&String> = found.keys().collect();
    let others: u64 = kinds.iter().filter(|(kind, _)| !kept.contains(kind)).map(|(_, count)| count).sum();
    assert_eq!(activities["summary"]["activities_of_other_types"], others);
    daemon.stop();
    // It replays in one shard and compares the bytes of every cut.
    work.verified(&[]);
}

/// Two columns of a table.
fn rows(answer: &Value, table: &str, key: &str, count: &str) -> BTreeMap<String, u64> {
    let rows = answer["tables"][table].as_array().expect("a table").iter();
    rows.map(|row| (row[key].as_str().expect("a key").to_owned(), row[count].as_u64().expect("a count"))).collect()
}
