//! The daemon's structured logs: what goes to stderr, how, and from which level on, which can change while it runs.

use std::io::IsTerminal;

use tally_daemon::config::{Config, LogFormat, Problem};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// A filter in the environment that wins over the configuration, as in any program that logs by `tracing`.
const RUST_LOG: &str = "RUST_LOG";

/// Changes from which level on lines are logged.
#[derive(Clone, Debug)]
pub struct Level {
    handle: reload::Handle<EnvFilter, Registry>,
    overridden: bool,
}

impl Level {
    /// Logs from this level, or by this filter, from now on. Without effect while `RUST_LOG` says otherwise.
    pub fn set(&self, level: &str) -> Result<(), String> {
        if self.overridden {
            tracing::warn!(logs.level = level, "RUST_LOG is set and wins over logs.level");
            return Ok(());
        }
        let filter = filter(level)?;
        self.handle.reload(filter).map_err(|error| error.to_string())
    }
}

/// Sends every log line of this process to stderr.
pub fn start(config: &Config) -> Result<Level, String> {
    let overriding = std::env::var(RUST_LOG).ok().filter(|text| !text.is_empty());
    let overridden = overriding.is_some();
    let chosen = match overriding {
        Some(text) => EnvFilter::try_new(&text)
            .map_err(|error| format!("RUST_LOG: \"{text}\" cannot be read ({error}); correct or unset it"))?,
        None => check(config).map_err(|problem| problem.to_string())?,
    };
    let (chosen, handle) = reload::Layer::new(chosen);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match config.logs.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(chosen).with(lines).try_init().map_err(|error| error.to_string())?;
    if overridden {
        tracing::info!("RUST_LOG is set and wins over logs.level");
    }
    Ok(Level { handle, overridden })
}

/// The filter that a configuration asks for, or what is wrong with it.
pub fn check(config: &Config) -> Result<EnvFilter, Problem> {
    let key = "logs.level";
    let origin = config.settings.origin(key);
    filter(&config.logs.level).map_err(|text| Problem { origin, key: key.to_string(), text })
}

/// A bare `debug` or `trace` means Tally's own crates: the compiler of plugins writes thousands of lines at that level.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let directives = directives(level);
    EnvFilter::try_new(directives).map_err(|error| {
        format!(
            "\"{level}\" cannot be read ({error}); write error, warn, info, debug or trace, or a filter such as info,tally_wal=debug"
        )
    })
}

fn directives(level: &str) -> String {
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
        assert_eq!(directives("info"), "info");
        assert_eq!(directives("DEBUG"), "info,tally=debug");
        assert_eq!(directives("debug,tally_wal=trace"), "debug,tally_wal=trace");
    }
}
