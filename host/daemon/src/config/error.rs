//! What can be wrong with a configuration, and where a setting came from, in words that say where and what to do.

use std::fmt;
use std::path::PathBuf;

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A place in a file; the line counts from 1.
    File(PathBuf, usize),
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was said.
    pub origin: Origin,
    /// The key, e.g. `limits.depth`; empty if it is about the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Problem { origin, key, text } = self;
        match origin {
            Origin::Default if key.is_empty() => f.write_str(text),
            Origin::Default => write!(f, "{key}: {text}"),
            Origin::File(..) if key.is_empty() => write!(f, "{origin}: {text}"),
            Origin::File(..) => write!(f, "{origin}: {key}: {text}"),
            // The name of a variable or flag says the key.
            Origin::Environment(_) | Origin::Flag(_) => write!(f, "{origin}: {text}"),
        }
    }
}

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
    /// Everything that is wrong with what was read; at least one thing.
    #[error("{}", listed(problems, warnings))]
    Invalid {
        /// Why it is not taken, file first.
        problems: Vec<Problem>,
        /// What is odd besides; it may be the reason.
        warnings: Vec<String>,
    },
}

/// A single problem by itself, several under a line that says how many.
fn listed(problems: &[Problem], warnings: &[String]) -> String {
    let lines: String = match problems {
        [problem] => problem.to_string(),
        _ => {
            let lines: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{} mistakes in the configuration:{lines}", problems.len())
        }
    };
    lines + &warnings.iter().map(|warning| format!("\n  warning: {warning}")).collect::<String>()
}
