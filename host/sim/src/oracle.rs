//! What must hold, whatever happened: known from the clients' side and from the files alone. Reads files itself; asks the daemon nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, bail, ensure};
use tally_aggregate::{Entries, Entry, Note};
use tally_daemon::config::Config;
use tally_daemon::{LOG_FOLDER, life};
use tally_storage::Storage as _;
use tally_testkit::MemStorage;
use tally_wal::{Frame, Reader};

use crate::events::Key;
use crate::producer::{Manner, Producer};

/// The events of the log, as they were found in it.
pub struct Oracle {
    /// How many event ids the daemon remembers: who sends an event again after so many others is not recognised.
    remembered_ids: usize,
    /// Whose event has which sequence number: the first one has 1.
    order: Vec<Key>,
}

impl Oracle {
    /// Of a log that is not there yet.
    pub fn new(config: &Config) -> Self {
        Self { remembered_ids: life::remembered_ids(config), order: Vec::new() }
    }

    /// Reads the log and compares it with what is known of it. `settled` is the last sequence number that any client was told: what is
    /// behind it may be gone after a crash, and another event may be there.
    pub fn read(&mut self, data: &MemStorage, settled: u64) -> anyhow::Result<()> {
        // A copy, so that looking is no operation that a fault could meet.
        let reader = Reader::open_read_only(data.duplicate().folder(LOG_FOLDER)?);
        let mut reader = reader.context("the log cannot be read")?;
        let mut frame = Frame::default();
        let (mut next, mut anchored) = (None, None);
        let oldest = reader.first_frame();
        if reader.next_frame() > oldest {
            reader.seek(oldest)?;
        }
        while reader.next(&mut frame)? {
            let mut sequence = frame.first_sequence;
            ensure!(
                next.is_none_or(|next| next == sequence),
                "frame {} begins with event {sequence}, but {next:?} comes next",
                frame.number
            );
            for entry in Entries::new(&frame.body) {
                let (lines, count) = match entry? {
                    Entry::Events { lines, count, .. } => (lines, count),
                    Entry::Note(Note::Anchored(anchor)) => {
                        anchored = Some(anchor.frame);
                        continue;
                    }
                    Entry::Opening(opening) => {
                        anchored = opening.anchor.as_ref().map(|anchor| anchor.frame);
                        continue;
                    }
                    _ => continue,
                };
                let before = sequence;
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    let key = Key::of(line).with_context(|| format!("event {sequence} is none that was ever sent"))?;
                    self.found(sequence, key, settled)?;
                    sequence += 1;
                }
                ensure!(
                    sequence - before == u64::from(count),
                    "frame {} has another number of lines than it says",
                    frame.number
                );
            }
            ensure!(
                sequence - frame.first_sequence == u64::from(frame.count),
                "frame {} has another number of events than it says",
                frame.number
            );
            next = Some(sequence);
        }
        // Only what an anchor in the log covers may go: it says what became of it.
        ensure!(
            oldest <= 1 || anchored.is_some_and(|frame| oldest <= frame),
            "the log begins with frame {oldest}, but its anchor is at frame {anchored:?}"
        );
        let last = next.map_or(0, |next| next - 1);
        ensure!(last >= settled, "the log ends with event {last}, but a client was told of event {settled}");
        self.order.truncate(usize::try_from(last)?);
        ensure!(self.order.len() as u64 == last, "events before {last} were never seen");
        Ok(())
    }

    fn found(&mut self, sequence: u64, key: Key, settled: u64) -> anyhow::Result<()> {
        ensure!(key.is_valid(), "line {key:?} is no event, but it is event {sequence}");
        let index = usize::try_from(sequence)? - 1;
        let events = self.order.len();
        match self.order.get_mut(index) {
            Some(known) if *known == key => {}
            Some(known) if sequence > settled => *known = key,
            Some(known) => bail!("event {sequence} was {known:?} and is {key:?} now"),
            None if events == index => self.order.push(key),
            None => bail!("event {sequence} comes after event {events}"),
        }
        Ok(())
    }

    /// Nothing promised is missing, nothing is there twice, nothing is there that was not sent.
    pub fn check(&self, producers: &[Producer]) -> anyhow::Result<()> {
        let manner = |key: &Key| producers.get(key.producer as usize).map(|producer| producer.manner);
        let mut there = HashMap::new();
        let (mut ids, mut forgotten) = (0, HashSet::new());
        for (sequence, key) in (1_u64..).zip(&self.order) {
            if let Some((first, ids_until_first)) = there.insert(*key, (sequence, ids)) {
                ensure!(
                    manner(key) == Some(Manner::Ids) && ids - ids_until_first > self.remembered_ids,
                    "{key:?} is in the log twice, as event {first} and as event {sequence} ({:?})",
                    manner(key)
                );
                forgotten.insert(sequence);
            }
            ids += usize::from(manner(key) == Some(Manner::Ids));
        }
        for producer in producers {
            for key in producer.promised() {
                ensure!(
                    there.contains_key(&key),
                    "{key:?} was acknowledged and is not in the log ({:?})",
                    producer.manner
                );
            }
        }
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for (sequence, key) in (1_u64..).zip(&self.order) {
            let producer = producers.get(key.producer as usize).context("an event of nobody")?;
            ensure!(key.line < producer.sent, "{key:?} was never sent");
            let before = last.insert(key.producer, key.line);
            if matches!(producer.manner, Manner::Named | Manner::Ids) && !forgotten.contains(&sequence) {
                ensure!(before.is_none_or(|before| before < key.line), "{key:?} comes after line {before:?}");
            }
        }
        Ok(())
    }

    /// How many events there are.
    pub fn events(&self) -> u64 {
        self.order.len() as u64
    }

    /// Events that `video-actions` counts, by action.
    pub fn actions(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for action in self.order.iter().filter_map(|key| key.action()) {
            *counts.entry(action).or_default() += 1;
        }
        counts
    }
}

/// The analytics files hold whole records, in order, without a gap or a repetition.
pub fn check_records(data: &MemStorage) -> anyhow::Result<u64> {
    let mut next: Option<(u64, u64)> = None;
    let mut count = 0;
    for record in tally_sink::read_records(&data.duplicate())? {
        let record = record?;
        let number = |name: &str| record.value[name].as_u64().with_context(|| format!("a record has no {name}"));
        let (batch, first, last) = (number("batch_id")?, number("first_sequence")?, number("last_sequence")?);
        let expected = next.unwrap_or((batch, first));
        ensure!(
            (batch, first) == expected,
            "record {batch} begins with event {first}, but record {} should, with event {}",
            expected.0,
            expected.1
        );
        ensure!(batch > 1 || first == 1, "the first record begins with event {first}");
        let ledger = &record.value["ledger_total"];
        ensure!(
            ledger["accepted"].as_u64() == Some(last),
            "record {batch} counts {} events up to event {last}",
            ledger["accepted"]
        );
        next = Some((batch + 1, last + 1));
        count += 1;
    }
    Ok(count)
}
