//! The workload is fixed: its first lines, a hash of the first hundred thousand, and an independent count.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::str::FromStr;

use expect_test::{Expect, expect};
use serde_json::Value;

use super::random::{Draws, Share};
use super::workload::{Kind, Line, Mix, Workload};
use super::{faults, write};

fn share(text: &str) -> Share {
    Share::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Everything that can be in a workload, often.
fn everything(wide: bool) -> Mix {
    Mix::new(share("0.05"), share("0.1"), share("0.04"), share("0.1"), share("0.2"), wide).unwrap()
}

fn plain() -> Mix {
    let none = Share::default();
    Mix::new(none, none, none, none, none, false).unwrap()
}

fn lines(seed: u64, mix: Mix, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(Workload::new(seed, mix), count, None, &mut bytes, &mut crate::progress::Meter::on(None, false)).unwrap();
    bytes
}

fn check(bytes: &[u8], expected: Expect) {
    expected.assert_eq(&String::from_utf8_lossy(bytes));
}

/// FNV-1a, 64 bits: four lines, and nothing else to trust.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn first_lines() {
    check(
        &lines(1, plain(), 3),
        expect![[r#"
        {"type":"action","timestamp":"2026-01-27T10:00:00.000Z","user_id":"u_875917","resource_type":"posts:12879","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.001Z","user_id":"u_008541","resource_type":"posts:15214","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.002Z","user_id":"u_371353","resource_type":"posts:15982","action":"view"}
    "#]],
    );
    check(
        &lines(7, everything(false), 24),
        expect![[r#"
        {"type":"action","timestamp":"2026-01-27T09:59:23.745Z","user_id":"u_436185","resource_type":"posts:19888","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.001Z","user_id":"u_734563","resource_type":"posts:11590","action":"play"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.002Z","user_id":"u_554236","resource_type":"posts:10123","action":"pause"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.003Z","user_id":"u_644937","resource_type":"posts:16566","action":"play"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.004Z","user_id":"u_121352","resource_type":"posts:18373","action":"play"}
        {"type":"action","timestamp":"2026-01-27T09:59:46.356Z","user_id":"u_612076","resource_type":"posts:13794","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.006Z","user_id":"u_746760","resource_type":"posts:12514","action":"unmute"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.007Z","user_id":"u_037731","resource_type":"posts:10123","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.008Z","user_id":"u_224029","resource_type":"posts:17700","action":"pause"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.009Z","user_id":"u_299458","resource_type":"users:299458","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.010Z","user_id":"u_525407","resource_type":"posts:11679","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.011Z","user_id":"u_137001","resource_type":"posts:13244","action":"play"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.012Z","user_id":"u_050474","resource_type":"posts:12076","action":"play"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.013Z","user_id":"u_323885","note":"\x41","resource_type":"posts:19888","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.014Z","user_id":"u_224029","resource_type":"posts:14029","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.015Z","user_id":"u_507700","resource_type":"posts:14978","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.016Z","user_id":"u_955512","resource_type":"posts:14337","action":"view"}
        {"type":"action","timestamp":"2026-01-27T09:59:11.037Z","user_id":"u_847412","resource_type":"posts:14029","action":"play"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.018Z","user_id":"u_724107","resource_type":"posts:19653","action":"unmute"}
        {"type":"login","timestamp":"2026-01-27T10:00:00.019Z","user_id":"u_318357","method":"password","device":{"os":"linux","known":true}}
        {"type":"action","timestamp":"2026-01-27T10:00:00.020Z","user_id":"u_196274","resource_type":"posts:12076","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.021Z","user_id":"u_671841","resource_type":"posts:15719","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.022Z","user_id":"u_447935","resource_type":"posts:10123","action":"view"}
        {"type":"action","timestamp":"2026-01-27T10:00:00.023Z","user_id":"u_567465","resource_type":"posts:19888","action":"view"}
    "#]],
    );
    check(
        &lines(7, everything(true), 1),
        expect![[r#"
        {"type":"action","timestamp":"2026-01-27T09:59:23.745Z","user_id":"u_436185","resource_type":"posts:19888","action":"view","properties":{"plan":"team","session":{"id":"s-348058501","page_views":109,"new":true,"referrer":null},"page":{"path":"/watch","title":"A page about moving pictures","locale":"en-GB"},"viewport":{"width":1440,"height":900,"scale":1.5},"experiments":["player-v2","autoplay-off"],"timings":[12.25,0.5,3e2,-1],"device":{"os":"linux","app":"web 4.18.2","memory_gb":16}}}
    "#]],
    );
}

#[test]
fn a_hundred_thousand_lines_have_a_known_hash() {
    let hashes = format!(
        "{:016x}\n{:016x}\n{:016x}\n",
        hash(&lines(1, plain(), 100_000)),
        hash(&lines(2, plain(), 100_000)),
        hash(&lines(1, everything(true), 100_000)),
    );
    check(
        hashes.as_bytes(),
        expect![[r#"
        44033ee99288ca64
        dabbc405a9e5a467
        945cbb9c564b6c51
    "#]],
    );
}

#[test]
fn a_longer_run_begins_like_a_shorter_one() {
    let short = lines(3, everything(false), 5_000);
    assert!(lines(3, everything(false), 9_000).starts_with(&short));
}

#[test]
fn wide_lines_are_about_500_bytes() {
    let bytes = lines(1, everything(true), 10_000);
    let wide = bytes.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"}}}") && line.len() < 1000);
    let lengths: Vec<usize> = wide.map(<[u8]>::len).collect();
    let mean = lengths.iter().sum::<usize>() / lengths.len();
    assert!((470..530).contains(&mean), "{mean}");
}

/// What `tests/oracle/count.py` says of a file.
fn oracle(bytes: Vec<u8>, options: &[&str]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracle/count.py");
    let mut python = Command::new("python3");
    python.arg(script).arg("-").args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("these tests need python3");
    let mut input = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_oracle_counts_what_was_generated() {
    let mut workload = Workload::new(5, everything(false));
    let mut bytes = Vec::new();
    let mut kinds = [0u64; 5];
    for _ in 0..40_000 {
        kinds[workload.line(&mut bytes) as usize] += 1;
    }
    let [invalid, unsubscribed, refused, homepage, actions] = kinds;
    assert_eq!(Kind::Action as usize, 4);
    let counted = oracle(bytes, &[]);
    let video = &counted["count"]["aggregators"]["video-actions"];
    let fetches = &counted["count"]["aggregators"]["homepage-fetch"];
    assert_eq!(counted["received"], 40_000);
    assert_eq!(counted["accepted"], 40_000 - invalid);
    assert_eq!(counted["rejected"]["total"], invalid);
    assert_eq!(video["applied"], actions);
    assert_eq!(video["summary"]["total_events"], actions);
    assert_eq!(video["not_subscribed"], unsubscribed + homepage);
    assert_eq!(video["refused"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>(), refused);
    assert_eq!(fetches["applied"], homepage);
    assert_eq!(fetches["not_subscribed"], unsubscribed + actions + refused);
}

/// One of each fault, and the two sides agree on why.
#[test]
fn the_oracle_rejects_each_fault_for_its_reason() {
    let line = Line {
        draws: Draws::new(1, 1),
        timestamp: *b"2026-01-27T10:00:00.000Z",
        user: *b"000001",
        post: *b"10001",
        action: "view",
        wide: false,
    };
    let mut bytes = Vec::new();
    let mut expected = BTreeMap::new();
    for (number, (reason, fault)) in faults::INVALID.iter().enumerate() {
        fault(&line, &mut bytes);
        bytes.push(b'\n');
        expected.insert(number as u64 + 1, (*reason).to_owned());
    }
    let counted = oracle(bytes, &["--list-rejects"]);
    let rejects: BTreeMap<u64, String> = serde_json::from_value(counted["rejects"].clone())
        .map(|pairs: Vec<(u64, String)>| pairs.into_iter().collect())
        .unwrap();
    assert_eq!(rejects, expected);
}

/// Ranges add up to the whole, and a hot post is the first of its own range.
#[test]
fn the_oracle_counts_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let ranges = folder.path().join("ranges.json");
    std::fs::write(&ranges, "[[1,400],[401,401],[402,900]]").unwrap();
    let counted = oracle(lines(9, plain(), 1000), &["--to-sequence", "900", "--ranges", ranges.to_str().unwrap()]);
    let ranges = counted["ranges"].as_array().unwrap();
    let views = |range: &Value| range["aggregators"]["video-actions"]["summary"]["views"].as_u64().unwrap();
    assert_eq!(ranges.iter().map(views).sum::<u64>(), views(&counted["count"]));
    assert_eq!(ranges[1]["accepted"], 1);
    for range in ranges {
        let video = &range["aggregators"]["video-actions"];
        let best = format!("post_{}", video["posts"][0]["post_id"].as_str().unwrap());
        assert_eq!(video["summary"]["hot_post"], best);
    }
}

#[test]
fn a_line_longer_than_the_limit_comes_now_and_then() {
    let whole = Mix::new(share("1"), Share::default(), Share::default(), Share::default(), Share::default(), false);
    let mut workload = Workload::new(1, whole.unwrap());
    let mut longest = 0;
    let mut line = Vec::new();
    for _ in 0..60_000 {
        line.clear();
        workload.line(&mut line);
        longest = longest.max(line.len());
    }
    assert!(longest > 1 << 20, "{longest}");
}
