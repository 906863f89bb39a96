//! Rebuilds everything from log and stored plugins into a scratch store and compares it with what the daemon left: chains,
//! ledgers and records of every flush, then chains and totals of every aggregator. Reads only.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use tally_aggregate::{Attached, Control, Line};
use tally_event::plan::Subscriber;
use tally_event::schema::Preset;
use tally_plugin::{CallError, Engine};
use tally_sink::{Record, read_records_until};
use tally_state::{Commit, RunInfo, Store};
use tally_storage::{RealStorage, Storage};
use tally_wal::Reader;

use crate::aggregator::{Apply, Care, Failure, Meta, Pinned, Total, line, presets};
use crate::feed::{Feed, Step};
use crate::plugins::{Compiled, Registry};
use crate::records::{self, Cursor};
use crate::{DECODER_VERSION, LOG_FOLDER};

mod history;

use history::{History, Past, Stretch};

/// What `tally verify` is told.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The data directory of a daemon that is not running.
    pub data_dir: PathBuf,
    /// Rows given to a plugin in one call; any number gives the same results. `None`: 16,384.
    pub batch_rows: Option<usize>,
}

/// What `tally verify` found equal.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Frames of the log that were read.
    pub frames: u64,
    /// Events that were replayed.
    pub events: u64,
    /// Cuts that were replayed, over all aggregators.
    pub cuts: u64,
    /// Records that were rebuilt and compared.
    pub records: u64,
    /// Records that are there and were not compared: they are from before the anchor at which the replay begins.
    pub records_not_compared: u64,
    /// Aggregators whose chain and total were compared.
    pub aggregators: BTreeMap<String, String>,
    /// Aggregators that could not be compared, and why: the log has let go of what they began with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_compared: BTreeMap<String, String>,
}

/// Everything an aggregator's replay needs.
struct Scratch<S: Storage> {
    batch_rows: usize,
    data: S,
    registry: Registry<S>,
    reader: Reader<S>,
    /// What the daemon saved.
    saved: Store,
    /// What is rebuilt.
    rebuilt: Arc<Store>,
    history: History,
    /// Records up to this cut cannot be rebuilt: the log before an anchor is gone.
    compare_after: u64,
    /// The cuts for which parts of records cannot be rebuilt, by aggregator: what the lines began with that it was on is gone.
    out_of_reach: Vec<(String, RangeInclusive<u64>)>,
}

/// Verifies a data directory.
pub fn verify(options: &VerifyOptions) -> anyhow::Result<VerifyReport> {
    let data = RealStorage::read_only(&options.data_dir).context("opening the data directory")?;
    verify_on(data, &replay_engine()?, Compiled::default(), options.batch_rows)
}

/// An engine for replays. What a plugin may use is not part of its results: bounds that never bite while what the log holds is replayed.
pub fn replay_engine() -> anyhow::Result<Engine> {
    let limits = tally_plugin::Limits {
        memory_bytes: 2 << 30,
        fuel_base: u64::MAX >> 8,
        backstop: std::time::Duration::from_secs(600),
        ..tally_plugin::Limits::default()
    };
    Ok(Engine::new(limits, None)?)
}

/// Verifies what is on a storage, with the plugins that are compiled already and those that are stored there.
pub fn verify_on<S: Storage>(
    data: S,
    engine: &Engine,
    compiled: Compiled,
    batch_rows: Option<usize>,
) -> anyhow::Result<VerifyReport> {
    let storage = data.folder(LOG_FOLDER).context("opening the log")?;
    let reader = Reader::open_read_only(storage).context("opening the log")?;
    let mut saved = Store::open_read_only(&data)?;
    saved.check()?;
    let mut report = VerifyReport::default();
    let history = History::read(&mut reader.clone(), &mut report)?;
    ensure!(
        history.control.engine.is_empty() || history.control.engine == engine.fingerprint(),
        "the log was written with engine {}, this is {}: verify with the version that wrote it",
        history.control.engine,
        engine.fingerprint()
    );
    ensure!(
        history.control.decoder <= DECODER_VERSION,
        "the log was written by decoder version {}, this is {DECODER_VERSION}: verify with the version that wrote it",
        history.control.decoder
    );
    let mut scratch = Scratch {
        registry: Registry::new(engine.clone(), data.clone(), compiled),
        data,
        batch_rows: batch_rows.unwrap_or(16384),
        reader,
        saved,
        rebuilt: Arc::new(Store::open_in_memory()?),
        history,
        compare_after: 0,
        out_of_reach: Vec::new(),
    };
    for name in line::aggregators(&scratch.saved)? {
        if let Some(reason) = scratch.is_beyond_the_log(&name).with_context(|| format!("aggregator {name}"))? {
            report.not_compared.insert(name, reason);
            continue;
        }
        let chain = scratch.aggregator(&name, &mut report).with_context(|| format!("aggregator {name}"))?;
        report.aggregators.insert(name, chain);
    }
    scratch.records(&mut report)?;
    Ok(report)
}

impl<S: Storage> Scratch<S> {
    /// Why an aggregator cannot be replayed: the log keeps what those need that are attached, and this one was not for a while.
    fn is_beyond_the_log(&self, name: &str) -> anyhow::Result<Option<String>> {
        let saved = self.saved.load(name)?.context("its state vanished while it was read")?;
        let meta = Meta::from_bytes(name, &saved.meta)?;
        if meta.is_forgotten && self.history.truncated {
            return Ok(Some("its state was forgotten, and the log that it began with is gone".to_owned()));
        }
        let Control { plan, quarantined, .. } = &self.history.control;
        let attached = plan.aggregators.get(name);
        let (reason, left_out_since) = match attached {
            None => (format!("it was paused behind event {}", meta.last_sequence), 0),
            Some(_) if quarantined.contains_key(name) => ("it is in quarantine".to_owned(), 0),
            Some(attached) => ("it was attached anew, and no anchor was made since".to_owned(), attached.attached_at),
        };
        let stretches = self.history.attachments(name)?;
        let first = stretches.iter().find(|stretch| stretch.attached.line == meta.attached.line);
        let begins = match &meta.pinned {
            Some(pinned) if pinned.meta.cut < left_out_since || left_out_since == 0 => pinned.meta.frame,
            None if !first.is_some_and(|first| self.history.begins_anew(first)) => 0,
            _ => return Ok(None),
        };
        let is_there = !self.history.truncated || begins >= self.reader.first_frame();
        Ok((!is_there).then(|| format!("{reason}, and the log that it began with is gone")))
    }

    /// Replays one aggregator and compares its chain, ledger, watermark and total with what is saved.
    fn aggregator(&mut self, name: &str, report: &mut VerifyReport) -> anyhow::Result<String> {
        let saved = self.saved.load(name)?.context("its state vanished while it was read")?;
        let meta = Meta::from_bytes(name, &saved.meta)?;
        let mut past = Past { name, stretches: self.history.attachments(name)?, pinned: None };
        if let (true, Some(pinned)) = (self.history.truncated, &meta.pinned) {
            self.load_pinned(name, pinned, &saved.runs)?;
            past.begin_at(pinned, &saved.runs, self.history.presets_at(pinned.meta.cut)?);
        }
        ensure!(!past.stretches.is_empty(), "the log does not say when it was attached");
        let opened_with = self.history.opening.plan.aggregators.get(name);
        let is_left_out = |attached: &&Attached| past.on(attached.line).next().is_none();
        if let Some(attached) = opened_with.filter(is_left_out) {
            self.out_of_reach.push((name.to_owned(), 0..=self.history.end_of(name, attached.attached_at)));
        }
        if let [only] = &past.stretches[..]
            && only.meta.cut == meta.cut
            && saved.runs.is_empty()
        {
            // It never got anywhere, and may not even start.
            self.compare(&only.meta, &meta)?;
            return Ok(meta.chain.to_string());
        }
        let mut lines = past.lines();
        // What began behind it has not been taken over, and has saved nothing.
        let last = lines.iter().rposition(|(line, _)| *line == meta.attached.line);
        lines.truncate(last.map_or(lines.len(), |last| last + 1));
        for (line, attached_at) in lines {
            if line == meta.attached.line {
                self.line(&past, line, meta.cut, report)?;
                continue;
            }
            let until = self.history.end_of(name, attached_at);
            match self.is_within_reach(&past, line) {
                true => self.line(&past, line, until, report)?,
                false => self.out_of_reach.push((name.to_owned(), line.since..=until)),
            }
        }
        let rebuilt = self.rebuilt.load(name)?.context("nothing was replayed")?;
        let mut got = Meta::from_bytes(name, &rebuilt.meta)?;
        self.compare(&got, &meta)?;
        // Another version may have taken over right behind the last saved cut, where the replay ends.
        got.attach(&meta.attached, &rebuilt.runs);
        if meta.is_forgotten {
            return Ok(format!("{}, its total was forgotten", got.chain));
        }
        if saved.runs.is_empty() && rebuilt.runs.is_empty() {
            return Ok(got.chain.to_string());
        }
        let stored = self.merged(&self.saved, name, &meta, &saved.runs);
        let equal = stored.and_then(|stored| Ok(stored == self.merged(&self.rebuilt, name, &got, &rebuilt.runs)?));
        match equal {
            Ok(equal) => {
                ensure!(equal, "the saved runs merge to another total than the log gives at cut {}", meta.cut);
                Ok(got.chain.to_string())
            }
            // Its deltas are as the log gives them. That it cannot make a total of them is why it is in quarantine, or will be.
            Err(error) if error.chain().any(|cause| cause.is::<CallError>()) => {
                Ok(format!("{}, its total is out of reach: {error:#}", got.chain))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the log, or what is pinned, has what a line began with.
    fn is_within_reach(&self, past: &Past<'_>, line: Line) -> bool {
        if past.pinned.as_ref().is_some_and(|(pinned, _)| pinned.meta.attached.line == line) {
            return true;
        }
        let Some(first) = past.on(line).next() else { return false };
        match line.from.map(|from| past.line_since(from)) {
            None => !self.history.truncated || self.history.begins_anew(first),
            Some(from) => from.is_some_and(|from| self.is_within_reach(past, from)),
        }
    }

    /// Rebuilds a line up to a cut, from what it began with; only the parts of records stay of what was rebuilt before.
    fn line(&mut self, past: &Past<'_>, line: Line, until: u64, report: &mut VerifyReport) -> anyhow::Result<()> {
        let stretches: Vec<Stretch> = past.on(line).cloned().collect();
        let first = stretches.first().context("the log does not say when a line of it began")?;
        match (&past.pinned, line.from) {
            (Some((pinned, runs)), _) if pinned.meta.attached.line == line => {
                self.rebuilt.remove(past.name)?;
                self.load_pinned(past.name, pinned, runs)?;
            }
            (_, Some(from)) => {
                let from = past.line_since(from).context("the log does not have the line that a line began with")?;
                self.line(past, from, first.attached.applies_after, report)?;
            }
            (_, None) => {
                self.rebuilt.remove(past.name)?;
            }
        }
        // Whoever was attached anew behind a quarantine begins where it stopped, before the cut at which that was decided.
        let next = stretches.iter().skip(1).map(|next| next.meta.cut.min(until)).chain([until]);
        let untils: Vec<u64> = next.collect();
        for (Stretch { meta: start, attached, presets }, until) in stretches.into_iter().zip(untils) {
            let stands = match self.rebuilt.load(past.name)? {
                Some(rebuilt) => Meta::from_bytes(past.name, &rebuilt.meta)?.cut,
                None => {
                    self.rebuilt.commit(&Commit { meta: &start.to_bytes(), ..nothing_of(past.name) })?;
                    start.cut
                }
            };
            if stands < until {
                let begins = start.cut;
                ensure!(
                    stands == begins,
                    "it was attached anew behind cut {begins}, but the replay stands at cut {stands}"
                );
                self.replay(past.name, start, attached, presets, until, report)?;
            }
        }
        Ok(())
    }

    /// What the log gives against what is saved.
    fn compare(&self, got: &Meta, meta: &Meta) -> anyhow::Result<()> {
        ensure!(got.cut == meta.cut, "the log ends at cut {} but cut {} is saved", got.cut, meta.cut);
        ensure!(
            got.chain == meta.chain,
            "the chain at cut {} is {} by the log and {} in the state store",
            meta.cut,
            got.chain,
            meta.chain
        );
        ensure!(
            got.ledger == meta.ledger,
            "the ledger at cut {} is {:?} by the log and {:?} in the state store",
            meta.cut,
            got.ledger,
            meta.ledger
        );
        ensure!(got.watermark == meta.watermark, "the watermark at cut {} differs", meta.cut);
        Ok(())
    }

    /// Begins at an anchor, since the log before it is gone: the pinned total is checked against the log's word for it.
    fn load_pinned(&mut self, name: &str, pinned: &Pinned, runs: &[RunInfo]) -> anyhow::Result<()> {
        let cut = pinned.meta.cut;
        if let Some(anchor) = self.history.control.anchor.as_ref().filter(|anchor| anchor.cut == cut) {
            let logged = anchor.totals.get(name);
            ensure!(
                logged == Some(&(pinned.meta.chain, pinned.hash.clone())),
                "the anchor at cut {cut} is another in the state store than in the log"
            );
        }
        let base = runs.first().filter(|run| run.last <= cut);
        let bytes = base.map(|run| self.saved.run(name, run)).transpose()?;
        if let Some(bytes) = &bytes {
            let hash = blake3::hash(bytes).to_hex().to_string();
            ensure!(hash == pinned.hash, "the total saved for the anchor at cut {cut} is not the one that was logged");
        }
        let meta = pinned.meta.to_bytes();
        let add: Vec<_> = base.copied().zip(bytes.as_deref()).into_iter().collect();
        self.rebuilt.commit(&Commit { meta: &meta, add: &add, ..nothing_of(name) })?;
        self.compare_after = self.compare_after.max(cut);
        Ok(())
    }

    /// The total as a store's runs merge to it.
    fn merged(&self, store: &Store, name: &str, meta: &Meta, runs: &[RunInfo]) -> anyhow::Result<Vec<u8>> {
        let configured = self.registry.configured(&meta.attached.digest, &meta.attached.settings)?;
        line::merged(&configured, meta, runs.iter().map(|run| Ok((*run, store.run(name, run)?))))
    }

    fn restore(&self, name: &str, attached: &Attached, start: &Meta) -> anyhow::Result<Total> {
        let configured = self.registry.configured(&attached.digest, &attached.settings)?;
        let mut total = Total::restore(name, configured, self.rebuilt.clone(), start.clone())?;
        total.set_attached(attached)?;
        Ok(total)
    }

    /// Applies the log from what is rebuilt up to a cut that the daemon has saved.
    fn replay(
        &self,
        name: &str,
        start: Meta,
        mut attached: Attached,
        presets_then: Vec<Preset>,
        until_cut: u64,
        report: &mut VerifyReport,
    ) -> anyhow::Result<()> {
        let mut total = self.restore(name, &attached, &start)?;
        let configured = total.configured().clone();
        let subscriber = |manifest| Subscriber { name: name.into(), manifest };
        let position = total.meta().position();
        let mut feed =
            Feed::new(None, self.reader.clone(), position, Some(subscriber(configured.manifest.clone())), presets_then);
        let meta = total.meta().clone();
        let rows = self.batch_rows;
        let skips = self.history.skips.get(&(name.to_owned(), attached.attached_at)).cloned().unwrap_or_default();
        let care = Care { skips, alone: Vec::new() };
        // Any number of shards gives the same.
        let mut apply = Apply::start(configured, meta.ledger, meta.watermark, 1, rows, care.clone())?;
        let mut one_by_one = false;
        loop {
            match feed.step()? {
                Step::Nothing | Step::End => return Ok(()),
                Step::Events { batch, subscriber, rows, arrival } => {
                    let Err(failed) = apply.events(&batch, subscriber, rows, arrival) else { continue };
                    ensure!(!one_by_one, failed);
                    // Some fail on several events together, and on none of them alone: the daemon went one by one too.
                    one_by_one = true;
                    let (configured, meta) = (apply.configured().clone(), total.meta().clone());
                    feed.rewind(meta.position());
                    apply = Apply::start(configured, meta.ledger, meta.watermark, 1, 1, care.clone())?;
                }
                Step::Barrier { frame, barrier } => {
                    let delta = apply.cut().with_context(|| format!("cut {}", barrier.cut))?;
                    let merged = match total.cut(frame, &barrier, &delta) {
                        // It is saved; what failed is merging runs, which the daemon tries again at the next flush.
                        Err(Failure::Call(_)) if total.meta().cut == barrier.cut => false,
                        cut => cut.map(|()| true).with_context(|| format!("cut {}", barrier.cut))?,
                    };
                    report.cuts += 1;
                    if let Some(flush) = &barrier.flush {
                        self.compare_part(name, flush.batch_id, barrier.cut)?;
                    }
                    // What it did behind its last saved cut may be why it stopped there.
                    if barrier.cut >= until_cut {
                        return Ok(());
                    }
                    let plan = barrier.plan.as_ref().filter(|_| barrier.cut > attached.attached_at);
                    let next = match plan.map(|plan| plan.aggregators.get(name)) {
                        Some(Some(next)) if next.attached_at == attached.attached_at => next.clone(),
                        Some(_) => return Ok(()),
                        None => attached.clone(),
                    };
                    let mut goes_on = merged;
                    if next != attached {
                        let configured = self.registry.configured(&next.digest, &next.settings)?;
                        apply.swap(configured.clone(), 1)?;
                        goes_on = match total.swap(configured, &next) {
                            Err(Failure::Call(_)) => false,
                            swapped => swapped.map(|()| merged)?,
                        };
                        attached = next;
                    }
                    if !goes_on {
                        // The daemon got beyond it from what is saved: by its retry, or by the next start.
                        total =
                            self.restore(name, &attached, &start).with_context(|| format!("cut {}", barrier.cut))?;
                    }
                    if let Some(plan) = &barrier.plan {
                        let manifest = apply.configured().manifest.clone();
                        feed.become_subscriber(Some(subscriber(manifest)), presets(plan)?);
                    }
                }
            }
        }
    }

    /// A part that still waits for its record is compared here; written ones are compared with the records.
    fn compare_part(&self, name: &str, batch_id: u64, cut: u64) -> anyhow::Result<()> {
        if let (Some(saved), Some(rebuilt)) = (self.saved.pending(cut, name)?, self.rebuilt.pending(cut, name)?) {
            ensure!(saved == rebuilt, "batch {batch_id}: the part that waits for its record differs from the log");
        }
        Ok(())
    }

    fn is_out_of_reach(&self, name: &str, cut: u64, report: &VerifyReport) -> bool {
        let covers = |(out, cuts): &(String, RangeInclusive<u64>)| out == name && cuts.contains(&cut);
        report.not_compared.contains_key(name) || self.out_of_reach.iter().any(covers)
    }

    /// The first batch whose record can be rebuilt.
    fn first_compared(&self) -> u64 {
        let Self { history, compare_after, .. } = self;
        let before_log = if history.truncated { history.opening.batch_id } else { 0 };
        let before_anchor = history.barriers.iter().filter(|(_, barrier)| barrier.cut <= *compare_after);
        let last = before_anchor.filter_map(|(_, barrier)| Some(barrier.flush.as_ref()?.batch_id)).max();
        1 + last.unwrap_or(0).max(before_log)
    }

    /// Renders every record anew and compares it with the files, byte for byte.
    fn records(&self, report: &mut VerifyReport) -> anyhow::Result<()> {
        let cursor = Cursor::load(&self.saved)?;
        let Some(end) = cursor.files else { return Ok(()) };
        let mut written = read_records_until(&self.data, end)?.peekable();
        let first = self.first_compared();
        let is_beyond = |record: &Result<Record, _>| matches!(record, Ok(record) if record.value["batch_id"].as_u64().is_some_and(|batch| batch < first));
        while written.next_if(is_beyond).is_some() {
            report.records_not_compared += 1;
        }
        for (_, barrier) in &self.history.barriers {
            let Some(flush) = &barrier.flush else { continue };
            if barrier.cut > cursor.log.cut {
                break;
            }
            let batch = flush.batch_id;
            if batch < first {
                continue;
            }
            let record = written
                .next()
                .with_context(|| format!("batch {batch}: its record is missing in the analytics files"))??;
            let mut parts = BTreeMap::new();
            let mut quarantined = flush.quarantined.clone();
            for name in &flush.expected {
                match self.rebuilt.pending(barrier.cut, name)? {
                    // All that there is to be seen of it is what was written.
                    None if self.is_out_of_reach(name, barrier.cut, report) && !in_quarantine(&record, name) => {
                        parts.insert(name.clone(), part_of(&record.value, name));
                    }
                    Some(bytes) if !in_quarantine(&record, name) => {
                        parts.insert(name.clone(), serde_json::from_slice(&bytes)?);
                    }
                    _ => {
                        let reason = record.value["quarantined"][name].as_str();
                        let reason = reason.with_context(|| {
                            let (path, line) = (record.path.display(), record.line);
                            format!("batch {batch}: {path}:{line} says nothing of {name}, which has no part")
                        })?;
                        quarantined.insert(name.clone(), reason.to_owned());
                    }
                }
            }
            let rebuilt = records::render(flush, &parts, &quarantined);
            if record.text.as_bytes() != rebuilt {
                return Err(difference(batch, &record, &rebuilt));
            }
            report.records += 1;
        }
        if let Some(extra) = written.next() {
            let extra = extra?;
            bail!("{}:{} holds a record that no flush in the log has", extra.path.display(), extra.line);
        }
        Ok(())
    }
}

fn nothing_of(name: &str) -> Commit<'_> {
    Commit { name, meta: &[], add: &[], remove: &[], pending: None, letters: None }
}

/// An aggregator's part as a record shows it.
fn part_of(record: &Value, name: &str) -> Value {
    let member = |value: &Value| value[name].clone();
    serde_json::json!({
        "aggregates": member(&record["aggregates"]),
        "totals": member(&record["totals"]),
        "ledger": member(&record["ledger"]["aggregators"]),
        "ledger_total": member(&record["ledger_total"]["aggregators"]),
        "plugin": member(&record["plugins"]),
    })
}

fn in_quarantine(record: &Record, name: &str) -> bool {
    record.value["quarantined"].get(name).is_some()
}

/// Names the first place where a record differs from the log.
fn difference(batch: u64, record: &Record, rebuilt: &[u8]) -> anyhow::Error {
    let same = record.text.bytes().zip(rebuilt).take_while(|(written, by_log)| written == *by_log).count();
    let (file, line, byte) = (record.path.display(), record.line, record.offset + same as u64);
    let by_log: Value = serde_json::from_slice(rebuilt).unwrap_or_default();
    let mut path = String::new();
    match find_difference(&record.value, &by_log, &mut path) {
        Some((written, by_log)) => anyhow::anyhow!(
            "batch {batch}: {file}:{line} has {written} at {path:?} (byte {byte}), the log gives {by_log}"
        ),
        // The same values, written in another way.
        None => anyhow::anyhow!("batch {batch}: {file}:{line} differs at byte {byte} from what the log gives"),
    }
}

fn find_difference<'v>(a: &'v Value, b: &'v Value, path: &mut String) -> Option<(&'v Value, &'v Value)> {
    static NOTHING: Value = Value::Null;
    if let (Value::Object(x), Value::Object(y)) = (a, b) {
        let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
        for key in keys {
            let length = path.len();
            path.push('/');
            path.push_str(key);
            let found = find_difference(x.get(key).unwrap_or(&NOTHING), y.get(key).unwrap_or(&NOTHING), path);
            if found.is_some() {
                return found;
            }
            path.truncate(length);
        }
        return None;
    }
    (a != b).then_some((a, b))
}
