//! The types an event's fields may have, and how each is read from its column.
//!
//! | Rust type | JSON |
//! |---|---|
//! | [`Text`] | a string |
//! | `i64` | an integral number |
//! | [`Decimal<S>`](Decimal) | a number with at most `S` decimal digits |
//! | `f64` | a number |
//! | `bool` | `true`, `false` |
//! | [`Timestamp`] | an RFC 3339 string |
//! | [`Json`] | anything, as its raw JSON |
//! | `Option` of these | as above, or missing or `null` |

use crate::aggregator::Refusal;
use crate::number::{Decimal, Timestamp};
use crate::text::{Dictionary, Json, Text};
use crate::wire::tally::aggregator::columns::{Column, Values};
use crate::wire::tally::aggregator::types::Kind;

/// A type that a field of an event may have.
pub trait Value<'a>: Sized {
    /// How the host reads it from JSON.
    const KIND: Kind;
    /// Whether it may be missing.
    const OPTIONAL: bool = false;
    /// Its column in a batch.
    type Column: Copy + 'a;

    /// The column, if it is of the right kind.
    #[doc(hidden)]
    fn column(column: &'a Column, dictionary: Option<&'a DictionaryOf<'a>>) -> Option<Self::Column>;

    /// The value in one row.
    fn get(column: &Self::Column, row: usize) -> Self;
}

/// Text that must start with something.
pub trait Prefixed: Sized {
    /// The text without the prefix, or a refusal when it starts otherwise or nothing follows. A missing text passes.
    fn strip(self, prefix: &str, refuse: &'static str) -> Result<Self, Refusal>;
}

/// A text column's distinct values; opaque.
#[doc(hidden)]
#[derive(Debug)]
pub struct DictionaryOf<'a>(pub(crate) Dictionary<'a>);

/// A text column.
#[derive(Clone, Copy, Debug)]
pub struct TextColumn<'a> {
    codes: &'a [u32],
    dictionary: &'a Dictionary<'a>,
}

impl<'a> Value<'a> for Text<'a> {
    const KIND: Kind = Kind::Text;
    type Column = TextColumn<'a>;

    fn column(column: &'a Column, dictionary: Option<&'a DictionaryOf<'a>>) -> Option<Self::Column> {
        match &column.values {
            Values::Text(text) => Some(TextColumn { codes: &text.codes, dictionary: &dictionary?.0 }),
            _ => None,
        }
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> Self {
        Text::new(column.dictionary, column.codes[row])
    }
}

impl<'a> Value<'a> for Json<'a> {
    const KIND: Kind = Kind::Json;
    type Column = TextColumn<'a>;

    fn column(column: &'a Column, dictionary: Option<&'a DictionaryOf<'a>>) -> Option<Self::Column> {
        <Text<'a> as Value<'a>>::column(column, dictionary)
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> Self {
        Json(Text::get(column, row))
    }
}

impl Prefixed for Text<'_> {
    #[inline]
    fn strip(self, prefix: &str, refuse: &'static str) -> Result<Self, Refusal> {
        Text::strip(self, prefix).ok_or(Refusal(refuse))
    }
}

impl<T: Prefixed> Prefixed for Option<T> {
    #[inline]
    fn strip(self, prefix: &str, refuse: &'static str) -> Result<Self, Refusal> {
        self.map(|text| text.strip(prefix, refuse)).transpose()
    }
}

/// A value whose column is a slice of something.
macro_rules! sliced {
    ($(($generics:tt $type:ty, $kind:expr, $values:ident, $item:ty, $from:expr))*) => {$(
        sliced!(@ $generics $type, $kind, $values, $item, $from);
    )*};
    (@ [$($generics:tt)*] $type:ty, $kind:expr, $values:ident, $item:ty, $from:expr) => {
        impl<'a, $($generics)*> Value<'a> for $type {
            const KIND: Kind = $kind;
            type Column = &'a [$item];

            fn column(column: &'a Column, _: Option<&'a DictionaryOf<'a>>) -> Option<Self::Column> {
                match &column.values {
                    Values::$values(values) => Some(values),
                    _ => None,
                }
            }

            #[inline]
            fn get(column: &Self::Column, row: usize) -> Self {
                let from: fn($item) -> Self = $from;
                from(column[row])
            }
        }
    };
}

sliced! {
    ([] i64, Kind::Integer, Integers, i64, |value| value)
    ([const S: u8] Decimal<S>, Kind::Decimal(S), Integers, i64, |scaled| Decimal { scaled })
    ([] Timestamp, Kind::Timestamp, Integers, i64, |micros| Timestamp { micros })
    ([] f64, Kind::Float, Floats, f64, |value| value)
    ([] bool, Kind::Boolean, Booleans, u8, |value| value != 0)
}

/// The column of an `Option`.
#[derive(Clone, Copy, Debug)]
pub struct OptionalColumn<'a, C> {
    present: &'a [u8],
    column: C,
}

impl<'a, V: Value<'a>> Value<'a> for Option<V> {
    const KIND: Kind = V::KIND;
    const OPTIONAL: bool = true;
    type Column = OptionalColumn<'a, V::Column>;

    fn column(column: &'a Column, dictionary: Option<&'a DictionaryOf<'a>>) -> Option<Self::Column> {
        Some(OptionalColumn { present: &column.present, column: V::column(column, dictionary)? })
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> Self {
        let present = column.present.is_empty() || column.present[row] != 0;
        present.then(|| V::get(&column.column, row))
    }
}
