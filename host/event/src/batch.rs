//! A decoded batch and what each subscriber gets of it. Knows nothing of JSON.

use crate::columns::{Column, ColumnRef, Rows, Values, ValuesRef};
use crate::plan::{Binding, FieldBinding, Plan};
use crate::schema::Manifest;
use crate::trie::NONE;
use std::borrow::Cow;
use std::sync::Arc;

/// Decoded events. A *row* is an event that at least one subscriber is given; events of types that nobody subscribes
/// to, and those that every subscriber refuses, have a sequence number but no row.
#[derive(Debug)]
pub struct Batch {
    plan: Arc<Plan>,
    first_sequence: u64,
    accepted: u32,
    /// Accepted events by type of the plan.
    accepted_by_type: Vec<u32>,
    unsubscribed: u32,
    /// Greatest time that was read from an event.
    max_read: Option<i64>,
    /// When the events without a time arrived.
    arrival: Option<i64>,
    /// Whether any accepted event has no time of its own.
    any_untimed: bool,
    /// By subscriber, ascending.
    refused: Vec<Vec<Refused>>,
    // By row:
    offsets: Vec<u32>,
    times: Vec<i64>,
    types: Vec<u32>,
    /// Rows without a time of their own.
    untimed: Vec<u32>,
    rows_by_type: Vec<u32>,
    /// Columns of the plan.
    columns: Vec<Column>,
}

/// What the envelope says of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    /// The plan's type; [`NONE`] when nobody subscribes.
    pub(crate) event_type: u32,
    /// Microseconds since the epoch; none for the arrival time.
    pub(crate) time: Option<i64>,
}

/// What one subscriber gets of a batch: accepted = rows + refused + not subscribed.
#[derive(Clone, Debug)]
pub struct Selected<'a> {
    /// Its rows.
    pub rows: Rows<'a>,
    /// Which rows of the batch they are, ascending; none for all of them.
    pub numbers: Option<Vec<u32>>,
    /// What the host refused on its behalf, in log order.
    pub refused: &'a [Refused],
    /// Accepted events of types that it does not subscribe to.
    pub not_subscribed: u32,
}

/// An event that one subscriber cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Sequence number relative to the batch's first.
    pub sequence_offset: u32,
    /// Why.
    pub reason: RefusedBecause,
}

/// Why a subscriber is not given an event; of several reasons, the one with the first of its fields. The number is the
/// index of the manifest's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusedBecause {
    /// A required field is absent or null.
    Missing(u32),
    /// A field, required or optional, cannot be read as its kind.
    WrongKind(u32),
    /// A decimal field has nonzero digits beyond its scale.
    SurplusDigits(u32),
}

impl RefusedBecause {
    /// The reason in words: `missing:/user_id`, `wrong_kind:/user_id`, `surplus_digits:/price`.
    pub fn text(self, manifest: &Manifest) -> String {
        let word = match self {
            Self::Missing(_) => "missing",
            Self::WrongKind(_) => "wrong_kind",
            Self::SurplusDigits(_) => "surplus_digits",
        };
        format!("{word}:{}", self.path(manifest))
    }

    /// The field's path, in the manifest's terms.
    pub(crate) fn path(self, manifest: &Manifest) -> &str {
        let (Self::Missing(field) | Self::WrongKind(field) | Self::SurplusDigits(field)) = self;
        manifest.fields.get(field as usize).map_or("", |field| field.path.as_str())
    }
}

impl Batch {
    /// Bytes of memory that it holds, but for what is the same for all batches of a plan.
    pub fn memory_bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(Column::memory_bytes).sum();
        let words = [&self.offsets, &self.types, &self.untimed, &self.rows_by_type];
        let refused: usize = self.refused.iter().map(|refused| refused.capacity() * size_of::<Refused>()).sum();
        columns + words.map(|words| 4 * words.capacity()).iter().sum::<usize>() + 8 * self.times.capacity() + refused
    }

    /// Accepted events, those without a row included.
    pub fn accepted(&self) -> u32 {
        self.accepted
    }

    /// Sequence number of the first accepted event; 0 before [`Batch::stamp`].
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Sets the sequence of the first accepted event, and the arrival time (microseconds since the Unix epoch, UTC),
    /// which becomes the time of events that have none of their own.
    pub fn stamp(&mut self, first_sequence: u64, arrival_micros: i64) {
        self.first_sequence = first_sequence;
        self.arrival = Some(arrival_micros);
        for &row in &self.untimed {
            self.times[row as usize] = arrival_micros;
        }
    }

    /// The greatest event time of the accepted events (after [`Batch::stamp`]); none for an empty batch.
    pub fn max_time(&self) -> Option<i64> {
        let arrival = self.arrival.filter(|_| self.any_untimed);
        self.max_read.max(arrival)
    }

    /// The plan it was decoded by.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What subscriber `index` of the plan gets: its rows, in its manifest's terms, and what the host refused on its
    /// behalf. Borrows whatever can be handed on as it is.
    ///
    /// # Panics
    /// When the plan has no such subscriber.
    pub fn for_subscriber(&self, index: usize) -> Selected<'_> {
        let binding = &self.plan.bindings[index];
        let refused = self.refused[index].as_slice();
        let numbers = self.selection(binding, refused);
        let rows = match &numbers {
            None => self.all_rows(binding),
            Some(numbers) => self.some_rows(binding, numbers),
        };
        let by_type = self.accepted_by_type.iter().zip(&binding.event_types);
        let others: u32 = by_type.filter(|(_, own)| **own == NONE).map(|(count, _)| count).sum();
        let not_subscribed = self.unsubscribed + others;
        let accounted = rows.len() + refused.len() + not_subscribed as usize;
        assert_eq!(self.accepted as usize, accounted, "accepted = rows + refused + not subscribed");
        Selected { rows, numbers, refused, not_subscribed }
    }

    /// Rows of the batch by number, gathered, in the terms of subscriber `index` of the plan, who gets them among others.
    ///
    /// # Panics
    /// When the plan has no such subscriber or the batch no such row.
    pub fn gathered(&self, index: usize, numbers: &[u32]) -> Rows<'_> {
        self.some_rows(&self.plan.bindings[index], numbers)
    }

    /// The rows that a subscriber gets; none for all of them.
    fn selection(&self, binding: &Binding, refused: &[Refused]) -> Option<Vec<u32>> {
        let by_type = self.rows_by_type.iter().zip(&binding.event_types);
        let own: u32 = by_type.filter(|(_, own)| **own != NONE).map(|(count, _)| count).sum();
        if own as usize == self.rows() && refused.is_empty() {
            return None;
        }
        if own == 0 {
            return Some(Vec::new());
        }
        let mut rows = Vec::with_capacity(own as usize);
        let mut refused = refused.iter().map(|refused| refused.sequence_offset).peekable();
        for (row, (&offset, &event_type)) in self.offsets.iter().zip(&self.types).enumerate() {
            while refused.next_if(|&refused| refused < offset).is_some() {}
            if binding.event_types[event_type as usize] != NONE && refused.peek() != Some(&offset) {
                rows.push(row as u32);
            }
        }
        Some(rows)
    }

    fn all_rows(&self, binding: &Binding) -> Rows<'_> {
        let own_types = || self.types.iter().map(|&t| binding.event_types[t as usize]).collect();
        Rows {
            first_sequence: self.first_sequence,
            sequence_offsets: Cow::Borrowed(&self.offsets),
            times: Cow::Borrowed(&self.times),
            event_types: if binding.same_types { Cow::Borrowed(&self.types) } else { Cow::Owned(own_types()) },
            columns: binding.fields.iter().map(|field| self.whole_column(field)).collect(),
        }
    }

    fn whole_column(&self, field: &FieldBinding) -> ColumnRef<'_> {
        if self.hides(field) {
            let all: Vec<u32> = (0..self.rows() as u32).collect();
            return self.gathered_column(field, &all);
        }
        let column = &self.columns[field.column];
        let values = match &column.values {
            Values::Text(text) => ValuesRef::Text {
                codes: Cow::Borrowed(&text.codes),
                ends: &text.ends,
                bytes: &text.bytes,
                hashes: &text.hashes,
            },
            Values::Integers(values) => ValuesRef::Integers(Cow::Borrowed(values)),
            Values::Floats(values) => ValuesRef::Floats(Cow::Borrowed(values)),
            Values::Booleans(values) => ValuesRef::Booleans(Cow::Borrowed(values)),
        };
        ColumnRef { values, present: Cow::Borrowed(&column.present) }
    }

    fn some_rows(&self, binding: &Binding, rows: &[u32]) -> Rows<'_> {
        let own_type = |row: &u32| binding.event_types[self.types[*row as usize] as usize];
        Rows {
            first_sequence: self.first_sequence,
            sequence_offsets: Cow::Owned(gather(&self.offsets, rows)),
            times: Cow::Owned(gather(&self.times, rows)),
            event_types: Cow::Owned(rows.iter().map(own_type).collect()),
            columns: binding.fields.iter().map(|field| self.gathered_column(field, rows)).collect(),
        }
    }

    fn gathered_column(&self, field: &FieldBinding, rows: &[u32]) -> ColumnRef<'_> {
        let column = &self.columns[field.column];
        let mut present = gather_present(&column.present, rows);
        let mut values = match &column.values {
            Values::Text(text) => ValuesRef::Text {
                codes: Cow::Owned(gather(&text.codes, rows)),
                ends: &text.ends,
                bytes: &text.bytes,
                hashes: &text.hashes,
            },
            Values::Integers(values) => ValuesRef::Integers(Cow::Owned(gather(values, rows))),
            Values::Floats(values) => ValuesRef::Floats(Cow::Owned(gather(values, rows))),
            Values::Booleans(values) => ValuesRef::Booleans(Cow::Owned(gather(values, rows))),
        };
        if self.hides(field) {
            present.resize(rows.len(), 1);
            let hidden = |row: u32| field.hidden.contains(&self.types[row as usize]);
            for (position, _) in rows.iter().enumerate().filter(|(_, row)| hidden(**row)) {
                present[position] = 0;
                blank(&mut values, position);
            }
        }
        if !present.contains(&0) {
            present.clear();
        }
        ColumnRef { values, present: Cow::Owned(present) }
    }

    /// Whether the field's column holds values here that this subscriber did not ask for.
    fn hides(&self, field: &FieldBinding) -> bool {
        field.hidden.iter().any(|&event_type| self.rows_by_type[event_type as usize] > 0)
    }
}

/// While the batch is under construction.
impl Batch {
    /// An empty batch with room for `rows` rows.
    pub(crate) fn new(plan: Arc<Plan>, rows: usize) -> Self {
        Self {
            first_sequence: 0,
            accepted: 0,
            accepted_by_type: vec![0; plan.types.len()],
            unsubscribed: 0,
            max_read: None,
            arrival: None,
            any_untimed: false,
            refused: vec![Vec::new(); plan.subscribers().len()],
            offsets: Vec::with_capacity(rows),
            times: Vec::with_capacity(rows),
            types: Vec::with_capacity(rows),
            untimed: Vec::new(),
            rows_by_type: vec![0; plan.types.len()],
            columns: Vec::new(),
            plan,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn with_columns(mut self, columns: Vec<Column>) -> Self {
        self.columns = columns;
        self
    }

    pub(crate) fn refuse(&mut self, subscriber: usize, refused: Refused) {
        self.refused[subscriber].push(refused);
    }

    pub(crate) fn accept_unsubscribed(&mut self, envelope: Envelope) {
        self.unsubscribed += 1;
        self.note_time(envelope);
        self.accepted += 1;
    }

    /// Counts an event of a type that somebody subscribes to; with `row`, somebody is given it.
    #[inline(always)]
    pub(crate) fn accept(&mut self, envelope: Envelope, row: bool) {
        self.accepted_by_type[envelope.event_type as usize] += 1;
        if row {
            self.rows_by_type[envelope.event_type as usize] += 1;
            if envelope.time.is_none() {
                self.untimed.push(self.times.len() as u32);
            }
            self.offsets.push(self.accepted);
            self.times.push(envelope.time.unwrap_or(0));
            self.types.push(envelope.event_type);
        }
        self.note_time(envelope);
        self.accepted += 1;
    }

    /// Counts events of one type, all with a time or all without; they are rows if somebody subscribes to the type.
    pub(crate) fn accept_run(&mut self, event_type: u32, timed: bool, times: &[i64]) {
        let count = times.len() as u32;
        if let Some(accepted) = self.accepted_by_type.get_mut(event_type as usize) {
            *accepted += count;
            self.rows_by_type[event_type as usize] += count;
            if !timed {
                let rows = self.times.len() as u32;
                self.untimed.extend(rows..rows + count);
            }
            self.offsets.extend(self.accepted..self.accepted + count);
            self.times.extend_from_slice(times);
            self.types.resize(self.times.len(), event_type);
        } else {
            self.unsubscribed += count;
        }
        if timed {
            self.max_read = self.max_read.max(times.iter().copied().max());
        }
        self.any_untimed |= !timed && count > 0;
        self.accepted += count;
    }

    #[inline(always)]
    fn note_time(&mut self, envelope: Envelope) {
        self.max_read = self.max_read.max(envelope.time);
        self.any_untimed |= envelope.time.is_none();
    }
}

fn gather<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().map(|&row| values[row as usize]).collect()
}

fn gather_present(present: &[u8], rows: &[u32]) -> Vec<u8> {
    if present.is_empty() { Vec::new() } else { gather(present, rows) }
}

/// Puts the placeholder of absent values at `position`.
fn blank(values: &mut ValuesRef<'_>, position: usize) {
    match values {
        ValuesRef::Text { codes, .. } => codes.to_mut()[position] = 0,
        ValuesRef::Integers(values) => values.to_mut()[position] = 0,
        ValuesRef::Floats(values) => values.to_mut()[position] = 0.0,
        ValuesRef::Booleans(values) => values.to_mut()[position] = 0,
    }
}
