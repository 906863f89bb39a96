//! Wikipedia's edits through every door: the numbers that others published of them, the same bytes in every answer, and
//! the same again when everything is sent twice under event ids. Where the shared data is missing, generated lines take
//! its place.

mod input;
mod run;
mod way;

use serde_json::json;
use tally_tests::{succeed, tally, wait_until};

use input::Input;
use run::{Run, metric, value};
use way::{Sending, Way};

const UNIX: Way = Way::Send("unix", &["--ack"]);
const UNIX_MSGPACK: Way = Way::Send("unix", &["--ack", "--encoding", "msgpack"]);
const TCP_MSGPACK: Way = Way::Send("tcp", &["--ack", "--encoding", "msgpack"]);
const HTTP: Way = Way::Send("http", &[]);
const HTTP_MSGPACK: Way = Way::Send("http", &["--encoding", "msgpack"]);

/// What the Unix socket gives; checked against the independent count, and against what is published.
fn reference(input: &'static Input) -> &'static str {
    input.answer.get_or_init(|| {
        let mut run = Run::start(input, false);
        UNIX.send(&mut run, &input.text, Sending::New);
        let answer = run.counted_once(0);
        run.end();
        let told = value(&answer);
        assert_eq!((&told["as_of_sequence"], &told["complete"]), (&json!(input.lines), &json!(true)));
        for (column, counted) in input.counted["summary"].as_object().expect("a summary") {
            assert_eq!(&told["summary"][column], counted, "{column}");
        }
        for (table, counted) in input.counted["tables"].as_object().expect("tables") {
            assert!(&told["tables"][table] == counted, "{table} differs from the independent count");
        }
        answer
    })
}

/// One way in gives the reference's bytes; so it does with every line sent twice under event ids.
fn gives_the_same(way: Way, input: &'static Input) {
    let reference = reference(input);
    let mut run = Run::start(input, way.has_tls());
    way.send(&mut run, &input.text, Sending::New);
    assert!(run.counted_once(0) == reference, "{way:?}: not the answer of the Unix socket");
    run.dropped_nothing();
    drop(run);
    let mut run = Run::start(input, way.has_tls());
    way.send(&mut run, &input.with_ids, Sending::Twice);
    assert!(run.counted_once(input.lines) == reference, "{way:?}, sent twice: not the answer of the Unix socket");
    run.dropped_nothing();
    run.end();
}

#[test]
fn what_is_published_comes_out() {
    let input = Input::edits();
    let answer = value(reference(input));
    if !input.is_published {
        return;
    }
    assert_eq!((&answer["summary"]["edits"], &answer["summary"]["deleted"]), (&json!(39_244), &json!(394_298)));
    let pages = answer["tables"]["pages"].as_array().expect("pages").iter().take(5);
    let pages: Vec<_> = pages.map(|row| (row["page"].as_str().expect("a page"), row["edits"].clone())).collect();
    let published = [
        ("Wikipedia:Vandalismusmeldung", json!(33)),
        ("User:Cyde/List of candidates for speedy deletion/Subpage", json!(28)),
        ("Jeremy Corbyn", json!(27)),
        ("Wikipedia:Administrators' noticeboard/Incidents", json!(21)),
        ("Flavia Pennetta", json!(20)),
    ];
    assert_eq!(pages, published);
}

#[test]
fn unix() {
    gives_the_same(UNIX, Input::edits());
}

#[test]
fn unix_without_answers() {
    gives_the_same(Way::Send("unix", &[]), Input::edits());
}

#[test]
fn unix_msgpack() {
    gives_the_same(UNIX_MSGPACK, Input::edits());
}

#[test]
fn tcp() {
    gives_the_same(Way::Send("tcp", &["--ack"]), Input::edits());
}

#[test]
fn tcp_without_answers() {
    gives_the_same(Way::Send("tcp", &[]), Input::edits());
}

#[test]
fn tcp_msgpack() {
    gives_the_same(TCP_MSGPACK, Input::edits());
}

#[test]
fn tcp_with_tls_and_token() {
    gives_the_same(Way::Send("tcp+tls", &["--ack"]), Input::edits());
}

#[test]
fn udp() {
    gives_the_same(Way::Datagrams, Input::edits());
}

#[test]
fn http_lines() {
    gives_the_same(HTTP, Input::edits());
}

#[test]
fn http_arrays() {
    gives_the_same(Way::Arrays, Input::edits());
}

#[test]
fn http_gzip() {
    gives_the_same(Way::Gzip, Input::edits());
}

#[test]
fn http_msgpack() {
    gives_the_same(HTTP_MSGPACK, Input::edits());
}

#[test]
fn generated_lines_through_the_same_doors() {
    for way in [UNIX_MSGPACK, Way::Datagrams, Way::Arrays] {
        gives_the_same(way, Input::generated());
    }
}

#[test]
fn a_line_is_known_at_every_door_in_either_encoding() {
    let input = Input::edits();
    let mut run = Run::start(input, false);
    UNIX.send(&mut run, &input.with_ids, Sending::New);
    let others = [HTTP, HTTP_MSGPACK, TCP_MSGPACK, Way::Datagrams, Way::Arrays];
    for way in others {
        way.send(&mut run, &input.with_ids, Sending::Again);
    }
    assert!(run.counted_once(input.lines * others.len() as u64) == reference(input));
    run.end();
}

#[test]
fn a_line_that_follows_itself_is_counted_once() {
    let input = Input::edits();
    let mut run = Run::start(input, false);
    let doubled: Vec<u8> =
        input.with_ids.split_inclusive(|b| *b == b'\n').flat_map(|line| [line, line].concat()).collect();
    let file = run.work.path("doubled");
    std::fs::write(&file, doubled).expect("writing lines");
    let to = format!("unix:{}", run.door("unix"));
    let summary = succeed(tally().arg("send").arg(&file).args(["--ack", "--output", "json", "--to", &to]));
    assert_eq!(value(&summary)["duplicates"], input.lines, "{summary}");
    run.takes(2 * input.lines);
    assert!(run.counted_once(input.lines) == reference(input));
    run.end();
}

#[test]
fn a_line_is_known_after_kills() {
    let input = Input::edits();
    let mut run = Run::start(input, false);
    let lines: Vec<&[u8]> = input.with_ids.split_inclusive(|b| *b == b'\n').collect();
    let (half, rest) = lines.split_at(lines.len() / 2);
    UNIX.send(&mut run, &half.concat(), Sending::New);
    run.kill_and_restart();
    HTTP.send(&mut run, &half.concat(), Sending::Again);
    HTTP_MSGPACK.send(&mut run, &rest.concat(), Sending::New);
    run.kill_and_restart();
    TCP_MSGPACK.send(&mut run, &input.with_ids, Sending::Again);
    Way::Datagrams.send(&mut run, &half.concat(), Sending::Again);
    assert!(run.counted_once(input.lines + 2 * half.len() as u64) == reference(input));
    run.end();
}

#[test]
fn datagrams_that_come_too_fast_are_counted_and_can_be_sent_again() {
    let input = Input::edits();
    let mut run = Run::start(input, false);
    let file = run.work.path("lines");
    std::fs::write(&file, &input.with_ids).expect("writing lines");
    let to = format!("udp:{}", run.door("udp"));
    let summary = value(&succeed(tally().arg("send").arg(&file).args(["--output", "json", "--to", &to])));
    let datagrams = summary["datagrams"].as_u64().expect("a count");
    let mut questions = run.questions();
    wait_until("every datagram was received or dropped by the kernel", || {
        let metrics = questions.get("/metrics");
        let received = metric(&metrics, "tally_source_datagrams_total{source=\"udp\"}");
        received + metric(&metrics, "tally_udp_kernel_dropped_datagrams_total") == datagrams
    });
    // What was lost is new now.
    let to = format!("unix:{}", run.door("unix"));
    succeed(tally().arg("send").arg(&file).args(["--ack", "--to", &to]));
    let taken = metric(&questions.get("/metrics"), "tally_source_lines_total{source=\"udp\"}");
    run.takes(input.lines + taken);
    assert!(run.counted_once(taken) == reference(input));
    run.end();
}
