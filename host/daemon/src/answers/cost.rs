//! What an aggregator costs, as the list of plugins says it. Units stand in the names; `/openapi.json` explains them.

use serde_json::{Value, json};

use crate::aggregator::meter::MeterSnapshot;

/// The counts of an aggregator, and what they come to for one event: null before the first one.
pub(super) fn cost(meter: &MeterSnapshot) -> Value {
    let per_event = |amount: f64| (meter.events > 0).then(|| amount / meter.events as f64);
    let mut cost = json!({
        "events": meter.events,
        "apply_seconds": meter.apply_time.as_secs_f64(),
        "instructions": meter.apply_fuel,
        "nanoseconds_per_event": per_event(meter.apply_time.as_nanos() as f64),
        "instructions_per_event": per_event(meter.apply_fuel as f64),
        "budget_share": meter.peak,
        "memory_bytes": meter.memory_bytes(),
        "apply_memory_bytes": meter.apply_memory,
        "total_memory_bytes": meter.total_memory,
        "saved_bytes": meter.state_bytes,
    });
    for (work, times) in meter.works() {
        cost[work] = json!({
            "count": times.count,
            "seconds": times.total.as_secs_f64(),
            "last_seconds": times.last.as_secs_f64(),
        });
    }
    cost
}
