//! What can be wrong with a configuration, in words that say where and what to do.

use std::path::PathBuf;

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {} (check the path given with --config)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or a key is unknown or of the wrong type.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// 1-based, in characters.
        column: usize,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// Something without a default was given neither as a flag nor in the file.
    #[error("no {what}: give {flag}, or `{key}` in the configuration file")]
    Missing {
        /// What it is, in words.
        what: &'static str,
        /// The flag that gives it.
        flag: &'static str,
        /// The key that gives it.
        key: &'static str,
    },
    /// A value that cannot be used.
    #[error("{}`{key}` {problem}", file.as_ref().map(|f| format!("{}: ", f.display())).unwrap_or_default())]
    Invalid {
        /// The file, if there is one (a flag may have set the value).
        file: Option<PathBuf>,
        /// The key, e.g. `limits.depth`.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}
