//! Numbered files: `analytics_00001.log`, `analytics_00002.log`, ... Knows names and directories, nothing of contents.
//!
//! The number is what gives the order, never the name: after 99999 the names grow a digit. Files that are not exactly what
//! [`Series::name`] writes are somebody else's and left alone.

use std::path::PathBuf;

use tally_storage::Storage;

use crate::error::SinkError;

/// One series of numbered files in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Series<S> {
    pub(crate) storage: S,
    prefix: &'static str,
}

impl<S: Storage> Series<S> {
    pub(crate) fn new(storage: S, prefix: &'static str) -> Series<S> {
        Series { storage, prefix }
    }

    /// The name of a file of the series.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}_{number:05}.log", self.prefix)
    }

    /// Where that file is, for messages.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.storage.describe(&self.name(number)).into()
    }

    /// Where the directory is, for messages.
    pub(crate) fn dir(&self) -> PathBuf {
        self.storage.describe("").into()
    }

    /// The number in a name, if it is a name of this series.
    fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.prefix)?.strip_prefix('_')?.strip_suffix(".log")?;
        let number = digits.parse().ok()?;
        (number > 0 && self.name(number) == name).then_some(number)
    }

    /// The numbers of the files there are, ascending.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>, SinkError> {
        let names = self.storage.list().map_err(SinkError::io("list the directory", self.dir()))?;
        let mut numbers = names.iter().filter_map(|name| self.number(name)).collect::<Vec<_>>();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes names given and taken in the directory durable.
    pub(crate) fn sync_dir(&self) -> Result<(), SinkError> {
        self.storage.sync_dir().map_err(SinkError::io("sync the directory", self.dir()))
    }
}

#[cfg(test)]
mod tests {
    use tally_testkit::{Fault, Kind, MemStorage};

    use super::*;

    #[test]
    fn a_directory_that_fails_is_named() {
        let disk = MemStorage::new();
        let series = Series::new(disk.folder("records").unwrap(), "analytics");
        disk.inject_on(Kind::List, "records", 1, Fault::Broken);
        assert_eq!(series.numbers().unwrap_err().to_string(), "cannot list the directory records");
        disk.inject_on(Kind::SyncDir, "records", 1, Fault::Broken);
        assert_eq!(series.sync_dir().unwrap_err().to_string(), "cannot sync the directory records");
    }

    #[test]
    fn only_exact_names_belong_to_the_series() {
        let series = Series::new(MemStorage::new(), "analytics");
        let table = [
            ("analytics_00001.log", Some(1)),
            ("analytics_99999.log", Some(99_999)),
            ("analytics_100000.log", Some(100_000)),
            ("analytics_18446744073709551615.log", Some(u64::MAX)),
            ("analytics_18446744073709551616.log", None),
            ("analytics_00000.log", None),
            ("analytics_0001.log", None),
            ("analytics_000001.log", None),
            ("analytics_099999.log", None),
            ("analytics_+0001.log", None),
            ("analytics_00001.log.gz", None),
            ("analytics_00001.log~", None),
            ("Analytics_00001.log", None),
            ("analytics_.log", None),
            ("analytics.log", None),
            ("rejected_00001.log", None),
        ];
        for (name, number) in table {
            assert_eq!(series.number(name), number, "{name}");
        }
    }
}
