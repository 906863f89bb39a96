//! `tally run`: from file, environment and flags to a configuration, then into the daemon. Knows nothing of how the daemon
//! works.

use std::process::ExitCode;

use anyhow::anyhow;
use tally_daemon::Reload;
use tally_daemon::config::Loaded;

use crate::logs;
use crate::outcome::Usage;
use crate::settings::Layers;

/// Runs the daemon until SIGTERM or SIGINT.
///
/// Takes events, one JSON object each, and answers questions. Every flag can stand in the configuration file or the
/// environment instead; flags win over the environment, and that over the file. On SIGHUP the file is read again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    layers: Layers,
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
  settings = { weights = { view = 1, play = 0 } }

`tally config show` shows what is in force and where it comes from, `tally config --help` lists every key.";

/// Runs the daemon.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = args.layers.sources();
    let Loaded { config, warnings } = sources.load().map_err(|error| Usage(error.into()))?;
    let level = logs::start(&config).map_err(|error| Usage(anyhow!(error)))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tally_daemon::run(config, Reload { sources, set_log_level: Box::new(move |text| level.set(text)) })?;
    Ok(ExitCode::SUCCESS)
}
