//! What the output files promise.

mod records;
mod rejected;
