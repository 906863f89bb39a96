//! The bench measures something and checks what it measured: a tiny run from end to end. Nothing is said about times.

use serde_json::Value;
use tally_tests::clients::program;
use tally_tests::{plugin, root, succeed, tally, text};

fn bench(arguments: &[&str]) -> std::process::Command {
    let mut bench = tally();
    let plugins = plugin("video-actions");
    bench.arg("bench").arg("--plugins-dir").arg(plugins.parent().expect("a folder")).args(arguments);
    bench
}

#[test]
fn a_small_run_gives_every_figure() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("a path");
    let small = ["--scenario", "w1-one-core", "--runs", "2", "--events", "5000", "--dir", dir];
    let printed = succeed(bench(&small).args(["--output", "json"]));
    let result: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!([&result["scenario"], &result["runs"]], [&Value::from("w1-one-core"), &Value::from(2)]);
    for name in [
        "events_per_second",
        "ratio_to_baseline",
        "baseline_events_per_second",
        "generator_events_per_second",
        "rss_bytes",
        "fdatasync_p50_us",
        "fdatasync_p99_us",
    ] {
        let spread = &result["spread"][name];
        let [median, min, max] = [&result[name], &spread["min"], &spread["max"]].map(Value::as_f64);
        assert!(min > Some(0.0) && min <= median && median <= max, "{name}: {result}");
    }
    assert!(result["cpu_s_per_million"].is_number(), "{result}");
    assert!(result["machine"]["cores"].as_u64() > Some(0), "{result}");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 0, "data directories are removed");

    let before = folder.path().join("before.json");
    std::fs::write(&before, printed).expect("writing the result");
    let table = succeed(bench(&small).arg("--compare").arg(&before));
    assert!(table.contains("ratio_to_baseline") && table.contains("the spread"), "{table}");
}

#[test]
fn growth_is_measured_for_users_aggregators_and_history() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("a path");
    let small = ["--scenario", "growth", "--runs", "1", "--events", "4000", "--users", "10000", "--dir", dir];
    let printed = succeed(bench(&small).args(["--output", "json"]));
    let result: Value = serde_json::from_str(&printed).expect("one JSON object");
    for name in [
        "users_1e3_cpu_s_per_million",
        "users_1e4_cpu_s_per_million",
        "aggregators_8_cpu_s_per_million",
        "not_subscribed_7_cpu_s_per_million",
        "history_last_cpu_s_per_million",
    ] {
        assert!(result[name].is_number(), "{name}: {result}");
    }
    assert!(result.get("users_1e5_cpu_s_per_million").is_none(), "more users than were asked for: {result}");
    // Each user once, and ten times as many events as one measurement has.
    assert_eq!(result["history_events"], 50_000, "{result}");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 0, "data directories are removed");
}

/// Other programs than Tally are not installed by a test.
#[test]
fn peers_are_held_against_a_count_in_python() {
    let Some(mut python) = program("python3") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    python.args(["-B", "-u"]).arg(root().join("host/bench/peers/peers.py"));
    python.arg("--tally").arg(tally().get_program()).arg("--folder").arg(folder.path());
    python.arg("--plugins").arg(plugin("video-actions").parent().expect("a folder"));
    python.args(["--only", "tally", "--events", "3000", "--output", "json"]);
    let printed = succeed(&mut python);
    let results: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    assert_eq!(results.len(), 2, "on one core and on all: {printed}");
    for result in &results {
        assert_eq!([&result["peer"], &result["events"]], [&Value::from("Tally"), &Value::from(3000)]);
        assert!(result["wrong"].is_null() && result["events_per_second"].as_f64() > Some(0.0), "{result}");
    }
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 0, "what it made is removed");

    let Some(mut python) = program("python3") else { return };
    python.arg("-B").arg(root().join("host/bench/peers/expected_test.py"));
    succeed(&mut python);
}

#[test]
fn wrong_names_and_folders_are_explained() {
    for (arguments, code, problem) in [
        (&["--scenario", "w9"][..], 2, "there is no scenario \"w9\"; there are w1-one-core"),
        (&["--compare", "/nowhere.json"], 2, "cannot read /nowhere.json"),
        (&["--scenario", "w1-one-core", "--dir", "/nowhere"], 1, "cannot make a folder in /nowhere"),
    ] {
        let output = bench(arguments).output().expect("tally bench");
        assert!(text(&output).contains(problem), "{}", text(&output));
        assert_eq!(output.status.code(), Some(code));
    }
    let listed = succeed(&mut bench(&["--list"]));
    assert!(listed.lines().any(|line| line.starts_with("w1-one-core")), "{listed}");
}
