//! The text as a whole, its names, and the document of them.

use std::collections::BTreeSet;

use expect_test::{expect, expect_file};
use tally_aggregate::Counts;
use tally_sink::RejectedCounts;

use super::*;
use crate::aggregator::meter::Times;

/// Something of everything.
fn figures() -> Figures {
    let sources = tally_ingest::Counters::default();
    let counts = Counts {
        received: 12,
        accepted: 8,
        rejected: [("invalid_json".to_owned(), 1), ("too_deep".to_owned(), 2)].into(),
        duplicate: 1,
        dropped: [("full".to_owned(), 0)].into(),
    };
    let published = Published {
        last_sequence: 8,
        frame: 5,
        cut: 4,
        batch_id: 2,
        counts,
        log_bytes: 67_108_864,
        segments: 1,
        open_events: 3,
        flushes: [("events".to_owned(), 2)].into(),
        rejected_lines: RejectedCounts { written: 3, left_out: 0 },
        ..Published::default()
    };
    let aggregator = AggregatorFigures {
        name: "a \"quoted\"\\\nname".into(),
        plugin: "video-actions".into(),
        version: "0.1.0".into(),
        last_sequence: 5,
        age: Duration::from_millis(250),
        ledger: AggregatorLedger {
            accepted: 5,
            applied: 4,
            refused: [("missing:/user_id".to_owned(), 1)].into(),
            ..AggregatorLedger::default()
        },
        watermark: Some(1_769_508_000_123_000),
        is_complete: true,
        strikes: 1,
        is_quarantined: false,
        meter: MeterSnapshot {
            applied_sequence: 7,
            apply_time: Duration::from_micros(1500),
            replays: true,
            events: 6,
            apply_fuel: 9000,
            peak: 0.25,
            apply_memory: 1_179_648,
            total_memory: 1_048_576,
            state_bytes: 512,
            report: Times { count: 2, total: Duration::from_millis(5), last: Duration::from_millis(2) },
            ..MeterSnapshot::default()
        },
    };
    Figures {
        kernel_drops: Some(3),
        uptime: Duration::from_secs(60),
        is_ready: true,
        depth: Depth { bytes: 4096, chunks: 1, lines: 10, max_bytes: 1 << 20 },
        tail_bytes: 1024,
        sources: vec![("unix", CountersSnapshot { ended: vec![("finished", 1)], ..sources.snapshot() })],
        doors: vec![(
            "query",
            tally_net::CountersSnapshot { requests: 1, answers: vec![(200, 1)], ..Default::default() },
        )],
        published: Arc::new(published),
        aggregators: vec![aggregator],
        records_written: 2,
        records_behind: 0,
        records_files: 1,
        flush_lag: Some(Duration::from_millis(3)),
    }
}

#[test]
fn everything_as_text() {
    let text = text(&figures());
    let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    expect![[r#"
        tally_build_info{version="0.1.0"} 1
        tally_ready 1
        tally_uptime_seconds 60
        tally_queue_bytes 4096
        tally_queue_capacity_bytes 1048576
        tally_queue_events 10
        tally_source_connections{source="unix"} 0
        tally_source_connections_accepted_total{source="unix"} 0
        tally_source_connections_refused_total{source="unix"} 0
        tally_source_connections_ended_total{source="unix",reason="finished"} 1
        tally_source_read_bytes_total{source="unix"} 0
        tally_source_lines_total{source="unix"} 0
        tally_source_queue_waits_total{source="unix"} 0
        tally_source_datagrams_total{source="unix"} 0
        tally_source_unfinished_lines_total{source="unix"} 0
        tally_source_unqueued_lines_total{source="unix"} 0
        tally_source_unread_answers_total{source="unix"} 0
        tally_source_turned_away_requests_total{source="unix"} 0
        tally_source_accept_errors_total{source="unix"} 0
        tally_source_dropped_lines_total{source="unix"} 0
        tally_udp_kernel_dropped_datagrams_total 3
        tally_door_connections{door="query"} 0
        tally_door_connections_accepted_total{door="query"} 0
        tally_door_requests_total{door="query"} 1
        tally_door_answers_total{door="query",status="200"} 1
        tally_door_accept_errors_total{door="query"} 0
        tally_door_panicked_connections_total{door="query"} 0
        tally_door_read_bytes_total{door="query"} 0
        tally_door_refused_total{door="query",reason="too_many_connections"} 0
        tally_door_refused_total{door="query",reason="peer_not_allowed"} 0
        tally_door_refused_total{door="query",reason="tls_failed"} 0
        tally_door_refused_total{door="query",reason="header_timeout"} 0
        tally_door_refused_total{door="query",reason="idle_timeout"} 0
        tally_door_refused_total{door="query",reason="malformed_request"} 0
        tally_door_refused_total{door="query",reason="head_too_large"} 0
        tally_door_refused_total{door="query",reason="unfinished_request"} 0
        tally_door_refused_total{door="query",reason="connection_broken"} 0
        tally_door_refused_total{door="query",reason="unauthorized"} 0
        tally_door_refused_total{door="query",reason="wrong_host"} 0
        tally_events_received_total 12
        tally_events_accepted_total 8
        tally_events_rejected_total{reason="invalid_json"} 1
        tally_events_rejected_total{reason="too_deep"} 2
        tally_events_duplicate_total 1
        tally_events_dropped_total{reason="full"} 0
        tally_rejected_lines_kept_total 3
        tally_rejected_lines_left_out_total 0
        tally_log_last_sequence 8
        tally_log_frames_total 5
        tally_log_segments 1
        tally_log_bytes 67108864
        tally_log_tail_bytes 1024
        tally_cuts_total 4
        tally_flushes_total{reason="events"} 2
        tally_flush_open_events 3
        tally_flush_lag_seconds 0.003
        tally_analytics_records_total 2
        tally_analytics_behind_cuts 0
        tally_analytics_files 1
        tally_aggregator_info{aggregator="a \"quoted\"\\\nname",plugin="video-actions",version="0.1.0"} 1
        tally_aggregator_applied_rows_total{aggregator="a \"quoted\"\\\nname"} 4
        tally_aggregator_refused_rows_total{aggregator="a \"quoted\"\\\nname",reason="missing:/user_id"} 1
        tally_aggregator_not_subscribed_rows_total{aggregator="a \"quoted\"\\\nname"} 0
        tally_aggregator_lag_events{aggregator="a \"quoted\"\\\nname"} 1
        tally_aggregator_unsaved_events{aggregator="a \"quoted\"\\\nname"} 3
        tally_aggregator_replaying{aggregator="a \"quoted\"\\\nname"} 1
        tally_aggregator_age_seconds{aggregator="a \"quoted\"\\\nname"} 0.25
        tally_aggregator_watermark_timestamp_seconds{aggregator="a \"quoted\"\\\nname"} 1769508000.123
        tally_aggregator_apply_seconds_total{aggregator="a \"quoted\"\\\nname"} 0.0015
        tally_aggregator_given_rows_total{aggregator="a \"quoted\"\\\nname"} 6
        tally_aggregator_instructions_total{aggregator="a \"quoted\"\\\nname"} 9000
        tally_aggregator_budget_ratio{aggregator="a \"quoted\"\\\nname"} 0.25
        tally_aggregator_work_total{aggregator="a \"quoted\"\\\nname",work="cut"} 0
        tally_aggregator_work_total{aggregator="a \"quoted\"\\\nname",work="commit"} 0
        tally_aggregator_work_total{aggregator="a \"quoted\"\\\nname",work="merge"} 0
        tally_aggregator_work_total{aggregator="a \"quoted\"\\\nname",work="report"} 2
        tally_aggregator_work_total{aggregator="a \"quoted\"\\\nname",work="question"} 0
        tally_aggregator_work_seconds_total{aggregator="a \"quoted\"\\\nname",work="cut"} 0
        tally_aggregator_work_seconds_total{aggregator="a \"quoted\"\\\nname",work="commit"} 0
        tally_aggregator_work_seconds_total{aggregator="a \"quoted\"\\\nname",work="merge"} 0
        tally_aggregator_work_seconds_total{aggregator="a \"quoted\"\\\nname",work="report"} 0.005
        tally_aggregator_work_seconds_total{aggregator="a \"quoted\"\\\nname",work="question"} 0
        tally_aggregator_work_last_seconds{aggregator="a \"quoted\"\\\nname",work="cut"} 0
        tally_aggregator_work_last_seconds{aggregator="a \"quoted\"\\\nname",work="commit"} 0
        tally_aggregator_work_last_seconds{aggregator="a \"quoted\"\\\nname",work="merge"} 0
        tally_aggregator_work_last_seconds{aggregator="a \"quoted\"\\\nname",work="report"} 0.002
        tally_aggregator_work_last_seconds{aggregator="a \"quoted\"\\\nname",work="question"} 0
        tally_aggregator_memory_bytes{aggregator="a \"quoted\"\\\nname"} 2228224
        tally_aggregator_apply_memory_bytes{aggregator="a \"quoted\"\\\nname"} 1179648
        tally_aggregator_state_bytes{aggregator="a \"quoted\"\\\nname"} 512
        tally_aggregator_complete{aggregator="a \"quoted\"\\\nname"} 1
        tally_aggregator_skipped_total{aggregator="a \"quoted\"\\\nname"} 0
        tally_aggregator_strikes{aggregator="a \"quoted\"\\\nname"} 1
        tally_aggregator_quarantined{aggregator="a \"quoted\"\\\nname"} 0
    "#]]
    .assert_eq(&(values.join("\n") + "\n"));
}

#[test]
fn every_metric_has_its_head_and_a_value() {
    let text = text(&figures());
    for metric in all() {
        let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n{0}", metric.name, metric.help, metric.kind());
        assert!(text.contains(&head), "{}", metric.name);
    }
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut seen = BTreeSet::new();
    for metric in all() {
        assert!(seen.insert(metric.name), "{} stands twice", metric.name);
        assert!(metric.name.starts_with("tally_"), "{}", metric.name);
        assert!(metric.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')), "{}", metric.name);
        let unit = ["milliseconds", "micros", "minutes", "kilobytes", "_ms", "_kb"];
        assert!(!unit.iter().any(|unit| metric.name.contains(unit)), "{} has no base unit", metric.name);
        assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']), "{}", metric.name);
    }
}

#[test]
fn the_document_has_every_metric() {
    let mut document = String::from(
        "# Metrics\n\n\
        What `GET /metrics` says on the query and admin doors, in Prometheus' text format. Made from\n\
        `host/daemon/src/metrics/*.rs`; `UPDATE_EXPECT=1 cargo test -p tally-daemon metrics` writes it anew.\n\n\
        | Name | Type | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for metric in all() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        document += &format!("| `{}` | {} | {} | {} |\n", metric.name, metric.kind(), labels.join(", "), metric.help);
    }
    expect_file!["../../../../docs/metrics.md"].assert_eq(&document);
}
