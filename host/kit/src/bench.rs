//! What an aggregator costs in the daemon's engine, on one core: time and compute per event, memory, saved bytes; and what follows
//! for a daemon. Reads clocks: it measures.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use tally_event::batch::Batch;
use tally_event::table::Question;

use crate::random::{Random, Vocabulary};
use crate::subject::{Subject, batch, joined, rejected};

/// Rows of a batch, about what a busy daemon gives.
const BATCH: usize = 4096;

/// Events that are generated where none are given.
const GENERATED: usize = 100_000;

/// Different texts per field of generated events, beside those of the samples.
const TEXTS: usize = 10_000;

/// What was measured. Times are the best of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Events of a round.
    pub events: usize,
    /// Of them, those that the aggregator counted.
    pub applied: usize,
    /// Rounds, each with an empty accumulator.
    pub rounds: usize,
    /// Nanoseconds in `apply` per event given to it.
    pub apply_ns_per_event: f64,
    /// Units of fuel per event, about one for each WebAssembly instruction.
    pub fuel_per_event: f64,
    /// Nanoseconds per event to read its fields from JSON.
    pub decode_ns_per_event: f64,
    /// Linear memory after a round, in bytes: that of an open delta with all events in it.
    pub memory_bytes: usize,
    /// What is saved after a round, in bytes.
    pub saved_bytes: usize,
    /// Microseconds of a save, of a load, of a merge with as much again, of a full report.
    pub save_us: f64,
    /// See `save_us`.
    pub load_us: f64,
    /// See `save_us`.
    pub merge_us: f64,
    /// See `save_us`.
    pub report_us: f64,
    /// Forecast: events/s that one core applies, decoding aside.
    pub events_per_second_per_core: f64,
    /// Forecast: linear memory in a daemon that had these events between two cuts: open delta, total and window.
    pub daemon_memory_bytes: usize,
    /// Forecast: linear memory that a thousand more events add to an open delta, from the second half of the events. It grows in
    /// steps, so many events say more.
    pub memory_bytes_per_1000_more: f64,
    /// Forecast: saved bytes that a thousand more events add, from the second half of the events.
    pub saved_bytes_per_1000_more: f64,
}

/// Events to measure with: random ones in the manifest's terms, with thousands of texts, none of them odd.
pub fn generated(subject: &Subject, samples: &[String], seed: u64) -> Vec<String> {
    let vocabulary = Vocabulary::large(subject.manifest(), samples, TEXTS);
    let (mut random, mut decoder) = (Random::new(seed), subject.decoder());
    let lines = (0..GENERATED).map(|_| vocabulary.line(&mut random));
    lines.filter(|line| rejected(&mut decoder, line).is_none()).collect()
}

/// Applies the events in batches, again and again for this long but at least twice.
pub fn measure(subject: &Subject, events: &[String], at_least: Duration) -> anyhow::Result<Measured> {
    ensure!(!events.is_empty(), "there is no event to measure with");
    let mut decoder = subject.decoder();
    let chunks: Vec<String> = events.chunks(BATCH).map(|chunk| joined(chunk.iter().map(String::as_str))).collect();
    let mut decode = || {
        let batch = |(index, chunk): (usize, &String)| batch(&mut decoder, chunk, 1 + (index * BATCH) as u64);
        chunks.iter().enumerate().map(batch).collect::<Vec<Batch>>()
    };
    let (batches, first) = timed(&mut decode);
    let (_, second) = timed(&mut decode);
    let given: usize = batches.iter().map(|batch| batch.for_subscriber(0).rows.len()).sum();
    ensure!(
        given > 0,
        "none of the events is given to the aggregator: none is of a type it asks for, with the fields it requires"
    );

    let began = now();
    let mut best = round(subject, &batches)?;
    let mut rounds = 1;
    while rounds < 2 || began.elapsed() < at_least {
        let next = round(subject, &batches)?;
        best.apply = best.apply.min(next.apply);
        rounds += 1;
    }
    let ends = ends(subject, &batches)?;
    let later = batches[half(&batches)..].iter().map(|batch| batch.accepted() as usize).sum::<usize>().max(1);
    let per_1000 = |bytes: usize| bytes as f64 * 1000.0 / later as f64;
    let apply_ns = best.apply.as_nanos() as f64 / given as f64;
    Ok(Measured {
        events: events.len(),
        applied: given - best.refused,
        rounds,
        apply_ns_per_event: apply_ns,
        fuel_per_event: best.fuel as f64 / given as f64,
        decode_ns_per_event: first.min(second).as_nanos() as f64 / events.len() as f64,
        memory_bytes: best.memory,
        saved_bytes: ends.saved,
        save_us: micros(ends.save),
        load_us: micros(ends.load),
        merge_us: micros(ends.merge),
        report_us: micros(ends.report),
        events_per_second_per_core: 1e9 / apply_ns,
        daemon_memory_bytes: best.memory + ends.total_memory,
        memory_bytes_per_1000_more: per_1000(best.memory.saturating_sub(best.memory_at_half)),
        saved_bytes_per_1000_more: per_1000(ends.saved.saturating_sub(ends.saved_at_half)),
    })
}

struct Round {
    apply: Duration,
    fuel: u64,
    refused: usize,
    memory: usize,
    memory_at_half: usize,
}

/// The first batch of the second half.
fn half(batches: &[Batch]) -> usize {
    batches.len() / 2
}

fn round(subject: &Subject, batches: &[Batch]) -> anyhow::Result<Round> {
    let mut instance = subject.configured.instantiate()?;
    let accumulator = instance.create()?;
    let mut round = Round { apply: Duration::ZERO, fuel: 0, refused: 0, memory: 0, memory_at_half: 0 };
    let before = instance.fuel_used();
    for (index, batch) in batches.iter().enumerate() {
        if index == half(batches) {
            round.memory_at_half = instance.memory_bytes();
        }
        let selected = batch.for_subscriber(0);
        let (refusals, time) = timed(|| instance.apply(&accumulator, &selected.rows));
        round.refused += refusals.context("the events cannot be applied")?.len();
        round.apply += time;
    }
    round.fuel = instance.fuel_used() - before;
    round.memory = instance.memory_bytes();
    Ok(round)
}

struct Ends {
    saved: usize,
    saved_at_half: usize,
    /// Linear memory of an instance that was given what was saved as a daemon's total is.
    total_memory: usize,
    save: Duration,
    load: Duration,
    merge: Duration,
    report: Duration,
}

/// What an accumulator costs that holds all events.
fn ends(subject: &Subject, batches: &[Batch]) -> anyhow::Result<Ends> {
    let mut instance = subject.configured.instantiate()?;
    let accumulator = instance.create()?;
    let mut saved_at_half = 0;
    for (index, batch) in batches.iter().enumerate() {
        if index == half(batches) {
            saved_at_half = instance.save(&accumulator)?.len();
        }
        instance.apply(&accumulator, &batch.for_subscriber(0).rows)?;
    }
    let (saved, save) = timed(|| instance.save(&accumulator));
    let saved = saved?;
    let version = &subject.manifest().state_version;
    let (loaded, load) = timed(|| instance.load(version, &saved));
    let loaded = loaded?;
    let (report, report_time) = timed(|| instance.report(&accumulator, &Question::default()));
    report.context("no report")?;
    let (merged, merge) = timed(|| instance.merge(&accumulator, &loaded));
    merged?;
    let total_memory = total_memory(subject, &saved)?;
    Ok(Ends { saved: saved.len(), saved_at_half, total_memory, save, load, merge, report: report_time })
}

/// Linear memory of a daemon's total side after its first flush: the delta is merged into the total, and is the window.
fn total_memory(subject: &Subject, saved: &[u8]) -> anyhow::Result<usize> {
    let mut instance = subject.configured.instantiate()?;
    let total = instance.create()?;
    let window = instance.load(&subject.manifest().state_version, saved)?;
    instance.merge(&total, &window)?;
    for accumulator in [&window, &total] {
        instance.report(accumulator, &Question::default())?;
    }
    Ok(instance.memory_bytes())
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = now();
    let result = f();
    (result, start.elapsed())
}

#[allow(clippy::disallowed_methods, reason = "this measures")]
fn now() -> Instant {
    Instant::now()
}
