//! The metrics of aggregators: how far each is, what it counted, what it costs.

use std::fmt::Display;

use super::table::metric;
use super::{AggregatorFigures, Figures, Metric, Samples};
use crate::aggregator::meter::Times;

/// Every metric with a label `aggregator`, in the order of the answer.
pub(super) const AGGREGATORS: &[Metric] = &[
    metric(
        "tally_aggregator_info",
        &["aggregator", "plugin", "version"],
        "Always 1; the labels say what runs.",
        |all, to| all.aggregators.iter().for_each(|one| to.add(&[&one.name, &one.plugin, &one.version], 1)),
    ),
    metric(
        "tally_aggregator_applied_rows_total",
        &["aggregator"],
        "Events in the saved state, applied since the aggregator was attached.",
        |all, to| to.aggregators(all, |one| one.ledger.applied),
    ),
    metric(
        "tally_aggregator_refused_rows_total",
        &["aggregator", "reason"],
        "Events refused for this aggregator alone, by reason.",
        |all, to| {
            for one in &all.aggregators {
                one.ledger.refused.iter().for_each(|(reason, count)| to.add(&[&one.name, reason], count));
            }
        },
    ),
    metric(
        "tally_aggregator_not_subscribed_rows_total",
        &["aggregator"],
        "Events of types that the aggregator does not subscribe to.",
        |all, to| to.aggregators(all, |one| one.ledger.not_subscribed),
    ),
    metric(
        "tally_aggregator_lag_events",
        &["aggregator"],
        "Accepted events that the aggregator has not looked at yet.",
        |all, to| {
            for one in &all.aggregators {
                to.add(
                    &[&one.name],
                    all.published.last_sequence.saturating_sub(one.meter.applied_sequence.max(one.last_sequence)),
                );
            }
        },
    ),
    metric(
        "tally_aggregator_unsaved_events",
        &["aggregator"],
        "Accepted events that are not in the aggregator's saved state yet.",
        |all, to| {
            for one in &all.aggregators {
                to.add(&[&one.name], all.published.last_sequence.saturating_sub(one.last_sequence));
            }
        },
    ),
    metric(
        "tally_aggregator_replaying",
        &["aggregator"],
        "1 while the aggregator reads events from the log on disk, otherwise 0.",
        |all, to| to.aggregators(all, |one| u8::from(one.meter.replays)),
    ),
    metric(
        "tally_aggregator_age_seconds",
        &["aggregator"],
        "Age of the saved state: 0 when every accepted event is in it, otherwise the time since its cut.",
        |all, to| to.aggregators(all, |one| one.age.as_secs_f64()),
    ),
    metric(
        "tally_aggregator_watermark_timestamp_seconds",
        &["aggregator"],
        "Greatest event time in the saved state, since the Unix epoch.",
        |all, to| {
            for one in &all.aggregators {
                one.watermark.iter().for_each(|micros| to.add(&[&one.name], *micros as f64 / 1e6));
            }
        },
    ),
    metric(
        "tally_aggregator_apply_seconds_total",
        &["aggregator"],
        "Time spent applying events since the daemon started.",
        |all, to| to.aggregators(all, |one| one.meter.apply_time.as_secs_f64()),
    ),
    metric(
        "tally_aggregator_given_rows_total",
        &["aggregator"],
        "Events given to the plugin since the daemon started, again where a call was tried again.",
        |all, to| to.aggregators(all, |one| one.meter.events),
    ),
    metric(
        "tally_aggregator_instructions_total",
        &["aggregator"],
        "Fuel used for them, about one unit for each WebAssembly instruction or byte moved in bulk.",
        |all, to| to.aggregators(all, |one| one.meter.apply_fuel),
    ),
    metric(
        "tally_aggregator_budget_ratio",
        &["aggregator"],
        "Largest share of its compute budget that one call of the version that runs has used, from 0 to 1.",
        |all, to| to.aggregators(all, |one| one.meter.peak),
    ),
    metric(
        "tally_aggregator_work_total",
        &["aggregator", "work"],
        "How often, beside applying, an aggregator did some work since the daemon started: cut (save the open delta), commit (take that in until it is durable), merge and report (parts of commit), question.",
        |all, to| to.works(all, |times| times.count),
    ),
    metric(
        "tally_aggregator_work_seconds_total",
        &["aggregator", "work"],
        "Time spent on that work since the daemon started.",
        |all, to| to.works(all, |times| times.total.as_secs_f64()),
    ),
    metric(
        "tally_aggregator_work_last_seconds",
        &["aggregator", "work"],
        "How long that work took the last time.",
        |all, to| to.works(all, |times| times.last.as_secs_f64()),
    ),
    metric(
        "tally_aggregator_memory_bytes",
        &["aggregator"],
        "Linear memory of all the aggregator's instances.",
        |all, to| to.aggregators(all, |one| one.meter.memory_bytes()),
    ),
    metric(
        "tally_aggregator_apply_memory_bytes",
        &["aggregator"],
        "Of it, that of the instances that hold the open delta; the rest holds the total.",
        |all, to| to.aggregators(all, |one| one.meter.apply_memory),
    ),
    metric("tally_aggregator_state_bytes", &["aggregator"], "Bytes of the aggregator's saved state.", |all, to| {
        to.aggregators(all, |one| one.meter.state_bytes);
    }),
    metric(
        "tally_aggregator_complete",
        &["aggregator"],
        "1 while every event went into the state, otherwise 0.",
        |all, to| to.aggregators(all, |one| u8::from(one.is_complete)),
    ),
    metric(
        "tally_aggregator_skipped_total",
        &["aggregator"],
        "Events that the aggregator failed on and is spared, in the saved state, since it was attached.",
        |all, to| to.aggregators(all, |one| one.ledger.skipped),
    ),
    metric(
        "tally_aggregator_strikes",
        &["aggregator"],
        "Events skipped since the aggregator was attached, resumed or got another plugin; plugin.strikes bounds them.",
        |all, to| to.aggregators(all, |one| one.strikes),
    ),
    metric("tally_aggregator_quarantined", &["aggregator"], "1 in quarantine, otherwise 0.", |all, to| {
        to.aggregators(all, |one| u8::from(one.is_quarantined));
    }),
];

impl Samples<'_> {
    fn aggregators<V: Display>(&mut self, figures: &Figures, value: fn(&AggregatorFigures) -> V) {
        figures.aggregators.iter().for_each(|one| self.add(&[&one.name], value(one)));
    }

    fn works<V: Display>(&mut self, figures: &Figures, value: fn(&Times) -> V) {
        for one in &figures.aggregators {
            one.meter.works().iter().for_each(|(work, times)| self.add(&[&one.name, work], value(times)));
        }
    }
}
