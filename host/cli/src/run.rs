//! `tally run`: from flags and file to a configuration, then into the daemon. Knows nothing of how the daemon works.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tally_daemon::config::{Config, Flags, parse_duration};

use crate::logs;
use crate::outcome::Usage;

/// Runs the daemon until SIGTERM or SIGINT.
///
/// Takes events on a Unix socket, one JSON object per line, and answers questions on a second one. Every flag can stand
/// in the configuration file instead; a flag wins.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Configuration file (TOML); unknown keys are errors
    #[arg(long, value_name = "FILE", env = "TALLY_CONFIG")]
    config: Option<PathBuf>,
    /// Folder for log, state and analytics files; made if missing
    #[arg(long, value_name = "DIR", env = "TALLY_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Folder that is watched for *.wasm plugins
    #[arg(long, value_name = "DIR", env = "TALLY_PLUGINS_DIR")]
    plugins_dir: Option<PathBuf>,
    /// Unix socket that takes events
    #[arg(long, value_name = "PATH", env = "TALLY_UNIX")]
    unix: Option<PathBuf>,
    /// Unix socket that answers questions [default: that of --unix with .query appended]
    #[arg(long, value_name = "PATH")]
    query_socket: Option<PathBuf>,
    /// Write an analytics record after so many events [default: 1000000]
    #[arg(long, value_name = "N")]
    flush_events: Option<u64>,
    /// Write an analytics record after this time, e.g. 30s or 500ms [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    flush_interval: Option<Duration>,
    /// What log lines on stderr look like
    #[arg(long, value_enum, default_value_t = logs::Format::Text)]
    log_format: logs::Format,
    /// error, warn, info, debug or trace, or a filter such as info,tally_wal=debug
    #[arg(long, value_name = "LEVEL", env = "TALLY_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

const EXAMPLE: &str = "\
Example:
  tally run --data-dir data --plugins-dir target/plugins --unix /tmp/tally.sock
  echo '{\"type\":\"action\",\"user_id\":\"u1\",\"resource_type\":\"posts:1\",\"action\":\"view\"}' | tally send - --to unix:/tmp/tally.sock --ack

A configuration file:
  data_dir = \"data\"              # relative to this file
  plugins_dir = \"plugins\"
  [unix]
  path = \"tally.sock\"
  [flush]
  events = 100000
  interval = \"30s\"
  [[aggregator]]                 # a plugin, a name, settings; without it a plugin runs under its own name
  name = \"views-only\"
  plugin = \"video-actions\"
  settings = { weights = { view = 1, play = 0 } }";

/// Runs the daemon.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    logs::start(args.log_format, &args.log_level)?;
    let flags = Flags {
        data_dir: args.data_dir,
        plugins_dir: args.plugins_dir,
        unix: args.unix,
        query_socket: args.query_socket,
        flush_events: args.flush_events,
        flush_interval: args.flush_interval,
    };
    let config = Config::load(args.config.as_deref(), flags).map_err(|error| Usage(error.into()))?;
    tally_daemon::run(config)?;
    Ok(ExitCode::SUCCESS)
}
