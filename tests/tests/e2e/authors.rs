//! What a plugin's author does, by the command line alone: each broken law is named with the events that show it, and the tutorial's
//! commands lead from nothing to a live metric.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tally_tests::{Work, component, plugin, root, succeed, tally, text};

fn lawless() -> PathBuf {
    component("TALLY_FIXTURES_DIR", "fixtures", "lawless")
}

/// `tally plugin test` of the fixture that breaks a law, and its findings: the law and the fewest events.
fn findings(breaks: &str, more: &[&str]) -> (Output, Vec<(String, Vec<Value>)>) {
    let settings = format!("{{\"break\":\"{breaks}\"}}");
    let mut test = tally();
    test.args(["plugin", "test", "--output", "json", "--settings", &settings]).arg(lawless()).args(more);
    let output = test.output().expect("tally starts");
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let broken = answer["laws"]["broken"].as_array().expect("findings").iter().map(|finding| {
        let events = finding["events"].as_array().expect("events").clone();
        (finding["law"].as_str().expect("a law").to_owned(), events)
    });
    let broken = broken.collect();
    (output, broken)
}

#[test]
fn an_aggregator_that_keeps_the_laws_passes() {
    let (output, broken) = findings("none", &[]);
    assert!(output.status.success() && broken.is_empty(), "{}", text(&output));
    let work = Work::new(&[]);
    let events = work.generate("events.ndjson", "--events 200 --homepage 0.5");
    for name in ["video-actions", "homepage-fetch"] {
        let mut test = tally();
        test.args(["plugin", "test", "--cases", "50", "--output", "json", "--events"]).arg(&events).arg(plugin(name));
        let answer: Value = serde_json::from_str(&succeed(&mut test)).expect("JSON");
        // Random events have values of the samples, so some of them are counted too.
        for given in ["sample_events", "random_events"] {
            assert!(answer["laws"][given]["applied"].as_u64() > Some(20), "{name}, {given}: {answer}");
        }
    }
}

#[test]
fn laws_that_were_tried_on_nothing_are_said_to_be() {
    // No random text has the prefix that this one asks for.
    let mut test = tally();
    let output =
        test.args(["plugin", "test", "--cases", "20"]).arg(plugin("video-actions")).output().expect("tally starts");
    let (said, warned) = (text(&output), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("applied: 0 of 0 events of the samples, 0 of 2"), "{said}");
    assert!(warned.contains("tried on empty states only") && warned.contains("--events FILE"), "{said}");
    // Some that are counted, and nothing is warned of; none at all, and nothing is tried.
    let counted =
        tally().args(["plugin", "test", "--cases", "20"]).arg(plugin("homepage-fetch")).output().expect("tally starts");
    assert!(counted.status.success() && counted.stderr.is_empty(), "{}", text(&counted));
    assert!(!text(&counted).contains(", 0 of"), "{}", text(&counted));
    let refused =
        tally().args(["plugin", "test", "--cases", "0"]).arg(plugin("homepage-fetch")).output().expect("tally starts");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("--cases 0 without a sample event"), "{}", text(&refused));
}

#[test]
fn each_broken_law_is_named_with_the_fewest_events() {
    // The law, and how many events are the fewest.
    let laws = [
        ("same-input", 0),
        ("batch-split", 2),
        ("refusal", 1),
        ("merge-of-parts", 2),
        ("merge-identity", 0),
        ("merge-associativity", 1),
        ("merge-commutativity", 1),
        ("late-order", 2),
        ("save-load", 1),
        ("canonical-save", 2),
        ("question", 0),
    ];
    for (law, fewest) in laws {
        let (output, broken) = findings(law, &[]);
        assert_eq!(output.status.code(), Some(1), "{law}: {}", text(&output));
        let found = broken.iter().find(|(name, _)| name == law);
        let (_, events) = found.unwrap_or_else(|| panic!("{law} is not named: {}", text(&output)));
        assert_eq!(events.len(), fewest, "{law}: {events:?}");
    }
}

#[test]
fn a_call_that_traps_is_shown_with_its_event() {
    let work = Work::new(&[]);
    let samples: Vec<String> = (0..20)
        .map(|n| format!("{{\"type\":\"play\",\"user_id\":\"{}\",\"n\":{n}}}\n", if n == 13 { "trap" } else { "u" }))
        .collect();
    std::fs::write(work.path("events.ndjson"), samples[..13].concat()).expect("samples");
    let events = work.path("events.ndjson").display().to_string();
    let (output, broken) = findings("answers", &["--events", &events]);
    assert!(output.status.success() && broken.is_empty(), "{}", text(&output));
    // With the whole file, the samples themselves cannot be applied, and one of them is to blame.
    std::fs::write(work.path("events.ndjson"), samples.concat()).expect("samples");
    let (output, broken) = findings("answers", &["--events", &events]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("the sample events cannot be applied"), "{}", text(&output));
    let [(law, events)] = &broken[..] else { panic!("{broken:?}") };
    assert_eq!((law.as_str(), events.len()), ("answers", 1));
    assert!(events[0]["event"].as_str().is_some_and(|event| event.contains("trap")), "{events:?}");
}

#[test]
fn what_is_found_is_the_same_for_a_seed_and_reads_like_a_sentence() {
    let run = |seed: &str| {
        let mut test = tally();
        test.args(["plugin", "test", "--settings", "{\"break\":\"late-order\"}", "--seed", seed]).arg(lawless());
        text(&test.output().expect("tally starts"))
    };
    let once = run("7");
    assert_eq!(once, run("7"));
    for part in [
        "(seed 7)",
        "broken: late-order",
        "it means: events that come late",
        "but summary.odd is",
        "by these 2 events (random)",
    ] {
        assert!(once.contains(part), "{part:?} is missing:\n{once}");
    }
}

#[test]
fn a_golden_report_is_written_and_compared() {
    let work = Work::new(&[]);
    let line = |n: u32| format!("{{\"type\":\"play\",\"user_id\":\"u\",\"n\":{n}}}\n");
    std::fs::write(work.path("some.ndjson"), line(1) + &line(2) + "no event\n").expect("samples");
    let run = |more: &[&str]| {
        let mut test = tally();
        test.args(["plugin", "test", "--cases", "5", "--events"]).arg(work.path("some.ndjson")).arg(lawless());
        test.args(more).output().expect("tally starts")
    };
    assert!(text(&run(&[])).contains("golden report: none"));
    assert!(text(&run(&["--bless"])).contains("is written"));
    let golden = std::fs::read_to_string(work.path("golden/some.txt")).expect("the golden report");
    assert_eq!(
        golden,
        "applied 2, refused {}, not subscribed 0, rejected [[3,\"invalid_json\"]]\n\nsummary\n  {\"events\":2,\"odd\":0}\n\nusers\n  {\"events\":2,\"sum\":3,\"user\":\"u\"}\n"
    );
    let equal = run(&[]);
    assert!(equal.status.success() && text(&equal).contains("is what it reports"), "{}", text(&equal));
    std::fs::write(work.path("golden/some.txt"), golden.replace("\"sum\":3", "\"sum\":4")).expect("another report");
    let differs = run(&[]);
    assert_eq!(differs.status.code(), Some(1));
    assert!(text(&differs).contains("+   {\"events\":2,\"sum\":3,\"user\":\"u\"}"), "{}", text(&differs));
}

#[test]
fn a_benchmark_says_what_an_event_costs() {
    let mut bench = tally();
    bench.args(["plugin", "bench", "--seconds", "0", "--output", "json"]).arg(plugin("video-actions"));
    let measured: Value = serde_json::from_str(&succeed(&mut bench)).expect("JSON");
    for key in ["apply_ns_per_event", "fuel_per_event", "memory_bytes", "saved_bytes", "events_per_second_per_core"] {
        assert!(measured[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {measured}");
    }
    assert_eq!(measured["rounds"], 2);
}

#[test]
fn a_bad_name_and_an_existing_folder_are_refused() {
    let work = Work::new(&[]);
    let run = |arguments: &[&str]| {
        let mut new = tally();
        new.args(["plugin", "new"]).args(arguments).current_dir(work.path("")).output().expect("tally starts")
    };
    let bad = run(&["Page Views"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad).contains("lower-case letters, digits and single hyphens"), "{}", text(&bad));
    let taken = run(&["x", "--dir", "plugins"]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(text(&taken).contains("plugins exists already"), "{}", text(&taken));
}

/// Whether this machine's Rust compiles components; says so where it does not.
fn has_wasm_target() -> bool {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().map(|output| text(&output));
    let std = |sysroot: String| Path::new(sysroot.trim()).join("lib/rustlib/wasm32-unknown-unknown/lib").is_dir();
    let found = sysroot.is_ok_and(std);
    if !found {
        eprintln!("skipped: Rust's target wasm32-unknown-unknown is not installed");
    }
    found
}

/// The code blocks of a page in a language: of the tutorial its commands, its code, what it says is answered.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs").join(page)).expect("the page");
    let start = format!("```{language}\n");
    let blocks =
        page.split(&start).skip(1).map(|rest| rest.split_once("```").expect("the end of a block").0.to_owned());
    blocks.collect()
}

#[test]
fn the_tutorial_leads_to_a_live_metric() {
    if !has_wasm_target() {
        return;
    }
    let work = Work::new(&[]);
    let mut daemon = None;
    let mut seen = String::new();
    let mut edits = blocks("tutorial.md", "rust").into_iter();
    for block in blocks("tutorial.md", "sh") {
        for line in block.lines() {
            let line = line.replace("/tmp/tally", &work.path("").display().to_string());
            if line.contains("tally run ") {
                // What runs on in another terminal; the socket's name is the work folder's.
                daemon = Some(work.start(""));
                continue;
            }
            if line.starts_with("# edit") {
                edit(&work, &edits.next().expect("a piece of code for each edit"));
                continue;
            }
            seen += &typed(&work, &line);
        }
    }
    assert!(edits.next().is_none(), "a piece of code that nothing edits");
    for answer in blocks("tutorial.md", "text") {
        for line in answer.lines() {
            assert!(seen.contains(line), "the tutorial says {line:?}, but:\n{seen}");
        }
    }
    goes_on_from_version_1(&work);
    daemon.expect("the tutorial runs a daemon").stop();
}

/// What docs/state-versions.md has for whoever did the tutorial: the plugin's version 1 still runs, and version 2 takes its state over.
fn goes_on_from_version_1(work: &Work) {
    let [code] = &blocks("state-versions.md", "rust")[..] else { panic!("one program") };
    std::fs::write(work.path("page-views/src/lib.rs"), code).expect("the project's code");
    assert!(typed(work, "tally plugin test page-views --bless").contains("laws: 12 of 12 hold"));
    let summary = || work.ask(&["query", "page-views", "--min-sequence", "14"])["summary"].clone();
    assert_eq!(summary(), json!({"plays": 10, "seconds": 3980, "viewers": 4}));
    typed(work, "tally plugin build page-views --into plugins && tally plugin reload --to t.sock.admin");
    assert_eq!(summary(), json!({"plays": 10, "seconds": 3980, "viewers": 4, "long_plays": 0}));
    typed(work, "tally send page-views/events.ndjson --to unix:t.sock --ack");
    let summary = work.ask(&["query", "page-views", "--min-sequence", "21"])["summary"].clone();
    assert_eq!(summary, json!({"plays": 15, "seconds": 5970, "viewers": 4, "long_plays": 1}));
}

/// Runs a command as it is typed into a shell, and gives what it prints.
fn typed(work: &Work, line: &str) -> String {
    let binary = tally().get_program().to_string_lossy().into_owned();
    let line = line.replace("tally ", &format!("{binary} "));
    let mut shell = Command::new("bash");
    shell.args(["-e", "-o", "pipefail", "-c", &line]).current_dir(work.path(""));
    shell.env("CARGO_TARGET_DIR", work.path("target")).env("CARGO_NET_OFFLINE", "true");
    let output = shell.output().expect("bash");
    let expected = if line.contains("# differs") { Some(1) } else { Some(0) };
    assert_eq!(output.status.code(), expected, "{line}:\n{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Does what a piece of code says: `// instead of:` lines, then what replaces them.
fn edit(work: &Work, code: &str) {
    let path = work.path("page-views/src/lib.rs");
    let mut text = std::fs::read_to_string(&path).expect("the project's code");
    for change in code.split("// instead of:\n").skip(1) {
        let (old, new) = change.split_once("// write:\n").expect("what to write");
        assert!(text.contains(old.trim_end()), "the tutorial changes what is not there:\n{old}\nin\n{text}");
        text = text.replace(old.trim_end(), new.trim_end());
    }
    std::fs::write(&path, text).expect("the project's code");
}
