//! Numbered files: `analytics_00001.log`, `analytics_00002.log`, ... Knows names and directories, nothing of contents.
//!
//! The number is what gives the order, never the name: after 99999 the names grow a digit. Files that are not exactly what
//! [`Series::name`] writes are somebody else's and left alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::SinkError;

/// One series of numbered files in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    dir: PathBuf,
    prefix: &'static str,
}

impl Series {
    pub(crate) fn new(dir: &Path, prefix: &'static str) -> Series {
        Series { dir: dir.to_path_buf(), prefix }
    }

    /// The name of a file of the series.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}_{number:05}.log", self.prefix)
    }

    /// Where that file is.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(self.name(number))
    }

    /// The number in a name, if it is a name of this series.
    fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.prefix)?.strip_prefix('_')?.strip_suffix(".log")?;
        let number = digits.parse().ok()?;
        (number > 0 && self.name(number) == name).then_some(number)
    }

    /// The numbers of the files there are, ascending.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>, SinkError> {
        let list = || -> io::Result<Vec<u64>> {
            let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name()));
            let names = names.collect::<io::Result<Vec<_>>>()?;
            Ok(names.iter().filter_map(|name| self.number(name.to_str()?)).collect())
        };
        let mut numbers = list().map_err(SinkError::io("list the directory", &self.dir))?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Creates the directory and makes its name durable, and so for every ancestor that had to be made.
    pub(crate) fn create_dir(&self) -> Result<(), SinkError> {
        create_dir(&self.dir).map_err(SinkError::io("create the directory", &self.dir))
    }

    /// Makes names given and taken in the directory durable.
    pub(crate) fn sync_dir(&self) -> Result<(), SinkError> {
        sync_dir(&self.dir).map_err(SinkError::io("sync the directory", &self.dir))
    }
}

fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_belong_to_the_series() {
        let series = Series::new(Path::new("x"), "analytics");
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
