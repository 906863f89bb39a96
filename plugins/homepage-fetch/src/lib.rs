//! Homepage fetches.
