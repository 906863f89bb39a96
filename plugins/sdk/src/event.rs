//! From columns to typed events: what `#[derive(Event)]` builds on. Knows the contract's batches, not Wasm.

use crate::aggregator::Refusal;
use crate::text::Dictionary;
use crate::value::{DictionaryOf, Value};
use crate::wire::tally::aggregator::columns::{Column, Values};
use crate::wire::tally::aggregator::types::{Batch, EventType, Field, Kind};

/// An event as an aggregator sees it. Derive it:
///
/// - on a struct, with `#[event(type = "name")]` (`"*"` takes every type that nothing else names) and on each field one of
///   - `#[field("/json/pointer")]`: the field's type says how the value is read ([`Value`]), `Option` that it may be missing;
///   - `#[field("/json/pointer", prefix = "posts:", refuse = "reason")]`: text that must start so, and is given without it;
///   - `#[field(time)]`: the event's time, a [`crate::Timestamp`]; `#[field(sequence)]`: its number in the log, a `u64`;
/// - on an enum of such structs, for several event types.
pub trait Event<'a>: Sized {
    /// Where its fields come from, for one batch.
    type Columns: 'a;
    /// How many event types it takes.
    const TYPES: u32;

    /// Declares event types, fields and refusals, in an order that never changes.
    fn declare(schema: &mut Schema);

    /// Finds its columns in a batch.
    fn columns(binding: &'a Binding<'a>) -> Self::Columns;

    /// Reads one row.
    fn read(columns: &Self::Columns, row: Row<'a>) -> Result<Self, Refusal>;
}

/// What an event declares; becomes the manifest.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub(crate) fields: Vec<Field>,
    pub(crate) event_types: Vec<EventType>,
    pub(crate) refusals: Vec<&'static str>,
}

impl Schema {
    /// The fields declared next belong to this event type.
    pub fn event_type(&mut self, name: &str) {
        self.event_types.push(EventType { name: name.to_owned(), required: Vec::new(), optional: Vec::new() });
    }

    /// Declares a field of the last event type. Types that read one path in one way share the column.
    pub fn field<'a, V: Value<'a>>(&mut self, path: &str) {
        let index = self.index(path, V::KIND).unwrap_or_else(|| {
            self.fields.push(Field { path: path.to_owned(), kind: V::KIND });
            self.fields.len() - 1
        }) as u32;
        let event_type = self.event_types.last_mut().expect("an event type is declared before its fields");
        if event_type.required.contains(&index) {
            return;
        }
        event_type.optional.retain(|&optional| optional != index);
        if V::OPTIONAL {
            event_type.optional.push(index);
        } else {
            event_type.required.push(index);
        }
    }

    /// Declares a reason for which an event may be refused.
    pub fn refusal(&mut self, reason: &'static str) {
        if !self.refusals.contains(&reason) {
            self.refusals.push(reason);
        }
    }

    pub(crate) fn reason(&self, refusal: Refusal) -> u32 {
        self.refusals.iter().position(|&reason| reason == refusal.0).unwrap_or_else(|| {
            panic!("an event was refused for {:?}: add the reason to Aggregator::REFUSALS", refusal.0)
        }) as u32
    }

    pub(crate) fn index(&self, path: &str, kind: Kind) -> Option<usize> {
        self.fields.iter().position(|field| field.path == path && field.kind == kind)
    }
}

/// One batch, ready to be read.
#[derive(Debug)]
pub struct Binding<'a> {
    schema: &'a Schema,
    batch: &'a Batch,
    /// One per column, `None` for columns other than text.
    dictionaries: Vec<Option<DictionaryOf<'a>>>,
}

impl<'a> Binding<'a> {
    pub(crate) fn new(schema: &'a Schema, batch: &'a Batch) -> Self {
        let dictionaries = batch
            .columns
            .iter()
            .map(|column| match &column.values {
                Values::Text(text) => {
                    Some(DictionaryOf(Dictionary::new(batch.event_types.len(), &text.ends, &text.bytes, &text.hashes)))
                }
                _ => None,
            })
            .collect();
        Self { schema, batch, dictionaries }
    }

    /// The column of a declared field.
    ///
    /// # Panics
    /// When the host gives other columns than the manifest asked for.
    pub fn column<V: Value<'a>>(&'a self, path: &str) -> V::Column {
        self.try_column::<V>(path).unwrap_or_else(|| {
            panic!("the batch has no column of the right kind for {path:?}: host and manifest differ")
        })
    }

    fn try_column<V: Value<'a>>(&'a self, path: &str) -> Option<V::Column> {
        let index = self.schema.index(path, V::KIND)?;
        let column: &'a Column = self.batch.columns.get(index)?;
        V::column(column, self.dictionaries.get(index)?.as_ref())
    }

    pub(crate) fn rows(&'a self) -> impl Iterator<Item = Row<'a>> {
        self.batch.event_types.iter().enumerate().map(|(index, &event_type)| Row {
            batch: self.batch,
            index,
            event_type,
        })
    }
}

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    batch: &'a Batch,
    index: usize,
    event_type: u32,
}

impl<'a> Row<'a> {
    /// Which row of the batch it is.
    #[inline]
    pub fn index(self) -> usize {
        self.index
    }

    /// Its event type, as an index into what the event declared.
    #[inline]
    pub fn event_type(self) -> u32 {
        self.event_type
    }

    /// The same row with its event type counted from `base`.
    #[inline]
    pub fn with_types_from(self, base: u32) -> Self {
        Self { event_type: self.event_type - base, ..self }
    }

    /// Its time, in microseconds since the Unix epoch, UTC.
    #[inline]
    pub fn time(self) -> crate::Timestamp {
        crate::Timestamp { micros: self.batch.times[self.index] }
    }

    /// Its number in the log.
    #[inline]
    pub fn sequence(self) -> u64 {
        self.batch.first_sequence + u64::from(self.batch.sequence_offsets[self.index])
    }
}
