//! What the output files promise.

mod crash;
mod find;
mod records;
mod rejected;

use std::path::Path;

use tally_storage::RealStorage;

/// A real directory.
fn real(dir: &Path) -> RealStorage {
    RealStorage::new(dir).expect("a directory")
}
