//! `tally plugin`: which plugins are wanted and running, a file on its own, and a look at the plugins directory right now.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::client::{Target, encode};
use crate::outcome::print;
use crate::render::{Output, Paint, answer};

/// Lists, inspects, checks and resumes plugins, or looks for changed ones now.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Shows each plugin's wanted and running digest, and why they differ
    #[command(after_help = "Example:\n  tally plugin list --to /tmp/tally.sock.query")]
    List(Asked),
    /// Shows everything the daemon knows of one running aggregator
    #[command(after_help = "Example:\n  tally plugin inspect video-actions --to /tmp/tally.sock.query")]
    Inspect {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Loads a component file as the daemon would, without a daemon
    ///
    /// Prints its digest, size, fields, event types, tables and settings. Ends with exit code 1 and the reason when no
    /// daemon of this version would take it.
    #[command(
        after_help = "Example:\n  tally plugin check target/plugins/video-actions.wasm --settings '{\"weights\":{\"view\":1}}'"
    )]
    Check {
        /// The component
        file: PathBuf,
        /// Settings for it, a JSON object
        #[arg(long, value_name = "JSON", default_value = "{}")]
        settings: String,
        /// What the report looks like
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Looks at the plugins directory now, without waiting for the watcher
    ///
    /// Asks the admin door. Ends with exit code 1 when a plugin that is wanted does not run; the version before it goes
    /// on meanwhile.
    #[command(
        after_help = "Example:\n  cp new/video-actions.wasm plugins/ && tally plugin reload --to /tmp/tally.sock.admin"
    )]
    Reload(Asked),
    /// Lets an aggregator go on that is in quarantine, from what it saved last
    ///
    /// Asks the admin door. The same plugin goes on with its strikes forgiven, and catches up on what the log still has.
    /// A fixed plugin needs no resuming: put it into the plugins directory. Ends with exit code 1 and the reason when the
    /// aggregator is not in quarantine or cannot go on.
    #[command(after_help = "Example:\n  tally plugin resume video-actions --to /tmp/tally.sock.admin")]
    Resume {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
}

/// Where to ask, and how to print.
#[derive(Debug, clap::Args)]
pub struct Asked {
    #[command(flatten)]
    target: Target,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Asked {
    fn print(&self, value: &Value) -> anyhow::Result<()> {
        print(&answer(value, self.output, Paint::stdout()))
    }
}

/// Asks or checks, and prints.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(asked) => asked.print(&asked.target.get("/v1/plugins")?)?,
        Command::Inspect { name, asked } => {
            let (plugins, status) = (asked.target.get("/v1/plugins")?, asked.target.get("/v1/status")?);
            asked.print(&inspected(&name, &plugins, &status)?)?;
        }
        Command::Check { file, settings, output } => {
            let facts = tally_daemon::plugins::check::check(&file, &settings)
                .with_context(|| format!("{} would not be taken", file.display()))?;
            let mut value = serde_json::to_value(facts)?;
            if output == Output::Table {
                // A schema is for programs; taken apart it would fill the screen.
                value["settings_schema"] = value["settings_schema"].to_string().into();
            }
            print(&answer(&value, output, Paint::stdout()))?;
        }
        Command::Resume { name, asked } => {
            asked.print(&asked.target.post(&format!("/v1/plugins/{}/resume", encode(&name)))?)?;
        }
        Command::Reload(asked) => {
            let value = asked.target.post("/v1/plugins/reload")?;
            asked.print(&value)?;
            let stuck = not_running(&value);
            if !stuck.is_empty() {
                bail!("not everything wanted runs: {}", stuck.join("; "));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn plugins(value: &Value) -> &[Value] {
    value["plugins"].as_array().map_or(&[], Vec::as_slice)
}

/// What list and status say of one aggregator, in one object.
fn inspected(name: &str, list: &Value, status: &Value) -> anyhow::Result<Value> {
    let Some(plugin) = plugins(list).iter().find(|plugin| plugin["name"] == name) else {
        let names: Vec<&str> = plugins(list).iter().filter_map(|plugin| plugin["name"].as_str()).collect();
        let known = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        bail!("there is no aggregator {name:?}; running are: {known}");
    };
    let mut all = plugin.clone();
    for (key, value) in status["aggregators"][name].as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    Ok(all)
}

/// Names and reasons of the plugins that do not run as wanted: another build, or as before for a reason.
fn not_running(value: &Value) -> Vec<String> {
    plugins(value)
        .iter()
        .filter(|plugin| {
            let is_another = plugin["wanted_digest"] != plugin["running_digest"];
            let is_as_before = plugin["state"] == "running" && plugin["reason"].is_string();
            plugin["wanted_digest"].is_string() && (is_another || is_as_before)
        })
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
            {"name": "dealt", "wanted_digest": "4", "running_digest": "4", "state": "running", "reason": "no shard key"},
            {"name": "out", "wanted_digest": "5", "running_digest": "5", "state": "quarantined", "reason": "it trapped"},
        ]});
        assert_eq!(not_running(&value), ["broken (no component)", "new (no component)", "dealt (no shard key)"]);
        assert!(not_running(&json!({})).is_empty());
    }

    #[test]
    fn an_aggregator_is_inspected_in_one_object() {
        let list = json!({"plugins": [{"name": "a", "state": "running"}, {"name": "b"}]});
        let status = json!({"aggregators": {"a": {"lag": 3}}});
        assert_eq!(inspected("a", &list, &status).unwrap(), json!({"name": "a", "state": "running", "lag": 3}));
        let unknown = inspected("x", &list, &status).unwrap_err().to_string();
        assert_eq!(unknown, "there is no aggregator \"x\"; running are: a, b");
    }
}
