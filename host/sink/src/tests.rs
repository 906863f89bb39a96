//! What the output files promise.

mod find;
mod records;
mod rejected;
