//! Why a line is no event, under the names used in acknowledgements, metrics and files.

use std::ops::Range;

/// Why a line is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// Not JSON by RFC 8259.
    InvalidJson,
    /// Not UTF-8.
    InvalidUtf8,
    /// Nested deeper than the limit.
    TooDeep,
    /// Longer than the limit.
    LineTooLong,
    /// JSON, but no object.
    NotAnObject,
    /// No event type, or a null one.
    MissingType,
    /// An event type that is no text, empty or too long.
    InvalidType,
    /// A timestamp that is not written as the preset says or outside of the years 0001 to 9999.
    InvalidTimestamp,
    /// An event id that is neither text nor an integer, or too long.
    InvalidEventId,
    /// Something that the preset requires is absent or null.
    MissingField,
    /// In an encoding that cannot be turned into JSON.
    InvalidEncoding,
    /// Every aggregator subscribed to its type refuses it.
    RefusedByAll,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: &'static [RejectReason] = &[
        Self::InvalidJson,
        Self::InvalidUtf8,
        Self::TooDeep,
        Self::LineTooLong,
        Self::NotAnObject,
        Self::MissingType,
        Self::InvalidType,
        Self::InvalidTimestamp,
        Self::InvalidEventId,
        Self::MissingField,
        Self::InvalidEncoding,
        Self::RefusedByAll,
    ];

    /// The reason's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooDeep => "too_deep",
            Self::LineTooLong => "line_too_long",
            Self::NotAnObject => "not_an_object",
            Self::MissingType => "missing_type",
            Self::InvalidType => "invalid_type",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::InvalidEventId => "invalid_event_id",
            Self::MissingField => "missing_field",
            Self::InvalidEncoding => "invalid_encoding",
            Self::RefusedByAll => "refused_by_all",
        }
    }
}

impl std::str::FromStr for RejectReason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, UnknownReason> {
        let found = Self::ALL.iter().copied().find(|reason| reason.as_str() == name);
        found.ok_or_else(|| UnknownReason(name.into()))
    }
}

impl std::fmt::Display for RejectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no [`RejectReason`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no reject reason is called {0:?}")]
pub struct UnknownReason(pub String);

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// 0-based among all lines of the push, blank ones included.
    pub line: u32,
    /// Why.
    pub reason: RejectReason,
    /// RFC 6901 pointer to what is wrong, in the line as it was sent; none when the line as a whole is wrong.
    pub field: Option<String>,
    /// Why exactly, for people; of bounded length, whatever the line holds.
    pub detail: String,
    /// The line within the pushed bytes, without its newline.
    pub span: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_read_back() {
        for &reason in RejectReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(RejectReason::ALL.iter().filter(|r| r.as_str() == reason.as_str()).count(), 1);
        }
        assert_eq!("".parse::<RejectReason>(), Err(UnknownReason(String::new())));
    }
}
