//! Values by column: the shape in which events cross into Wasm and reports come out. Knows neither JSON nor plugins.

use std::borrow::Cow;
use std::ops::Range;

/// Text, dictionary-encoded within its batch: row `i` is entry `codes[i]`; entry `k` is `bytes[ends[k-1]..ends[k]]`
/// with `ends[-1] = 0`. An entry may be referenced by no row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// Entry of each row.
    pub codes: Vec<u32>,
    /// End of each entry in `bytes`.
    pub ends: Vec<u32>,
    /// The entries' UTF-8, one after another.
    pub bytes: Vec<u8>,
    /// XXH3-64 of each entry; empty in reports.
    pub hashes: Vec<u64>,
}

/// One column's values.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Text by dictionary.
    Text(Text),
    /// Integers; decimals scaled by 10^scale; timestamps in microseconds since the Unix epoch.
    Integers(Vec<i64>),
    /// Floats.
    Floats(Vec<f64>),
    /// One byte per row, 0 or 1.
    Booleans(Vec<u8>),
}

/// Values and where they are present.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The values; a placeholder (0, code 0, 0.0) where absent.
    pub values: Values,
    /// One byte per row, 1 where the row has a value; empty where every row has one.
    pub present: Vec<u8>,
}

impl Column {
    /// Bytes of memory it holds.
    pub fn memory_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Text(text) => {
                4 * (text.codes.capacity() + text.ends.capacity()) + text.bytes.capacity() + 8 * text.hashes.capacity()
            }
            Values::Integers(values) => 8 * values.capacity(),
            Values::Floats(values) => 8 * values.capacity(),
            Values::Booleans(values) => values.capacity(),
        };
        values + self.present.capacity()
    }
}

/// What one aggregator is given: its rows of a batch, in log order, in its manifest's terms. Borrowed from a decoded
/// batch wherever the aggregator takes all of its rows.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// Log sequence number that `sequence_offsets` count from.
    pub first_sequence: u64,
    /// Sequence number of each row, relative to `first_sequence`.
    pub sequence_offsets: Cow<'a, [u32]>,
    /// Event time of each row, microseconds since the Unix epoch, UTC.
    pub times: Cow<'a, [i64]>,
    /// Index into the manifest's event types.
    pub event_types: Cow<'a, [u32]>,
    /// One per manifest field.
    pub columns: Vec<ColumnRef<'a>>,
}

/// A borrowed (or gathered) column.
#[derive(Clone, Debug)]
pub struct ColumnRef<'a> {
    /// The values.
    pub values: ValuesRef<'a>,
    /// One byte per row, 1 where the row has a value; empty where every row has one.
    pub present: Cow<'a, [u8]>,
}

/// Borrowed (or gathered) values. A text column's dictionary is always shared with the batch; only codes are gathered.
#[derive(Clone, Debug)]
pub enum ValuesRef<'a> {
    /// Text by dictionary.
    Text {
        /// Entry of each row.
        codes: Cow<'a, [u32]>,
        /// End of each entry in `bytes`.
        ends: &'a [u32],
        /// The entries' UTF-8.
        bytes: &'a [u8],
        /// XXH3-64 of each entry.
        hashes: &'a [u64],
    },
    /// Integers, decimals, timestamps.
    Integers(Cow<'a, [i64]>),
    /// Floats.
    Floats(Cow<'a, [f64]>),
    /// Booleans.
    Booleans(Cow<'a, [u8]>),
}

impl Rows<'_> {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Some of the rows, borrowed; text dictionaries stay whole.
    ///
    /// # Panics
    /// When the range reaches beyond [`Rows::len`].
    pub fn slice(&self, range: Range<usize>) -> Rows<'_> {
        Rows {
            first_sequence: self.first_sequence,
            sequence_offsets: Cow::Borrowed(&self.sequence_offsets[range.clone()]),
            times: Cow::Borrowed(&self.times[range.clone()]),
            event_types: Cow::Borrowed(&self.event_types[range.clone()]),
            columns: self.columns.iter().map(|column| column.slice(range.clone())).collect(),
        }
    }
}

impl ColumnRef<'_> {
    /// Some of the rows, borrowed; a text dictionary stays whole.
    ///
    /// # Panics
    /// When the range reaches beyond the column.
    pub fn slice(&self, range: Range<usize>) -> ColumnRef<'_> {
        let present: &[u8] = if self.present.is_empty() { &[] } else { &self.present[range.clone()] };
        // Empty where every row has a value, also when that is only so within the slice.
        let present = if present.contains(&0) { present } else { &[] };
        ColumnRef { values: self.values.slice(range), present: Cow::Borrowed(present) }
    }

    /// Whether row `row` has a value.
    pub fn is_present(&self, row: usize) -> bool {
        self.present.get(row).is_none_or(|&p| p != 0)
    }
}

impl ValuesRef<'_> {
    fn slice(&self, range: Range<usize>) -> ValuesRef<'_> {
        match self {
            Self::Text { codes, ends, bytes, hashes } => {
                ValuesRef::Text { codes: Cow::Borrowed(&codes[range]), ends, bytes, hashes }
            }
            Self::Integers(values) => ValuesRef::Integers(Cow::Borrowed(&values[range])),
            Self::Floats(values) => ValuesRef::Floats(Cow::Borrowed(&values[range])),
            Self::Booleans(values) => ValuesRef::Booleans(Cow::Borrowed(&values[range])),
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Text { codes, .. } => codes.len(),
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Booleans(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Values {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.codes.len(),
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Booleans(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Text {
    /// Entry `code` of the dictionary, if there is one and its ends are in order.
    pub fn entry(&self, code: u32) -> Option<&[u8]> {
        entry(&self.ends, &self.bytes, code)
    }
}

/// Entry `code` of a text dictionary, if there is one and its ends are in order.
pub fn entry<'a>(ends: &[u32], bytes: &'a [u8], code: u32) -> Option<&'a [u8]> {
    let code = code as usize;
    let start = if code == 0 { 0 } else { *ends.get(code - 1)? };
    bytes.get(start as usize..*ends.get(code)? as usize)
}
