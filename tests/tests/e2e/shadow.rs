//! New versions beside old ones: on live traffic and over a log at rest, with every difference named, and without a trace in what the
//! daemon keeps.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tally_tests::{Work, component, plugin, succeed, tally, text, wait_until};

/// The first two counts of a post, and what the others add to its score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Post {
    views: i64,
    plays: i64,
    others: i64,
}

impl Post {
    fn score(self) -> i64 {
        self.views + 2 * self.plays + self.others
    }
}

/// So many actions on a few hundred posts, another mix for each seed, in a file.
fn actions(work: &Work, seed: u64, count: u64) -> PathBuf {
    const ACTIONS: [&str; 8] = ["view", "view", "view", "play", "play", "pause", "unmute", "carousel_left"];
    let line = |n: u64| {
        let dice = (n + seed * 1_000_003).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let (action, post) = (ACTIONS[(dice % 8) as usize], (dice >> 3) % 300 * ((dice >> 20) % 3) / 2);
        format!(
            "{{\"type\":\"action\",\"user_id\":\"u{}\",\"resource_type\":\"posts:{post}\",\"action\":\"{action}\"}}\n",
            n % 97
        )
    };
    let path = work.path(&format!("actions-{seed}"));
    std::fs::write(&path, (0..count).map(line).collect::<String>()).expect("writing events");
    path
}

/// `video-actions` as it is but for the names of two actions: it takes plays for views, and views for plays.
fn changed(work: &Work) -> PathBuf {
    let mut bytes = std::fs::read(plugin("video-actions")).expect("the component");
    let (names, swapped) = (b"viewplaypauseunmute", b"playviewpauseunmute");
    let places: Vec<usize> =
        bytes.windows(names.len()).enumerate().filter(|(_, w)| w == names).map(|(at, _)| at).collect();
    let [at] = places[..] else { panic!("the names of the actions stand {} times in the component", places.len()) };
    bytes[at..at + names.len()].copy_from_slice(swapped);
    let path = work.path("changed.wasm");
    std::fs::write(&path, bytes).expect("writing the other version");
    path
}

fn same() -> PathBuf {
    component("TALLY_FIXTURES_DIR", "fixtures", "video-actions-alt")
}

/// `tally plugin` with these arguments, asking the admin door.
fn asked(work: &Work, arguments: &[&str]) -> Output {
    let mut command = tally();
    command.arg("plugin").args(arguments).arg("--to").arg(work.path("t.sock.admin"));
    command.args(["--output", "json"]).output().expect("tally plugin")
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

fn start(work: &Work, name: &str, file: &Path, more: &[&str]) -> Value {
    let file = file.display().to_string();
    let output = asked(work, &[&["shadow", name, &file], more].concat());
    assert!(output.status.success(), "{}\n{}", text(&output), work.log());
    json_of(&output)["shadow"].clone()
}

/// The reason for which something of `tally plugin` fails.
fn refused(work: &Work, arguments: &[&str]) -> String {
    let output = asked(work, arguments);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}

/// The comparison once it covers an event, and its exit code.
fn diff(work: &Work, sequence: u64) -> (Value, Option<i32>) {
    let name = "video-actions";
    work.ask(&["query", name, "--min-sequence", &sequence.to_string(), "--wait", "60s"]);
    let mut last = (Value::Null, None);
    wait_until("the comparison covers the event", || {
        let output = asked(work, &["diff", name, "--rows", "1000"]);
        if output.status.code() == Some(1) {
            assert!(text(&output).contains("ask again later"), "{}", text(&output));
            return false;
        }
        last = (json_of(&output), output.status.code());
        last.0["sequence"].as_u64() >= Some(sequence)
    });
    last
}

fn offline(work: &Work, file: &Path, from: &str) -> Output {
    let mut command = tally();
    command.args(["plugin", "diff", "video-actions"]).arg(file).args(["--from", from, "--rows", "1000", "--data-dir"]);
    command.arg(work.path("data")).args(["--output", "json"]).output().expect("tally plugin diff")
}

fn listed(work: &Work) -> Value {
    let list = work.ask(&["plugin", "list"]);
    let plugins = list["plugins"].as_array().expect("a list");
    plugins.iter().find(|plugin| plugin["name"] == "video-actions").expect("the aggregator").clone()
}

fn shadow_of(work: &Work, name: &str) -> Value {
    let list = work.ask(&["plugin", "list"]);
    let plugins = list["plugins"].as_array().expect("a list");
    plugins.iter().find(|plugin| plugin["name"] == name).expect("the aggregator")["shadow"].clone()
}

fn posts(work: &Work) -> BTreeMap<String, Post> {
    let report = work.ask(&["query", "video-actions", "--rows", "0"]);
    let rows = report["tables"]["posts"].as_array().expect("posts").iter();
    let number = |row: &Value, column: &str| row[column].as_i64().expect("a number");
    let post = |row: &Value| Post {
        views: number(row, "views"),
        plays: number(row, "plays"),
        others: number(row, "unmutes") - number(row, "pauses"),
    };
    rows.map(|row| (row["post_id"].as_str().expect("an id").to_owned(), post(row))).collect()
}

/// What the changed version has when it began with `before` and the other one has come to `after`.
fn swapped(before: &BTreeMap<String, Post>, after: &BTreeMap<String, Post>) -> BTreeMap<String, Post> {
    let post = |(id, after): (&String, &Post)| {
        let before = before.get(id).copied().unwrap_or_default();
        let (views, plays) = (before.views + after.plays - before.plays, before.plays + after.views - before.views);
        (id.clone(), Post { views, plays, ..*after })
    };
    after.iter().map(post).collect()
}

fn hot(posts: &BTreeMap<String, Post>) -> (String, i64) {
    let hot = posts.iter().max_by_key(|(id, post)| (post.score(), post.views, Reverse(*id))).expect("a post");
    (format!("post_{}", hot.0), hot.1.score())
}

/// Table, key and column of each cell that differs, with both values.
type Cells = BTreeMap<(String, String, String), (Value, Value)>;

/// The cells in which two versions with these posts differ.
fn expected(running: &BTreeMap<String, Post>, new: &BTreeMap<String, Post>) -> Cells {
    let mut cells = Cells::new();
    let mut put = |table: &str, key: Value, column: &str, running: Value, new: Value| {
        if running != new {
            cells.insert((table.to_owned(), key.to_string(), column.to_owned()), (running, new));
        }
    };
    let sum = |posts: &BTreeMap<String, Post>, of: fn(&Post) -> i64| Value::from(posts.values().map(of).sum::<i64>());
    for (id, post) in running {
        let other = new[id];
        let key = json!({"post_id": id});
        put("posts", key.clone(), "views", post.views.into(), other.views.into());
        put("posts", key.clone(), "plays", post.plays.into(), other.plays.into());
        put("posts", key, "score", post.score().into(), other.score().into());
    }
    for column in ["total_views", "views"] {
        put("summary", json!({}), column, sum(running, |post| post.views), sum(new, |post| post.views));
    }
    put("summary", json!({}), "plays", sum(running, |post| post.plays), sum(new, |post| post.plays));
    let ((post, score), (other, other_score)) = (hot(running), hot(new));
    put("summary", json!({}), "hot_post", post.into(), other.into());
    put("summary", json!({}), "hot_post_score", score.into(), other_score.into());
    // The changed version calls its views plays.
    put("actions", json!({"action": "view"}), "count", sum(running, |post| post.views), sum(new, |post| post.plays));
    put("actions", json!({"action": "play"}), "count", sum(running, |post| post.plays), sum(new, |post| post.views));
    cells
}

fn found(diff: &Value) -> Cells {
    let rows = |value: &Value| value.as_array().expect("a list").clone();
    let mut cells = Cells::new();
    for table in rows(&diff["tables"]) {
        assert_eq!(table["changed_columns"], json!([]), "{table}");
        assert_eq!((&table["only_running_rows"], &table["only_new_rows"]), (&json!(0), &json!(0)), "{table}");
        assert_eq!(table["differing_rows"], rows(&table["differing"]).len(), "all are shown");
        for row in rows(&table["differing"]) {
            for cell in rows(&row["cells"]) {
                let place = (table["table"].as_str().expect("a name").to_owned(), row["key"].to_string());
                let column = cell["column"].as_str().expect("a name").to_owned();
                if let (Some(running), Some(new)) = (cell["running"].as_i64(), cell["new"].as_i64()) {
                    assert_eq!(cell["difference"], new - running, "{cell}");
                }
                cells.insert((place.0, place.1, column), (cell["running"].clone(), cell["new"].clone()));
            }
        }
    }
    cells
}

#[test]
fn a_shadow_on_live_traffic_differs_in_exactly_the_cells_it_should() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let (first, second) = (actions(&work, 1, 20_000), actions(&work, 2, 60_000));
    let daemon = work.start("--flush-events 3000");
    succeed(work.send(&["--ack"]).arg(&first));
    work.ask(&["query", "video-actions", "--min-sequence", "20000"]);
    let before = posts(&work);
    let began = start(&work, "video-actions", &changed(&work), &[]);
    assert_eq!((&began["state"], &began["from_empty"]), (&json!("running"), &json!(false)), "{began}");
    assert_ne!(began["began_cut"], 0);

    let mut send = work.send(&["-", "--ack"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("tally send");
    let mut lines = send.stdin.take().expect("its input");
    for piece in std::fs::read(&second).expect("the events").chunks(600_000) {
        lines.write_all(piece).expect("tally send reads");
        let output = asked(&work, &["diff", "video-actions"]);
        let is_late = || text(&output).contains("ask again later");
        assert!(matches!(output.status.code(), Some(0 | 3)) || is_late(), "{}\n{}", text(&output), work.log());
    }
    drop(lines);
    assert!(send.wait().expect("tally send").success());
    let (diff, code) = diff(&work, 80_000);
    let after = posts(&work);
    let expected = expected(&after, &swapped(&before, &after));
    assert!(expected.len() > 20, "there is something to find");
    assert_eq!(found(&diff), expected);
    assert_eq!((code, &diff["equal"]), (Some(3), &json!(false)));
    assert_ne!(diff["running"]["digest"], diff["new"]["digest"]);

    let listed = shadow_of(&work, "video-actions");
    assert_eq!(
        (&listed["digest"], &listed["sequence"], &listed["behind"]),
        (&began["digest"], &json!(80_000), &json!(0))
    );
    let mut list = tally();
    let printed = succeed(list.args(["plugin", "list", "--to"]).arg(work.path("t.sock.query")));
    let lines: Vec<&str> = printed.lines().collect();
    let own = lines.iter().position(|line| line.starts_with("video-actions")).expect("a line for the aggregator");
    assert!(lines[own + 1].starts_with("+ shadow"), "{printed}");
    let mut readable = tally();
    readable.args(["plugin", "diff", "video-actions", "--rows", "1", "--to"]).arg(work.path("t.sock.query"));
    let readable = text(&readable.output().expect("tally plugin diff"));
    assert!(readable.contains("posts: ") && readable.contains("more rows"), "{readable}");
    daemon.stop();
    let stored = std::fs::read_dir(work.path("data/plugins")).expect("the stored versions").count();
    assert_eq!(stored, 2, "a shadow stores nothing");
    work.verified(&[]);
}

#[test]
fn an_equal_version_has_no_differences_and_a_shadow_is_dropped_or_forgotten() {
    let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
    let events = work.generate("events", "--events 20000 --seed 43 --homepage 0.1");
    let daemon = work.start("--flush-events 3000");
    succeed(work.send(&["--ack"]).arg(&events));
    let same = same();
    let file = same.display().to_string();
    start(&work, "video-actions", &same, &[]);
    succeed(work.send(&["--ack"]).arg(&events));
    let (compared, code) = diff(&work, 40_000);
    assert_eq!((code, &compared["equal"]), (Some(0), &json!(true)), "{compared}");
    assert_eq!(found(&compared), Cells::new());
    assert!(compared["tables"][1]["equal_rows"].as_u64() > Some(10), "{compared}");

    assert!(refused(&work, &["shadow", "video-actions", &file]).contains("has a shadow already"));
    assert!(asked(&work, &["drop", "video-actions"]).status.success());
    assert_eq!(shadow_of(&work, "video-actions"), Value::Null);
    for arguments in [["diff", "video-actions"], ["drop", "video-actions"]] {
        assert!(refused(&work, &arguments).contains("has no shadow"));
    }
    // Of what is no version of it, nothing begins.
    let (other, garbage) = (plugin("homepage-fetch").display().to_string(), events.display().to_string());
    assert!(refused(&work, &["shadow", "video-actions", &other]).contains("state version"));
    assert!(refused(&work, &["shadow", "video-actions", &garbage]).contains("not a usable WebAssembly component"));
    assert!(refused(&work, &["shadow", "nobody", &file]).contains("there is no aggregator"));
    // Before everything is the beginning.
    let early = start(&work, "video-actions", &same, &["--from", "2001-01-01T00:00:00Z"]);
    assert_eq!((&early["began_cut"], &early["from_empty"]), (&json!(0), &json!(true)), "{early}");
    assert!(asked(&work, &["drop", "video-actions"]).status.success());
    assert!(refused(&work, &["shadow", "video-actions", &file, "--from", "soon"]).contains("neither `beginning` nor"));
    assert_eq!(shadow_of(&work, "video-actions"), Value::Null);

    // Counting anew from now, it has nothing.
    start(&work, "video-actions", &same, &["--from", "2999-01-01T00:00:00Z"]);
    let (compared, code) = diff(&work, 40_000);
    let summary = &compared["tables"][0]["differing"][0]["cells"][0];
    assert_eq!((code, &summary["new"]), (Some(3), &json!(0)), "{compared}");
    daemon.stop();
    let daemon = work.start("--flush-events 3000");
    assert_eq!(shadow_of(&work, "video-actions"), Value::Null, "a restart forgets it");
    daemon.stop();
    work.verified(&[]);
}

#[test]
fn from_the_beginning_a_shadow_and_the_log_at_rest_give_the_same_differences() {
    let work = Work::new(&[plugin("video-actions")]);
    let (first, second) = (actions(&work, 3, 30_000), actions(&work, 4, 10_000));
    let daemon = work.start("--flush-events 4000");
    succeed(work.send(&["--ack"]).arg(&first));
    work.ask(&["query", "video-actions", "--min-sequence", "30000"]);
    let before = posts(&work);
    let now = succeed(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"])).trim().to_owned();
    let changed = changed(&work);
    let began = start(&work, "video-actions", &changed, &["--from", "beginning"]);
    assert_eq!((&began["from_empty"], &began["began_cut"]), (&json!(true), &json!(0)));
    succeed(work.send(&["--ack"]).arg(&second));
    let (live, code) = diff(&work, 40_000);
    let after = posts(&work);
    assert_eq!(code, Some(3));
    assert_eq!(found(&live), expected(&after, &swapped(&BTreeMap::new(), &after)));
    let running = offline(&work, &changed, "beginning");
    assert_eq!(running.status.code(), Some(1), "a daemon runs: {}", text(&running));
    daemon.stop();

    let at_rest = offline(&work, &changed, "beginning");
    assert_eq!(at_rest.status.code(), Some(3), "{}", text(&at_rest));
    let at_rest = json_of(&at_rest);
    assert_eq!((&at_rest["tables"], &at_rest["sequence"]), (&live["tables"], &json!(40_000)));
    assert_eq!((&at_rest["running"], &at_rest["new"]), (&live["running"], &live["new"]));
    let equal = offline(&work, &same(), "beginning");
    assert_eq!((equal.status.code(), &json_of(&equal)["equal"]), (Some(0), &json!(true)));
    // From between the two files, only the second counts.
    let later = offline(&work, &changed, &now);
    let since = |(id, post): (&String, &Post)| {
        let before = before.get(id).copied().unwrap_or_default();
        let others = post.others - before.others;
        (id.clone(), Post { views: post.views - before.views, plays: post.plays - before.plays, others })
    };
    let since: BTreeMap<String, Post> = after.iter().map(since).collect();
    assert_eq!(found(&json_of(&later)), expected(&since, &swapped(&BTreeMap::new(), &since)));
    let early = json_of(&offline(&work, &changed, "2001-01-01T00:00:00Z"));
    assert_eq!(found(&early), expected(&after, &swapped(&BTreeMap::new(), &after)));
    work.verified(&[]);
}

#[test]
fn a_shadow_that_fails_ends_alone() {
    let fixture = |name| component("TALLY_FIXTURES_DIR", "fixtures", name);
    let work = Work::new(&[plugin("video-actions"), fixture("probe")]);
    // What the one does not know tells the other to trap for a certain user.
    let more = work.configure("[[aggregator]]\nplugin = \"probe\"\nsettings = { break = \"answers\" }\n");
    let events = work.generate("events", "--events 9000 --seed 46 --homepage 0.2");
    let daemon = work.start(&format!("--flush-events 2000 {more}"));
    start(&work, "probe", &fixture("lawless"), &["--from", "beginning"]);
    succeed(work.send(&["--ack"]).arg(&events));
    let plays: String = (0..50)
        .map(|n| format!("{{\"type\":\"play\",\"user_id\":\"{}\",\"n\":{n}}}\n", if n == 20 { "trap" } else { "u" }))
        .collect();
    std::fs::write(work.path("plays"), plays).expect("writing events");
    succeed(work.send(&["--ack"]).arg(work.path("plays")));
    wait_until("the shadow has failed", || shadow_of(&work, "probe")["state"] == "failed");
    let reason = shadow_of(&work, "probe")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with("event 9021: ") && reason.contains("`apply` trapped"), "{reason}");
    let no_comparison = refused(&work, &["diff", "probe"]);
    assert!(no_comparison.contains("the shadow has failed: event 9021"), "{no_comparison}");
    // What runs has not noticed.
    succeed(work.send(&["--ack"]).arg(&events));
    let summary = work.ask(&["query", "probe", "--min-sequence", "18050"])["summary"].clone();
    let count =
        work.count(&events, &[])["count"]["aggregators"]["homepage-fetch"]["summary"]["homepage_fetches"].clone();
    assert_eq!((summary["homepage_fetches"].as_u64(), &summary["others"]), (count.as_u64().map(|n| 2 * n), &json!(50)));
    let status = work.ask(&["status"])["aggregators"]["probe"].clone();
    assert_eq!((&status["strikes"], &status["quarantined"]), (&json!(0), &Value::Null));
    assert!(asked(&work, &["drop", "probe"]).status.success());
    daemon.stop();
    work.verified(&[]);
}

#[test]
fn a_shadow_takes_the_place_of_what_runs_with_what_it_has_counted() {
    for more in [&[][..], &["--from", "beginning"]] {
        let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
        let daemon = work.start("--flush-events 3000");
        let send = |seed: u64| succeed(work.send(&["--ack"]).arg(actions(&work, seed, 20_000)));
        let posts_at = |sequence: u64| {
            wait_until("it stands where the others do", || listed(&work)["catching_up"].is_null());
            work.ask(&["query", "video-actions", "--min-sequence", &sequence.to_string()]);
            posts(&work)
        };
        let done = |what: &str| {
            let output = asked(&work, &[what, "video-actions"]);
            assert!(output.status.success(), "{what}: {}\n{}", text(&output), work.log());
        };
        send(1);
        let began_with = if more.is_empty() { posts_at(20_000) } else { BTreeMap::new() };
        assert!(refused(&work, &["promote", "video-actions"]).contains("has no shadow"));
        let shadow = start(&work, "video-actions", &changed(&work), more);
        send(2);
        let by_the_old = posts_at(40_000);
        done("promote");
        let now = listed(&work);
        assert_eq!((&now["running_digest"], &now["held"]), (&shadow["digest"], &json!("promoted")), "{now}");
        assert!(now["shadow"].is_null(), "{now}");
        assert_eq!(posts_at(40_000), swapped(&began_with, &by_the_old));
        send(3);
        let by_the_new = posts_at(60_000);
        daemon.kill();
        let daemon = work.start("--flush-events 3000");
        assert_eq!(posts_at(60_000), by_the_new);
        done("rollback");
        let by_the_old = posts_at(60_000);
        assert_eq!(by_the_new, swapped(&began_with, &by_the_old));
        // Forward again.
        done("rollback");
        assert_eq!(posts_at(60_000), by_the_new);
        daemon.stop();
        work.verified(&[]);
    }
}

#[test]
fn a_file_that_changes_while_its_shadow_is_promoted_comes_after_it() {
    let work = Work::new(&[plugin("video-actions")]);
    let mut daemon = work.start("--flush-events 3000");
    succeed(work.send(&["--ack"]).arg(actions(&work, 1, 200_000)));
    let (one, other) = (std::fs::read(plugin("video-actions")).expect("it"), std::fs::read(same()).expect("it"));
    for round in 0..6 {
        start(&work, "video-actions", &changed(&work), &["--from", "beginning"]);
        let promoted = std::thread::scope(|scope| {
            let promote = scope.spawn(|| asked(&work, &["promote", "video-actions"]).status.success());
            std::thread::sleep(std::time::Duration::from_millis(10 * round));
            work.put_plugin("video-actions", if round % 2 == 0 { &other } else { &one });
            promote.join().expect("it was asked")
        });
        assert!(promoted, "round {round}: {}", work.log());
        assert!(asked(&work, &["reload"]).status.success(), "{}", work.log());
        if round == 3 {
            daemon.kill();
            daemon = work.start("--flush-events 3000");
        }
    }
    daemon.stop();
    work.verified(&[]);
}
