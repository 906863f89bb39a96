//! From the values found in a line to a row of the batch, or to a refusal. Knows nothing of JSON's grammar.

use crate::batch::{Batch, Envelope, Refused, RefusedBecause};
use crate::build::ColumnBuilder;
use crate::json;
use crate::number::{self, NotExact};
use crate::plan::{Plan, Reader, TypePlan};
use crate::preset_plan::ColumnPlan;
use crate::schema::Kind;
use crate::time::Clockwork;
use crate::walk::{Class, Slot, Walk};
use std::sync::Arc;

/// What became of one column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Value,
    Absent,
    WrongKind,
    SurplusDigits,
}

/// The batch under construction.
#[derive(Debug)]
pub(crate) struct Assembly {
    plan: Arc<Plan>,
    columns: Vec<ColumnBuilder>,
    batch: Batch,
    /// Of the row at hand, by position in its type's columns; no type has more columns than there are.
    outcomes: Vec<Outcome>,
    scratch: Scratch,
}

/// What reading a value needs besides the value.
#[derive(Debug, Default)]
struct Scratch {
    text: Vec<u8>,
    clockwork: Clockwork,
}

impl Assembly {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self {
            columns: plan.columns.iter().map(|column| ColumnBuilder::new(column.kind)).collect(),
            batch: Batch::new(plan.clone(), 0),
            outcomes: vec![Outcome::Absent; plan.columns.len()],
            scratch: Scratch::default(),
            plan,
        }
    }

    pub(crate) fn accepted(&self) -> u32 {
        self.batch.accepted()
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.batch.rows()
    }

    /// Gives rows from `row` on their texts, by their places in `bytes`.
    pub(crate) fn put_texts(
        &mut self,
        column: usize,
        row: usize,
        bytes: &[u8],
        texts: impl Iterator<Item = (u32, u32)>,
    ) {
        self.columns[column].put_texts(row, bytes, texts);
    }

    /// Adds events of one type, all with a time or all without, whose columns were put before if anybody wants them.
    pub(crate) fn accept_run(&mut self, event_type: u32, timed: bool, times: &[i64]) {
        self.batch.accept_run(event_type, timed, times);
    }

    /// The batch so far; an empty one takes its place.
    pub(crate) fn finish(&mut self) -> Batch {
        let rows = self.batch.rows();
        let batch = std::mem::replace(&mut self.batch, Batch::new(self.plan.clone(), rows));
        batch.with_columns(self.columns.iter_mut().map(|column| column.finish(rows)).collect())
    }

    /// Adds the event that was just walked. False when it has subscribers and all of them refuse it; with `reject` it
    /// is not added then. `places` are the plan's columns by the line's preset.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        walk: &Walk,
        bytes: &[u8],
        places: &[ColumnPlan],
        envelope: Envelope,
        reject: bool,
    ) -> bool {
        let Self { plan, columns, batch, outcomes, scratch } = self;
        let Some(event_type) = plan.types.get(envelope.event_type as usize) else {
            batch.accept_unsubscribed(envelope);
            return true;
        };
        let row = batch.rows();
        let mut flawless = true;
        for (wanted, noted) in event_type.columns.iter().zip(outcomes.iter_mut()) {
            let column = &places[wanted.column];
            let (class, slot) = walk.slot(column.slot);
            let outcome = read(&mut columns[wanted.column], column.kind, row, (class, slot), bytes, scratch);
            flawless &= outcome == Outcome::Value || (outcome == Outcome::Absent && !wanted.required);
            *noted = outcome;
        }
        if flawless {
            batch.accept(envelope, true);
            return true;
        }
        self.add_flawed(envelope, row, reject)
    }

    /// Adds an event that at least one subscriber refuses.
    #[inline(never)]
    fn add_flawed(&mut self, envelope: Envelope, row: usize, reject: bool) -> bool {
        let Self { plan, columns, batch, outcomes, .. } = self;
        let event_type = &plan.types[envelope.event_type as usize];
        let taken = event_type.readers.iter().any(|reader| flaw(reader, outcomes).is_none());
        if !taken {
            event_type.columns.iter().for_each(|wanted| columns[wanted.column].take_back(row));
            if reject {
                return false;
            }
        }
        let sequence_offset = batch.accepted();
        for reader in &event_type.readers {
            if let Some(reason) = flaw(reader, outcomes) {
                batch.refuse(reader.subscriber, Refused { sequence_offset, reason });
            }
        }
        batch.accept(envelope, taken);
        taken
    }

    /// The first field for which the event just not added is refused, and by whom it is refused and why; for people.
    #[cold]
    pub(crate) fn refusals(&self, envelope: Envelope) -> (String, String) {
        const SHOWN: usize = 3;
        let TypePlan { readers, .. } = &self.plan.types[envelope.event_type as usize];
        let mut words: Vec<String> = Vec::new();
        let mut first = None;
        for reader in readers.iter().take(SHOWN) {
            let subscriber = &self.plan.subscribers()[reader.subscriber];
            if let Some(reason) = flaw(reader, &self.outcomes) {
                words.push(format!("{} {}", subscriber.name, reason.text(&subscriber.manifest)));
                first = first.or_else(|| Some(reason.path(&subscriber.manifest).to_string()));
            }
        }
        if readers.len() > SHOWN {
            words.push(format!("and {} more", readers.len() - SHOWN));
        }
        (first.unwrap_or_default(), words.join(", "))
    }
}

/// Why a reader refuses the row: the flaw of the first of its fields that has one.
fn flaw(reader: &Reader, outcomes: &[Outcome]) -> Option<RefusedBecause> {
    reader.wants.iter().find_map(|want| match outcomes[want.position] {
        Outcome::Value => None,
        Outcome::Absent => want.required.then_some(RefusedBecause::Missing(want.field)),
        Outcome::WrongKind => Some(RefusedBecause::WrongKind(want.field)),
        Outcome::SurplusDigits => Some(RefusedBecause::SurplusDigits(want.field)),
    })
}

/// Reads a value found in the line into a column.
#[inline(always)]
fn read(
    column: &mut ColumnBuilder,
    kind: Kind,
    row: usize,
    (class, slot): (Class, Slot),
    bytes: &[u8],
    scratch: &mut Scratch,
) -> Outcome {
    match (kind, class) {
        (Kind::Text, Class::Plain) => {
            column.put_text(row, bytes, slot.start as usize, (slot.end - slot.start) as usize);
        }
        (_, Class::Absent) => return Outcome::Absent,
        (Kind::Integer, Class::Number) => match number::scaled(slot.of(bytes), 0) {
            Ok(value) => column.put_integer(row, value),
            Err(_) => return Outcome::WrongKind,
        },
        _ => return read_rarer(column, kind, row, (class, slot), bytes, scratch),
    }
    Outcome::Value
}

/// The kinds and spellings that are met less often.
#[inline(never)]
fn read_rarer(
    column: &mut ColumnBuilder,
    kind: Kind,
    row: usize,
    (class, slot): (Class, Slot),
    bytes: &[u8],
    Scratch { text, clockwork }: &mut Scratch,
) -> Outcome {
    let value = if class == Class::Escaped && kind != Kind::Json {
        text.clear();
        json::unescape(slot.of(bytes), text);
        text
    } else {
        slot.of(bytes)
    };
    match (kind, class) {
        (Kind::Text, Class::Escaped) => column.put_text(row, value, 0, value.len()),
        (Kind::Json, _) => {
            let raw = slot.raw(bytes);
            column.put_text(row, raw, 0, raw.len());
        }
        (Kind::Boolean, Class::True | Class::False) => column.put_boolean(row, class == Class::True),
        (Kind::Float, Class::Number) => match number::float(value) {
            Ok(value) => column.put_float(row, value),
            Err(_) => return Outcome::WrongKind,
        },
        (Kind::Decimal(scale), Class::Number) => match number::scaled(value, scale) {
            Ok(value) => column.put_integer(row, value),
            Err(NotExact::SurplusDigits) => return Outcome::SurplusDigits,
            Err(NotExact::OutOfRange) => return Outcome::WrongKind,
        },
        (Kind::Timestamp, Class::Plain | Class::Escaped) => match clockwork.parse(value) {
            Some(micros) => column.put_integer(row, micros),
            None => return Outcome::WrongKind,
        },
        _ => return Outcome::WrongKind,
    }
    Outcome::Value
}
