//! Where the daemon stands, for people and for metrics. Only looks; takes each lock once, for a copy.

use serde_json::{Map, Value, json};

use super::Answers;
use crate::metrics::{AggregatorFigures, Figures};
use crate::records::rfc3339;

impl Answers {
    pub(super) fn whole_status(&self) -> Value {
        let context = &self.context;
        let published = context.published();
        let depth = context.queue.depth();
        let facts = context.progress.facts();
        let aggregators: Map<String, Value> = facts
            .saved
            .iter()
            .map(|(name, meta)| {
                let quarantined = facts.quarantined.get(name);
                let meter = facts.meters.get(name).map(|meter| meter.snapshot()).unwrap_or_default();
                // Of one that never ran in this life, only what it saved is known.
                let applied = meter.applied_sequence.max(meta.last_sequence);
                let value = json!({
                    "cut": meta.cut,
                    "sequence": meta.last_sequence,
                    "lag": published.last_sequence.saturating_sub(meta.last_sequence),
                    "behind": published.last_sequence.saturating_sub(applied),
                    "replaying": meter.replays,
                    "watermark": meta.watermark.map(rfc3339),
                    "age_seconds": self.age(meta, &published).as_millis() as f64 / 1000.0,
                    "complete": meta.complete && quarantined.is_none(),
                    "quarantined": quarantined.map(|(_, reason)| reason),
                    "strikes": facts.skips.get(name).map_or(0, |skips| skips.strikes),
                    "chain": meta.chain,
                    "ledger": meta.ledger,
                    "memory_bytes": meter.memory_bytes(),
                    "state_bytes": meter.state_bytes,
                    "apply_seconds": meter.apply_time.as_secs_f64(),
                });
                (name.clone(), value)
            })
            .collect();
        let sources = self.sources();
        let connections = |kind: &str| sources.values().filter_map(|source| source[kind].as_u64()).sum::<u64>();
        let not_ready = facts.not_ready();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": not_ready.is_none(),
            "not_ready": not_ready,
            "uptime_seconds": context.clock.elapsed().as_secs(),
            "sequence": published.last_sequence,
            "frame": published.frame,
            "cut": published.cut,
            "cut_sequence": published.cut_sequence,
            "batch_id": published.batch_id,
            "flush_count": published.batch_id,
            "records_written": facts.records_written,
            "records_behind": published.cut.saturating_sub(facts.records_cut),
            "open_events": published.open_events,
            "flush_lag_seconds": facts.flush_lag.map(|lag| lag.as_secs_f64()),
            "ledger": published.counts,
            "queue": {
                "bytes": depth.bytes,
                "chunks": depth.chunks,
                "lines": depth.lines,
                "max_bytes": depth.max_bytes,
            },
            "log": { "segments": published.segments, "bytes": published.log_bytes, "tail_bytes": context.tail.bytes() },
            "connections": {
                "now": connections("connections"),
                "total": connections("total"),
                "refused": connections("refused"),
            },
            "sources": sources,
            "aggregators": aggregators,
        })
    }

    /// What each source counts, by its name.
    fn sources(&self) -> Map<String, Value> {
        let sources = self.counters.of_sources().into_iter().map(|(name, counts)| {
            let mut source = json!({
                "connections": counts.connections,
                "total": counts.accepted,
                "refused": counts.refused,
                "lines": counts.lines,
                "bytes": counts.bytes_read,
            });
            if name == "udp" {
                source["datagrams"] = json!(counts.datagrams);
                source["dropped_lines"] = json!(counts.dropped_lines);
                source["kernel_dropped_datagrams"] = json!(self.counters.kernel_drops.and_then(|drops| drops.read()));
            }
            (name.to_owned(), source)
        });
        sources.collect()
    }

    pub(super) fn list_of_aggregators(&self) -> Value {
        let published = self.context.published();
        let facts = self.context.progress.facts();
        let list: Vec<Value> = facts
            .saved
            .iter()
            .map(|(name, meta)| {
                let quarantined = facts.quarantined.get(name);
                json!({
                    "name": name,
                    "plugin": meta.attached.plugin,
                    "version": meta.attached.version,
                    "sequence": meta.last_sequence,
                    "watermark": meta.watermark.map(rfc3339),
                    "age_seconds": self.age(meta, &published).as_millis() as f64 / 1000.0,
                    "complete": meta.complete && quarantined.is_none(),
                    "quarantined": quarantined.map(|(_, reason)| reason),
                })
            })
            .collect();
        json!({ "aggregators": list })
    }

    /// Everything that metrics show.
    pub(super) fn figures(&self) -> Figures {
        let context = &self.context;
        let published = context.published();
        let depth = context.queue.depth();
        let facts = context.progress.facts();
        let aggregators = facts
            .saved
            .iter()
            .map(|(name, meta)| AggregatorFigures {
                name: name.clone(),
                plugin: meta.attached.plugin.clone(),
                version: meta.attached.version.clone(),
                last_sequence: meta.last_sequence,
                age: self.age(meta, &published),
                ledger: meta.ledger.clone(),
                watermark: meta.watermark,
                is_complete: meta.complete && !facts.quarantined.contains_key(name),
                strikes: facts.skips.get(name).map_or(0, |skips| skips.strikes),
                is_quarantined: facts.quarantined.contains_key(name),
                meter: facts.meters.get(name).map(|meter| meter.snapshot()).unwrap_or_default(),
            })
            .collect();
        Figures {
            uptime: context.clock.elapsed(),
            is_ready: facts.not_ready().is_none(),
            depth,
            tail_bytes: context.tail.bytes() as u64,
            sources: self.counters.of_sources(),
            doors: self.counters.http.iter().map(|(name, counters)| (*name, counters.snapshot())).collect(),
            kernel_drops: self.counters.kernel_drops.and_then(|drops| drops.read()),
            aggregators,
            records_written: facts.records_written,
            records_behind: published.cut.saturating_sub(facts.records_cut),
            records_files: facts.records_end.map_or(0, |end| end.file),
            flush_lag: facts.flush_lag,
            published,
        }
    }
}
