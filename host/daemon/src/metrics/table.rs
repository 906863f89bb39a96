//! The names of the metrics of the daemon as a whole, what they mean, and where their values come from.

use super::{Figures, Metric, Samples};

/// One metric.
pub(super) const fn metric(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Figures, &mut Samples<'_>),
) -> Metric {
    Metric { name, labels, help, read }
}

/// Every metric that is not an aggregator's, in the order of the answer.
pub(super) const DAEMON: &[Metric] = &[
    metric("tally_build_info", &["version"], "Always 1; the label says what runs.", |_, to| {
        to.add(&[env!("CARGO_PKG_VERSION")], 1);
    }),
    metric("tally_ready", &[], "1 while events are accepted, otherwise 0.", |all, to| {
        to.add(&[], u8::from(all.is_ready));
    }),
    metric("tally_uptime_seconds", &[], "Time since the daemon started.", |all, to| {
        to.add(&[], all.uptime.as_secs_f64());
    }),
    // The queue.
    metric("tally_queue_bytes", &[], "Memory held by chunks between their read and their durable frame.", |all, to| {
        to.add(&[], all.depth.bytes);
    }),
    metric(
        "tally_queue_capacity_bytes",
        &[],
        "Most that chunks may hold; sources are not read beyond it.",
        |all, to| {
            to.add(&[], all.depth.max_bytes);
        },
    ),
    metric("tally_queue_events", &[], "Lines that wait in the queue, blank ones included.", |all, to| {
        to.add(&[], all.depth.lines);
    }),
    // Sources.
    metric("tally_source_connections", &["source"], "Open connections of a source.", |all, to| {
        to.sources(all, |counts| counts.connections);
    }),
    metric("tally_source_connections_accepted_total", &["source"], "Connections that a source accepted.", |all, to| {
        to.sources(all, |counts| counts.accepted);
    }),
    metric(
        "tally_source_connections_refused_total",
        &["source"],
        "Connections that a source refused, as many being open as may be.",
        |all, to| to.sources(all, |counts| counts.refused),
    ),
    metric(
        "tally_source_connections_ended_total",
        &["source", "reason"],
        "Connections of a source that ended, by reason.",
        |all, to| {
            for (source, counts) in &all.sources {
                counts.ended.iter().for_each(|(reason, count)| to.add(&[source, reason], count));
            }
        },
    ),
    metric("tally_source_read_bytes_total", &["source"], "Bytes that a source read.", |all, to| {
        to.sources(all, |counts| counts.bytes_read);
    }),
    metric(
        "tally_source_lines_total",
        &["source"],
        "Lines that a source put into the queue, blank ones included.",
        |all, to| to.sources(all, |counts| counts.lines),
    ),
    metric(
        "tally_source_queue_waits_total",
        &["source"],
        "How often a source waited for room in the queue.",
        |all, to| to.sources(all, |counts| counts.queue_waits),
    ),
    metric("tally_source_datagrams_total", &["source"], "Datagrams that a source received.", |all, to| {
        to.sources(all, |source| source.datagrams);
    }),
    metric(
        "tally_source_unfinished_lines_total",
        &["source"],
        "Lines without an end when their connection ended, not taken.",
        |all, to| to.sources(all, |source| source.unfinished_lines),
    ),
    metric(
        "tally_source_unqueued_lines_total",
        &["source"],
        "Whole lines read and not queued: their producer sends them again, their client was not let in, or the grace period was over.",
        |all, to| to.sources(all, |source| source.unqueued_lines),
    ),
    metric(
        "tally_source_unread_answers_total",
        &["source"],
        "Connections closed while answers were left that the client did not read.",
        |all, to| to.sources(all, |source| source.unread_answers),
    ),
    metric(
        "tally_source_turned_away_requests_total",
        &["source"],
        "Requests answered 429 for want of room.",
        |all, to| to.sources(all, |source| source.turned_away),
    ),
    metric(
        "tally_source_accept_errors_total",
        &["source"],
        "Failed attempts to accept a connection or to read a datagram.",
        |all, to| to.sources(all, |source| source.accept_errors),
    ),
    metric(
        "tally_source_dropped_lines_total",
        &["source"],
        "Lines of datagrams dropped because the queue was full.",
        |all, to| to.sources(all, |source| source.dropped_lines),
    ),
    metric(
        "tally_udp_kernel_dropped_datagrams_total",
        &[],
        "Datagrams that the kernel dropped because they were not read in time.",
        |all, to| {
            if let Some(drops) = all.kernel_drops {
                to.add(&[], drops);
            }
        },
    ),
    // Doors that speak HTTP.
    metric("tally_door_connections", &["door"], "Open connections of an HTTP door.", |all, to| {
        to.doors(all, |counts| counts.connections);
    }),
    metric("tally_door_connections_accepted_total", &["door"], "Connections that an HTTP door accepted.", |all, to| {
        to.doors(all, |counts| counts.accepted);
    }),
    metric("tally_door_requests_total", &["door"], "Requests that an HTTP door took.", |all, to| {
        to.doors(all, |counts| counts.requests);
    }),
    metric(
        "tally_door_answers_total",
        &["door", "status"],
        "Requests that an HTTP door answered, by status code.",
        |all, to| {
            for (door, counts) in &all.doors {
                counts.answers.iter().for_each(|(status, count)| to.add(&[door, &status.to_string()], count));
            }
        },
    ),
    metric(
        "tally_door_accept_errors_total",
        &["door"],
        "Failed attempts of an HTTP door to accept a connection.",
        |all, to| {
            to.doors(all, |counts| counts.accept_errors);
        },
    ),
    metric(
        "tally_door_panicked_connections_total",
        &["door"],
        "Connections of an HTTP door that ended by a bug.",
        |all, to| {
            to.doors(all, |counts| counts.panicked);
        },
    ),
    metric("tally_door_read_bytes_total", &["door"], "Bytes that an HTTP door read.", |all, to| {
        to.doors(all, |counts| counts.bytes_read);
    }),
    metric(
        "tally_door_refused_total",
        &["door", "reason"],
        "Connections and requests that an HTTP door refused or cut off, by reason.",
        |all, to| {
            for (door, counts) in &all.doors {
                to.add(&[door, "too_many_connections"], counts.too_many);
                to.add(&[door, "peer_not_allowed"], counts.not_allowed);
                to.add(&[door, "tls_failed"], counts.tls_failed);
                to.add(&[door, "header_timeout"], counts.header_timeouts);
                to.add(&[door, "idle_timeout"], counts.idle_timeouts);
                to.add(&[door, "malformed_request"], counts.malformed_requests);
                to.add(&[door, "head_too_large"], counts.large_heads);
                to.add(&[door, "unfinished_request"], counts.unfinished_requests);
                to.add(&[door, "connection_broken"], counts.broken_connections);
                to.add(&[door, "unauthorized"], counts.unauthorized);
                to.add(&[door, "wrong_host"], counts.wrong_hosts);
            }
        },
    ),
    // Events.
    metric(
        "tally_events_received_total",
        &[],
        "Events received since the log began: lines that are not blank.",
        |all, to| to.add(&[], all.published.counts.received),
    ),
    metric(
        "tally_events_accepted_total",
        &[],
        "Events accepted since the log began: they have a sequence number.",
        |all, to| to.add(&[], all.published.counts.accepted),
    ),
    metric("tally_events_rejected_total", &["reason"], "Events rejected since the log began, by reason.", |all, to| {
        to.reasons(&all.published.counts.rejected)
    }),
    metric("tally_events_duplicate_total", &[], "Events seen before, since the log began.", |all, to| {
        to.add(&[], all.published.counts.duplicate);
    }),
    metric(
        "tally_events_dropped_total",
        &["reason"],
        "Events given up for want of room since the log began, by reason.",
        |all, to| to.reasons(&all.published.counts.dropped),
    ),
    metric("tally_rejected_lines_kept_total", &[], "Rejected lines written to their files.", |all, to| {
        to.add(&[], all.published.rejected_lines.written);
    }),
    metric("tally_rejected_lines_left_out_total", &[], "Rejected lines counted but not kept.", |all, to| {
        to.add(&[], all.published.rejected_lines.left_out);
    }),
    // The log.
    metric("tally_log_last_sequence", &[], "Sequence number of the last durable event.", |all, to| {
        to.add(&[], all.published.last_sequence);
    }),
    metric("tally_log_frames_total", &[], "Frames written since the log began.", |all, to| {
        to.add(&[], all.published.frame);
    }),
    metric("tally_log_segments", &[], "Segment files of the log.", |all, to| {
        to.add(&[], all.published.segments);
    }),
    metric("tally_log_bytes", &[], "Bytes of the log's segments.", |all, to| {
        to.add(&[], all.published.log_bytes);
    }),
    metric("tally_log_tail_bytes", &[], "Memory held by recent frames for those who follow the log.", |all, to| {
        to.add(&[], all.tail_bytes);
    }),
    // Flushes and their records.
    metric("tally_cuts_total", &[], "Cuts taken since the log began.", |all, to| {
        to.add(&[], all.published.cut);
    }),
    metric("tally_flushes_total", &["reason"], "Flushes decided since the daemon started, by reason.", |all, to| {
        to.reasons(&all.published.flushes);
    }),
    metric("tally_flush_open_events", &[], "Accepted events that the next flush will cover.", |all, to| {
        to.add(&[], all.published.open_events);
    }),
    metric(
        "tally_flush_lag_seconds",
        &[],
        "How long the last flush took from its cut to its durable record.",
        |all, to| {
            if let Some(lag) = all.flush_lag {
                to.add(&[], lag.as_secs_f64());
            }
        },
    ),
    metric("tally_analytics_records_total", &[], "Analytics records written since the daemon started.", |all, to| {
        to.add(&[], all.records_written);
    }),
    metric("tally_analytics_behind_cuts", &[], "Cuts that the record writer has still to look at.", |all, to| {
        to.add(&[], all.records_behind);
    }),
    metric("tally_analytics_files", &[], "Number of the newest analytics file.", |all, to| {
        to.add(&[], all.records_files);
    }),
];
