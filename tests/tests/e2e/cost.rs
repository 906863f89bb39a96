//! What plugins cost, as a real daemon says it: in the list of plugins, in the metrics, in `tally top`, and by `tally plugin bench`.

use serde_json::Value;
use tally_tests::{Http, Work, component, plugin, succeed, tally, wait_until};

/// Every fourth event is another aggregator's.
fn events(count: u32) -> Vec<u8> {
    let line = |n: u32| match n % 4 {
        0 => format!("{{\"type\":\"homepage_fetch\",\"timestamp\":\"2026-01-27T10:00:00Z\",\"user_id\":\"u{n}\"}}\n"),
        _ => format!(
            "{{\"type\":\"action\",\"timestamp\":\"2026-01-27T10:00:00Z\",\"user_id\":\"u{}\",\"resource_type\":\"posts:{}\",\"action\":\"view\"}}\n",
            n % 301,
            n % 17
        ),
    };
    (0..count).map(line).collect::<String>().into_bytes()
}

fn post(http: &mut Http, events: &[u8]) {
    let (status, answer) =
        http.ask("POST", "/v1/events?wait=applied", &[("Content-Type", "application/x-ndjson")], events);
    assert_eq!(status, 200, "{answer}");
}

/// What the list of plugins says that one costs.
fn cost(work: &Work, name: &str) -> Value {
    let list = work.ask(&["plugin", "list"]);
    let plugins = list["plugins"].as_array().expect("plugins");
    plugins.iter().find(|plugin| plugin["name"] == name).unwrap_or_else(|| panic!("no {name}: {list}"))["cost"].clone()
}

fn number(cost: &Value, place: &str) -> f64 {
    cost.pointer(place).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {place}: {cost}"))
}

#[test]
fn the_same_events_cost_the_same_instructions_in_every_life() {
    let instructions = || {
        let work = Work::new(&[plugin("video-actions"), plugin("homepage-fetch")]);
        let daemon = work.start("--http 127.0.0.1:0");
        assert_eq!(cost(&work, "video-actions")["instructions_per_event"], Value::Null, "before the first event");
        // So few that they are read at once and become one batch: the same calls in every life.
        post(&mut Http::connect(daemon.door("http")), &events(60));
        let [video, homepage] = ["video-actions", "homepage-fetch"].map(|name| cost(&work, name));
        assert_eq!([number(&video, "/events"), number(&homepage, "/events")], [45.0, 15.0]);
        for cost in [&video, &homepage] {
            assert!(number(cost, "/nanoseconds_per_event") > 0.0, "{cost}");
            let share = number(cost, "/budget_share");
            assert!(share > 0.0 && share < 0.01, "{cost}");
            assert_eq!(
                number(cost, "/instructions_per_event"),
                number(cost, "/instructions") / number(cost, "/events"),
                "{cost}"
            );
        }
        daemon.stop();
        [video, homepage].map(|cost| number(&cost, "/instructions"))
    };
    let first = instructions();
    // A compiled aggregator takes tens to thousands of instructions for an event.
    assert!(first[0] > 45.0 * 20.0 && first[0] < 45.0 * 20_000.0, "{first:?}");
    assert_eq!(first, instructions());
}

#[test]
fn cuts_flushes_and_questions_are_counted_where_they_happen() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("--http 127.0.0.1:0 --flush-events 2000 --flush-interval 1h");
    let mut http = Http::connect(daemon.door("http"));
    post(&mut http, &events(2000));
    wait_until("the record is written", || work.status()["records_written"] == 1);
    let before = cost(&work, "video-actions");
    assert_eq!(number(&before, "/report/count"), 1.0, "one record: {before}");
    assert_eq!(number(&before, "/question/count"), 0.0, "{before}");
    for work in ["cut", "commit", "merge", "report"] {
        let [all, last] = ["seconds", "last_seconds"].map(|key| number(&before, &format!("/{work}/{key}")));
        assert!(all > 0.0 && all >= last, "{work}: {before}");
    }
    assert!(number(&before, "/commit/seconds") >= number(&before, "/report/seconds"), "one is part of the other");

    for _ in 0..3 {
        work.ask(&["query", "video-actions"]);
    }
    let after = cost(&work, "video-actions");
    assert_eq!(number(&after, "/question/count"), 3.0, "{after}");
    assert_eq!(number(&after, "/report/count"), 1.0, "a question is no flush: {after}");

    // The metrics say the same as the list.
    let series = |name: &str| work.metric(&format!("{name}{{aggregator=\"video-actions\"}}"));
    assert_eq!(series("tally_aggregator_given_rows_total"), number(&after, "/events"));
    assert_eq!(series("tally_aggregator_instructions_total"), number(&after, "/instructions"));
    assert_eq!(series("tally_aggregator_budget_ratio"), number(&after, "/budget_share"));
    assert_eq!(series("tally_aggregator_memory_bytes"), number(&after, "/memory_bytes"));
    let questions = work.metric("tally_aggregator_work_total{aggregator=\"video-actions\",work=\"question\"}");
    assert_eq!(questions, 3.0);

    // What is said to be saved is what lies in the store: the next version would carry that over.
    let admin = work.path("t.sock.admin");
    let mut plan = tally();
    plan.args(["plugin", "plan", "--output", "json", "--to"]).arg(&admin).arg(plugin("video-actions"));
    let plan: Value = serde_json::from_str(&succeed(&mut plan)).expect("JSON");
    assert_eq!(plan["plan"][0]["saved_bytes"].as_f64(), Some(number(&after, "/saved_bytes")), "{plan}");
    assert!(number(&after, "/saved_bytes") > 0.0, "{after}");
    daemon.stop();
}

#[test]
fn a_call_that_uses_up_its_budget_is_seen_until_another_version_runs() {
    let work = Work::new(&[component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
    let settings = |settings: &str| {
        work.configure(&format!("[[aggregator]]\nname = \"looping\"\nplugin = \"probe\"\nsettings = {settings}\n"))
    };
    let daemon = work.start(&format!("--http 127.0.0.1:0 {}", settings("{ loop_in = \"apply\" }")));
    let event = b"{\"type\":\"action\",\"user_id\":\"u\"}\n";
    post(&mut Http::connect(daemon.door("http")), event);
    // Once with what came with it, once alone; then it is skipped.
    let looping = cost(&work, "looping");
    assert!(number(&looping, "/budget_share") > 0.999, "{looping}");
    assert_eq!(number(&looping, "/events"), 2.0, "{looping}");

    settings("{ spin = 10 }");
    daemon.signal("HUP");
    wait_until("the share is forgotten", || number(&cost(&work, "looping"), "/budget_share") < 0.001);
    post(&mut Http::connect(daemon.door("http")), event);
    let share = number(&cost(&work, "looping"), "/budget_share");
    assert!(share > 0.0 && share < 0.001, "{share}");
    daemon.stop();
}

#[test]
fn people_get_a_short_list_and_a_wide_one() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("--http 127.0.0.1:0");
    post(&mut Http::connect(daemon.door("http")), &events(2000));
    let list = |more: &[&str]| {
        let mut list = tally();
        succeed(list.args(["plugin", "list", "--to"]).arg(work.path("t.sock.query")).args(more))
    };
    let (short, wide) = (list(&[]), list(&["--wide"]));
    assert!(!short.contains("event") && !short.contains("cost"), "{short}");
    let rest = wide.strip_prefix(&short).unwrap_or_else(|| panic!("{wide}\ndoes not begin with\n{short}"));
    assert!(rest.contains("ns/event") && rest.contains("1500"), "{rest}");
    daemon.stop();
}

#[test]
fn top_shows_rates_and_costs_where_stdout_is_no_terminal() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("");
    let (mut generate, mut send) = work.stream("--follow", 2000, &[]);
    wait_until("events come", || work.status()["sequence"].as_u64() > Some(2000));
    let mut top = tally();
    let frame = succeed(top.args(["top", "--interval", "2s", "--to"]).arg(work.path("t.sock.query")));
    for child in [&mut generate, &mut send] {
        child.kill().expect("ending the stream");
        child.wait().expect("its end");
    }
    let cells = |first: &str| -> Vec<String> {
        let line = frame.lines().find(|line| line.starts_with(first)).unwrap_or_else(|| panic!("no {first}: {frame}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    let value = |cell: &str| cell.trim_end_matches("/s").replace(',', "").parse::<f64>().expect(&frame);
    let accepted = value(&cells("accepted")[1]);
    assert!((500.0..8000.0).contains(&accepted), "{frame}");
    let aggregator = cells("video-actions");
    assert_eq!(aggregator[1], "running", "{frame}");
    assert!((500.0..8000.0).contains(&value(&aggregator[2])), "{frame}");
    // Time and instructions per event.
    assert!(value(&aggregator[4]) > 0.0 && value(&aggregator[5]) > 0.0, "{frame}");
    assert!(!frame.contains('\x1b'), "colours in a pipe: {frame:?}");
    daemon.stop();
}

#[test]
fn a_forecast_of_memory_is_what_a_daemon_takes() {
    let work = Work::new(&[plugin("video-actions")]);
    let recorded = work.generate("recorded", "--events 50000 --seed 4 --invalid 0.01");
    let mut bench = tally();
    bench.args(["plugin", "bench", "--seconds", "0", "--output", "json"]).arg(plugin("video-actions"));
    let measured: Value = serde_json::from_str(&succeed(bench.arg("--events").arg(&recorded))).expect("JSON");
    assert_eq!(measured["events_are"], "recorded");
    assert!(measured["rejected"].as_u64() > Some(0), "{measured}");

    let daemon = work.start("--flush-interval 1h");
    succeed(work.send(&["--ack"]).arg(&recorded));
    let last = work.status()["sequence"].to_string();
    work.ask(&["query", "video-actions", "--min-sequence", &last]);
    let cost = cost(&work, "video-actions");
    assert_eq!(cost["saved_bytes"], measured["saved_bytes"], "the same events: {cost} {measured}");
    let ratio = number(&cost, "/memory_bytes") / number(&measured, "/daemon_memory_bytes");
    assert!((0.5..2.0).contains(&ratio), "{ratio}: {cost} {measured}");
    daemon.stop();
}
