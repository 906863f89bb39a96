//! Numbers with a meaning: exact decimals and times. Knows nothing of columns.

/// An exact decimal number: `scaled` is the value times 10^`SCALE`. Read from the JSON digits, never through a float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal<const SCALE: u8> {
    /// The value times 10^`SCALE`.
    pub scaled: i64,
}

/// A time, in microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Microseconds since the Unix epoch.
    pub micros: i64,
}
