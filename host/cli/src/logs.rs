//! The daemon's structured logs: what goes to stderr, and how.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::outcome::Usage;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends every log line of this process to stderr. `level` is a level or a filter such as `info,tally_wal=debug`.
pub fn start(format: Format, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter(level)).map_err(|error| {
        Usage(anyhow::anyhow!(
            "--log-level {level} cannot be read ({error}); write error, warn, info, debug or trace, or a filter such as info,tally_wal=debug"
        ))
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => logs.finish().try_init()?,
        Format::Json => logs.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// A bare `debug` or `trace` means Tally's own crates: the compiler of plugins writes thousands of lines at that level.
fn filter(level: &str) -> String {
    match level.trim().to_ascii_lowercase().as_str() {
        level @ ("debug" | "trace") => format!("info,tally={level}"),
        _ => level.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_about_our_own_crates() {
        assert_eq!(filter("info"), "info");
        assert_eq!(filter("DEBUG"), "info,tally=debug");
        assert_eq!(filter("debug,tally_wal=trace"), "debug,tally_wal=trace");
    }
}
