//! Frames of `tally top`, drawn on a buffer.

use std::time::Duration;

use expect_test::{Expect, expect};
use ratatui::crossterm::event::KeyEvent;
use serde_json::{Value, json};

use super::sample::Sample;
use super::*;

fn status(second: u64) -> Value {
    json!({
        "version": "0.1.0", "uptime_seconds": 3725 + second, "ready": true, "not_ready": null,
        "sequence": 1_000_000 + second * 12_345, "open_events": 54_321, "flush_count": 17, "records_behind": 0,
        "ledger": {
            "received": 1, "accepted": 1_000_000 + second * 12_345, "duplicate": second * 3, "dropped": {},
            "rejected": {"invalid_json": 1000 + second * 10, "too_deep": second * 2},
        },
        "queue": {"bytes": 20 << 20, "chunks": 5, "max_bytes": 64 << 20},
        "log": {"segments": 3, "bytes": 192 << 20, "tail_bytes": 47_900_378},
        "sources": {
            "http": {"connections": 2, "total": 9, "refused": 0, "lines": 100 * second, "bytes": 12_000 * second},
            "unix": {"connections": 1, "total": 4, "refused": 0, "lines": 12_250 * second, "bytes": 1_506_750 * second},
        },
        "aggregators": {
            "homepage-fetch": {"lag": 54_321, "age_seconds": 0.5, "watermark": "2026-01-27T10:03:19.999000Z",
                "complete": true, "quarantined": null, "memory_bytes": 1_900_544,
                "ledger": {"applied": 900_000, "refused": {}, "skipped": 0}},
            "video-actions": {"lag": 0, "age_seconds": 0.0, "watermark": null, "complete": false,
                "quarantined": "`apply` trapped: unreachable", "memory_bytes": 9_437_184,
                "ledger": {"applied": 12, "refused": {"resource": 1234, "unknown_action": 2}, "skipped": 1}},
        },
    })
}

fn plugins() -> Value {
    json!({"plugins": [
        {"name": "homepage-fetch", "state": "running", "version": "0.1.0", "reason": null},
        {"name": "video-actions", "state": "running", "version": "1.2.0", "reason": null},
        {"name": "broken", "state": "failed", "version": null, "reason": "not a usable WebAssembly component"},
    ]})
}

fn sample(second: u64) -> Sample {
    Sample::read(Duration::from_secs(second), &status(second), &plugins())
}

fn watched() -> Screen {
    let mut screen = Screen::new("/tmp/t.sock.query");
    screen.keys = true;
    screen.take(sample(0));
    screen.take(sample(1));
    screen
}

fn check(screen: &Screen, (width, height): (u16, u16), expected: Expect) {
    expected.assert_eq(&text(screen, width, height).unwrap());
}

fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn everything_is_shown_where_there_is_room() {
    let screen = watched();
    check(
        &screen,
        (100, view::height(&screen)),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,012,345
            accepted        12,345/s      1,012,345  queue    ██░░░░░░ 20.0 MiB of 64.0 MiB                    █
            rejected            12/s          1,012  log      192.0 MiB, 45.7 MiB in memory                    █
            duplicates           3/s              3  flushes  17                                               █
            read           1.4 MiB/s                 open     54,321 events since a cut                        █

            source                  lines         bytes connections   refused
            http                    100/s    11.7 KiB/s           2         0
            unix                 12,250/s     1.4 MiB/s           1         0

            aggregator                   state        behind     refused       age     memory     version
            broken                      failed             0           0         -          -
            homepage-fetch             running        54,321           0     0.5 s    1.8 MiB       0.1.0
            video-actions          quarantined             0       1,236     0.0 s    9.0 MiB       1.2.0
            broken: watermark -, 0 applied, not a usable WebAssembly component

            q quit  p pause  up/down choose  /tmp/t.sock.query
        "#]],
    );
}

#[test]
fn rates_need_two_samples() {
    let mut screen = Screen::new("/tmp/t.sock.query");
    check(
        &screen,
        (60, 4),
        expect![[r#"
            tally  asking /tmp/t.sock.query


            /tmp/t.sock.query
        "#]],
    );
    screen.take(sample(0));
    check(
        &screen,
        (80, 6),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,000,000
            accepted               -      1,000,000  queue    ██░░░░░░ 20.0 MiB of 64.0 MiB
            rejected               -          1,000  log      192.0 MiB, 45.7 MiB in memory
            duplicates             -              0  flushes  17
            read                   -                 open     54,321 events since a cut
            /tmp/t.sock.query
        "#]],
    );
}

#[test]
fn any_size_shows_what_fits() {
    let screen = watched();
    check(
        &screen,
        (60, 16),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,012,345
            accepted        12,345/s      1,012,345
            rejected            12/s          1,012
            duplicates           3/s              3
            queue    ██░░░░░░ 20.0 MiB of 64.0 MiB

            source                  lines         bytes connections
            http                    100/s    11.7 KiB/s           2
            unix                 12,250/s     1.4 MiB/s           1

            aggregator                   state        behind     refused
            broken                      failed             0           0
            homepage-fetch             running        54,321           0
            broken: watermark -, 0 applied, not a usable WebAssembly
            component
            q quit  p pause  up/down choose  /tmp/t.sock.query
        "#]],
    );
    check(
        &screen,
        (30, 5),
        expect![[r#"
        tally 0.1.0  up 1 h 2 min  seq
        accepted        12,345/s
        rejected            12/s
        duplicates           3/s
        q quit  p pause  up/down choos
    "#]],
    );
    for width in 0..50 {
        for height in 0..30 {
            text(&screen, width, height).unwrap();
        }
    }
}

#[test]
fn a_daemon_that_goes_away_is_told_and_comes_back() {
    let mut screen = watched();
    screen.lose("cannot connect to /tmp/t.sock.query".to_string());
    screen.lose("cannot connect to /tmp/t.sock.query".to_string());
    check(
        &screen,
        (120, 3),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,012,345  NO ANSWER, tried 2 times: cannot connect to /tmp/t.sock.query
            accepted        12,345/s      1,012,345  queue    ██░░░░░░ 20.0 MiB of 64.0 MiB                                        █
            q quit  p pause  up/down choose  /tmp/t.sock.query
        "#]],
    );
    // Started anew: its counts begin again, so there is no rate yet.
    let mut again = sample(2);
    again.uptime = 1;
    screen.take(again);
    assert!(screen.lost.is_none());
    assert_eq!(screen.shown.unwrap().rates, None);
}

#[test]
fn a_daemon_that_is_not_ready_says_why() {
    let mut status = status(0);
    status["not_ready"] = "disk_full".into();
    let mut screen = Screen::new("q");
    screen.take(Sample::read(Duration::ZERO, &status, &plugins()));
    check(
        &screen,
        (80, 1),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,000,000  NOT READY: disk full
        "#]],
    );
}

#[test]
fn keys_pause_choose_and_end() {
    let mut screen = watched();
    assert!(!press(&mut screen, &key(KeyCode::Char('p'))));
    screen.take(sample(2));
    assert_eq!(screen.shown.as_ref().unwrap().sample, sample(1));
    assert!(!press(&mut screen, &key(KeyCode::Char('p'))));
    screen.take(sample(3));
    // The rate is that of the last second, not of the pause.
    assert_eq!(screen.shown.as_ref().unwrap().rates.as_ref().unwrap().accepted, 12_345);

    for (code, chosen) in [(KeyCode::Up, 0), (KeyCode::Down, 1), (KeyCode::Down, 2), (KeyCode::Down, 2)] {
        press(&mut screen, &key(code));
        assert_eq!(screen.chosen, chosen);
    }
    check(
        &screen,
        (100, view::height(&screen)),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,037,035
            accepted        12,345/s      1,037,035  queue    ██░░░░░░ 20.0 MiB of 64.0 MiB                   ██
            rejected            12/s          1,036  log      192.0 MiB, 45.7 MiB in memory                   ██
            duplicates           3/s              9  flushes  17                                              ██
            read           1.4 MiB/s                 open     54,321 events since a cut                       ██

            source                  lines         bytes connections   refused
            http                    100/s    11.7 KiB/s           2         0
            unix                 12,250/s     1.4 MiB/s           1         0

            aggregator                   state        behind     refused       age     memory     version
            broken                      failed             0           0         -          -
            homepage-fetch             running        54,321           0     0.5 s    1.8 MiB       0.1.0
            video-actions          quarantined             0       1,236     0.0 s    9.0 MiB       1.2.0
            video-actions: watermark -, 12 applied, 1,234 refused (resource), 2 refused (unknown_action), 1
            skipped, `apply` trapped: unreachable
            q quit  p pause  up/down choose  /tmp/t.sock.query
        "#]],
    );
    assert!(press(&mut screen, &key(KeyCode::Char('q'))));
    let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(press(&mut screen, &interrupt));
}

#[test]
fn another_version_s_answers_are_shown_as_far_as_they_go() {
    let mut screen = Screen::new("q");
    screen.take(Sample::read(Duration::ZERO, &json!({}), &json!({})));
    screen.take(Sample::read(Duration::from_secs(1), &json!({"queue": 1}), &json!({"plugins": [{}]})));
    check(
        &screen,
        (80, 10),
        expect![[r#"
            tally   up 0 s  sequence 0
            accepted             0/s              0  queue    ░░░░░░░░ 0 B of 0 B
            rejected             0/s              0  log      0 B, 0 B in memory
            duplicates           0/s              0  flushes  0
            read                   -                 open     0 events since a cut

            aggregator                   state        behind     refused       age


            q
        "#]],
    );
}
