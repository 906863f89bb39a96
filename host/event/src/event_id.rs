//! What identifies an event, so that a repeated one can be told. Knows nothing of what came before.

use std::ops::Range;

/// The identity of an accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId {
    /// XXH3-128 of the id's parts.
    pub hash: u128,
    /// 0-based among all lines of the push, blank ones included.
    pub line: u32,
    /// The line within the pushed bytes, with its newline if it has one.
    pub span: Range<usize>,
}
