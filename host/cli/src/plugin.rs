//! `tally plugin`: which plugins are wanted and running, and a look at the plugins directory right now.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;

use crate::client::Target;
use crate::outcome::print;
use crate::render::{Output, answer};

/// Lists plugins, or looks for changed ones now.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Shows each plugin's wanted and running digest, and why they differ
    #[command(after_help = "Example:\n  tally plugin list --to /tmp/tally.sock.query")]
    List(Args),
    /// Looks at the plugins directory now, without waiting for the watcher
    ///
    /// Ends with exit code 1 when a plugin that is wanted does not run; the version before it goes on meanwhile.
    #[command(
        after_help = "Example:\n  cp new/video-actions.wasm plugins/ && tally plugin reload --to /tmp/tally.sock.query"
    )]
    Reload(Args),
}

/// Where to ask, and how to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Asks and prints.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => {
            let value = args.target.get("/v1/plugins")?;
            print(&answer(&value, args.output))?;
        }
        Command::Reload(args) => {
            let value = args.target.post("/v1/plugins/reload")?;
            print(&answer(&value, args.output))?;
            let stuck = not_running(&value);
            if !stuck.is_empty() {
                bail!("not everything wanted runs: {}", stuck.join("; "));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Names and reasons of the plugins whose wanted build is not the running one.
fn not_running(value: &Value) -> Vec<String> {
    let plugins = value["plugins"].as_array().map_or(&[][..], Vec::as_slice);
    plugins
        .iter()
        .filter(|plugin| plugin["wanted_digest"].is_string() && plugin["wanted_digest"] != plugin["running_digest"])
        .map(|plugin| {
            let name = plugin["name"].as_str().unwrap_or("?");
            let reason = plugin["reason"].as_str().unwrap_or("no reason given");
            format!("{name} ({reason})")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_wanted_build_that_does_not_run_is_a_failure() {
        let value = json!({"plugins": [
            {"name": "fine", "wanted_digest": "1", "running_digest": "1", "reason": null},
            {"name": "paused", "wanted_digest": null, "running_digest": null, "reason": "its file was removed"},
            {"name": "broken", "wanted_digest": "2", "running_digest": "1", "reason": "no component"},
            {"name": "new", "wanted_digest": "3", "running_digest": null, "reason": "no component"},
        ]});
        assert_eq!(not_running(&value), ["broken (no component)", "new (no component)"]);
        assert!(not_running(&json!({})).is_empty());
    }
}
