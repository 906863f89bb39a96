//! Reports as bytes in the formats that can be asked for. Pure; knows no route and no backend.

mod arrow;
mod csv;
mod json;

pub(crate) use arrow::stream;
pub(crate) use csv::text;
pub(crate) use json::{report, table, value};
