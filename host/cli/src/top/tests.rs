//! Frames of `tally top`, drawn on a buffer.

use std::time::Duration;

use expect_test::{Expect, expect};
use ratatui::crossterm::event::KeyEvent;
use serde_json::{Value, json};

use super::columns::Column;
use super::sample::Sample;
use super::screen::Speed;
use super::*;

fn status(second: u64) -> Value {
    json!({
        "version": "0.1.0", "uptime_seconds": 3725 + second, "ready": true, "not_ready": null,
        "sequence": 1_000_000 + second * 12_345, "open_events": 54_321, "flush_count": 17, "records_behind": 0,
        "flush_lag_seconds": 0.0032,
        "ledger": {
            "received": 1_001_002 + second * 12_360, "accepted": 1_000_000 + second * 12_345, "duplicate": second * 3, "dropped": {},
            "rejected": {"invalid_json": 1000 + second * 10, "too_deep": second * 2},
        },
        "queue": {"bytes": 20 << 20, "chunks": 5, "lines": 1234, "max_bytes": 64 << 20},
        "log": {"segments": 3, "bytes": 192 << 20, "tail_bytes": 47_900_378},
        "sources": {
            "http": {"connections": 2, "total": 9, "refused": 0, "lines": 100 * second, "bytes": 12_000 * second},
            "unix": {"connections": 1, "total": 4, "refused": 0, "lines": 12_250 * second, "bytes": 1_506_750 * second},
        },
        "aggregators": {
            "homepage-fetch": {"lag": 54_321, "behind": 321, "replaying": true, "age_seconds": 0.5,
                "watermark": "2026-01-27T10:03:19.999000Z", "complete": true, "quarantined": null,
                "memory_bytes": 1_900_544, "state_bytes": 120_000,
                "ledger": {"applied": 900_000, "refused": {}, "skipped": 0}},
            "video-actions": {"lag": 0, "behind": 0, "replaying": false, "age_seconds": 0.0, "watermark": null,
                "complete": false, "quarantined": "`apply` trapped: unreachable",
                "memory_bytes": 9_437_184, "state_bytes": 512,
                "ledger": {"applied": 12, "refused": {"resource": 1234, "unknown_action": 2}, "skipped": 1}},
        },
    })
}

/// Events cost more from the first second on.
fn plugins(second: u64) -> Value {
    let homepage = json!({
        "events": 900_000 + second * 1200, "apply_seconds": 0.09 + second as f64 * 0.0006,
        "instructions": 90_000_000 + second * 300_000, "budget_share": 0.0021,
    });
    let video = json!({"events": 12, "apply_seconds": 0.000_012, "instructions": 4_944, "budget_share": 1.0});
    json!({"plugins": [
        {"name": "homepage-fetch", "state": "running", "version": "0.1.0", "reason": null, "cost": homepage},
        {"name": "video-actions", "state": "running", "version": "1.2.0", "reason": null, "cost": video},
        {"name": "broken", "state": "failed", "version": null, "reason": "not a usable WebAssembly component", "cost": null},
    ]})
}

fn sample(second: u64) -> Sample {
    Sample::read(Duration::from_secs(second), &status(second), &plugins(second))
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
            rejected            12/s          1,012  lag      321 events, 1 replaying                          █
            read           1.4 MiB/s                 log      192.0 MiB, 45.7 MiB in memory                    █
            received        12,360/s      1,013,362  waiting  1,234 lines in the queue                         █
            duplicates           3/s              3  flushes  17, the last in 3.2 ms                           █
            dropped              0/s              0  open     54,321 events since a cut                        █

            source                  lines         bytes connections   refused
            http                    100/s    11.7 KiB/s           2         0
            unix                 12,250/s     1.4 MiB/s           1         0

            aggregator                 state   events/s     behind ns/event ins/event  budget     memory
            broken                    failed          0          0        -         -       -          -
            homepage-fetch         replaying      1,200        321      500       250   0.21%    1.8 MiB
            video-actions        quarantined          0          0    1,000       412 100.00%    9.0 MiB
            broken: watermark -, 0 applied, 0 unsaved, not a usable WebAssembly component

            q quit  p pause  up/down choose  left/right sort by aggregator  /tmp/t.sock.query
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
            rejected               -          1,000  lag      321 events, 1 replaying
            read                   -                 log      192.0 MiB, 45.7 MiB in memory
            received               -      1,001,002  waiting  1,234 lines in the queue
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
            read           1.4 MiB/s
            queue    ██░░░░░░ 20.0 MiB of 64.0 MiB
            lag      321 events, 1 replaying
            log      192.0 MiB, 45.7 MiB in memory

            aggregator                 state   events/s     behind
            broken                    failed          0          0
            homepage-fetch         replaying      1,200        321
            video-actions        quarantined          0          0

            broken: watermark -, 0 applied, 0 unsaved, not a usable
            WebAssembly component
            q quit  p pause  up/down choose  left/right sort by aggregat
        "#]],
    );
    check(
        &screen,
        (30, 5),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  seq
            accepted        12,345/s
            rejected            12/s
            read           1.4 MiB/s
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
        (120, 4),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,012,345  NO ANSWER, tried 2 times
            cannot connect to /tmp/t.sock.query

            q quit  p pause  up/down choose  left/right sort by aggregator  /tmp/t.sock.query
        "#]],
    );
    // Started anew: its counts begin again, so there is no rate yet.
    let mut again = sample(2);
    again.uptime = 1;
    screen.take(again.clone());
    assert!(screen.lost.is_none());
    assert_eq!(screen.shown.as_ref().unwrap().rates, None);
    // Started anew while nobody looked, long enough ago to be older than it was then.
    again.at += Duration::from_secs(60);
    again.uptime = 30;
    screen.take(again);
    assert_eq!(screen.shown.unwrap().rates, None);
}

#[test]
fn an_aggregator_s_speed_is_that_of_the_last_second() {
    let mut screen = watched();
    let speed = |screen: &Screen, name: &str| {
        screen.shown.as_ref().unwrap().rates.as_ref().unwrap().aggregators.get(name).copied()
    };
    let homepage = speed(&screen, "homepage-fetch").unwrap();
    assert_eq!((homepage.events, homepage.instructions), (1200, Some(250.0)));
    assert!((homepage.nanos.unwrap() - 500.0).abs() < 0.001, "{homepage:?}");
    let idle = Speed { events: 0, nanos: None, instructions: None };
    assert_eq!(speed(&screen, "video-actions"), Some(idle));
    // It was attached anew and counts from the beginning.
    let mut later = sample(2);
    later.aggregators.get_mut("homepage-fetch").unwrap().cost.events = 5;
    screen.take(later);
    assert_eq!(speed(&screen, "homepage-fetch"), None);
    assert_eq!(speed(&screen, "video-actions"), Some(idle));
}

#[test]
fn aggregators_are_sorted_by_any_column() {
    let mut screen = watched();
    let names = |screen: &Screen| screen.rows().iter().map(|row| row.name.to_string()).collect::<Vec<_>>();
    let mut orders = Vec::new();
    press(&mut screen, &key(KeyCode::Down));
    for _ in 0..Column::ALL.len() + 1 {
        let first = &names(&screen)[0];
        orders.push(format!("{}: {first}", screen.sorted_by().head().0));
        assert_eq!(names(&screen)[screen.chosen()], "homepage-fetch", "what was chosen stays so");
        press(&mut screen, &key(KeyCode::Right));
    }
    expect![[r#"
        aggregator: broken
        state: broken
        events/s: homepage-fetch
        behind: homepage-fetch
        ns/event: video-actions
        ins/event: video-actions
        budget: video-actions
        memory: video-actions
        saved: homepage-fetch
        refused: video-actions
        age: homepage-fetch
        version: broken
        version: broken"#]]
    .assert_eq(&orders.join("\n"));
    press(&mut screen, &key(KeyCode::Left));
    assert_eq!(screen.sorted_by(), Column::Age);
}

#[test]
fn a_daemon_that_is_not_ready_says_why() {
    let mut status = status(0);
    status["not_ready"] = "disk_full".into();
    let mut screen = Screen::new("q");
    screen.take(Sample::read(Duration::ZERO, &status, &plugins(0)));
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
        assert_eq!(screen.chosen(), chosen);
    }
    check(
        &screen,
        (100, view::height(&screen)),
        expect![[r#"
            tally 0.1.0  up 1 h 2 min  sequence 1,037,035
            accepted        12,345/s      1,037,035  queue    ██░░░░░░ 20.0 MiB of 64.0 MiB                   ██
            rejected            12/s          1,036  lag      321 events, 1 replaying                         ██
            read           1.4 MiB/s                 log      192.0 MiB, 45.7 MiB in memory                   ██
            received        12,360/s      1,038,082  waiting  1,234 lines in the queue                        ██
            duplicates           3/s              9  flushes  17, the last in 3.2 ms                          ██
            dropped              0/s              0  open     54,321 events since a cut                       ██

            source                  lines         bytes connections   refused
            http                    100/s    11.7 KiB/s           2         0
            unix                 12,250/s     1.4 MiB/s           1         0

            aggregator                 state   events/s     behind ns/event ins/event  budget     memory
            broken                    failed          0          0        -         -       -          -
            homepage-fetch         replaying      1,200        321      500       250   0.21%    1.8 MiB
            video-actions        quarantined          0          0    1,000       412 100.00%    9.0 MiB
            video-actions: watermark -, 12 applied, 0 unsaved, 1,234 refused (resource), 2 refused
            (unknown_action), 1 skipped, `apply` trapped: unreachable
            q quit  p pause  up/down choose  left/right sort by aggregator  /tmp/t.sock.query
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
            rejected             0/s              0  lag      0 events
            read                   -                 log      0 B, 0 B in memory
            received             0/s              0  waiting  0 lines in the queue
            duplicates           0/s              0  flushes  0
            dropped              0/s              0  open     0 events since a cut

            aggregator                 state   events/s     behind ns/event ins/event
            q
        "#]],
    );
}
