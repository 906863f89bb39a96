//! `tally plugin`: which plugins are wanted and running, a file on its own, and a look at the plugins directory right now.
//! What authors do before a daemon sees their plugin is in `kit`, versions that run beside others in `shadow`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::client::{Target, encode};
use crate::cost;
use crate::kit;
use crate::outcome::print;
use crate::progress::Meter;
use crate::render::{Output, Paint, answer};
use crate::shadow;

/// Lists, inspects, checks and resumes plugins, shows what a new version would change, runs it beside the old one, looks for changed ones
/// now; makes, builds, tests and measures new ones.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Shows each plugin's wanted and running digest, and why they differ
    #[command(
        after_help = "Example:\n  tally plugin list --to /tmp/tally.sock.query\n  tally plugin list --wide --to /tmp/tally.sock.query"
    )]
    List {
        /// Show also what each costs: time and instructions per event, the largest share of its compute budget that a call has
        /// used, memory, saved bytes, and how long cuts, flushes and questions take
        ///
        /// Times are averages since the daemon started, of what the daemon itself measures. Instructions are wasmtime's units
        /// of fuel, about one for each WebAssembly instruction. A cut saves what is open; commit takes that in until it is on
        /// disk: merge, report (for a flush) and what is left.
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// Shows everything the daemon knows of one running aggregator
    #[command(after_help = "Example:\n  tally plugin inspect video-actions --to /tmp/tally.sock.query")]
    Inspect {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Makes a Rust project for a new plugin, which builds and passes its tests at once
    ///
    /// It needs nothing but Rust: the SDK's sources are written into it.
    #[command(after_help = "Example:\n  tally plugin new page-views && cd page-views && tally plugin test")]
    New(kit::New),
    /// Builds a Rust project into a component, and checks it as the daemon would
    ///
    /// Uses Rust's target wasm32-unknown-unknown, and has rustup add it where it is missing. The same source gives the same bytes
    /// in any folder.
    #[command(after_help = "Example:\n  tally plugin build page-views --into plugins")]
    Build(kit::Build),
    /// Tests a plugin: its own tests, the component on sample events, and the laws of the contract
    ///
    /// Of a Rust project, its unit tests are run first and the component is built. Then the component runs in the daemon's engine: its
    /// report of the sample events is compared with the golden one, and each law is tried on samples and on random events of the
    /// fields it declares. A law that is broken is shown on the fewest events that break it. Ends with exit code 1 when
    /// anything failed.
    #[command(
        after_help = "Example:\n  tally plugin test page-views\n  tally plugin test target/plugins/video-actions.wasm --events events.ndjson --seed 7"
    )]
    Test(kit::Test),
    /// Measures what an event costs a plugin, and what that makes of a daemon
    ///
    /// On one core, in the daemon's engine, without a daemon, on generated or recorded events: time and compute per event, memory,
    /// saved bytes. From that it forecasts the events/s that a core applies, the memory that a daemon needs for it, and what a
    /// thousand more events add.
    #[command(
        after_help = "Example:\n  tally plugin bench target/plugins/video-actions.wasm\n  tally plugin bench target/plugins/video-actions.wasm --settings '{}' --events events.ndjson"
    )]
    Bench(kit::Bench),
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
    /// Shows what a component would change if it were put into the plugins directory; changes nothing
    ///
    /// Asks the admin door of a running daemon, which checks everything that it would check before a swap, on the state that it has
    /// saved. `state` says what would become of the state: `same` (this version runs already), `new` (there is none), `keep`,
    /// `migrate` (the new version loads the older state version) or `refused`, with the reason. Ends with exit code 1 when it
    /// would be refused.
    #[command(
        after_help = "Example:\n  tally plugin plan new/video-actions.wasm --to /tmp/tally.sock.admin && cp new/video-actions.wasm plugins/"
    )]
    Plan {
        /// The component
        file: PathBuf,
        /// The plugin that it would be, if not the file's name without its ending
        #[arg(long, value_name = "PLUGIN")]
        name: Option<String>,
        #[command(flatten)]
        asked: Asked,
    },
    /// Runs a new version of an aggregator beside the old one, on live traffic and on state of its own
    ///
    /// Asks the admin door. It goes on from what the aggregator has saved, as it would when put into the plugins directory, or counts
    /// anew with --from. It lives in memory alone, takes no part in records or in the log, and costs processor time and memory; nothing
    /// waits for it, and a failing call ends it alone. `plugin list` shows how far it is. `plugin diff` compares the two, `plugin drop`
    /// ends it; a restart of the daemon forgets it. One at a time beside an aggregator, under the settings that this has.
    #[command(
        after_help = "Example:\n  tally plugin shadow video-actions new/video-actions.wasm --to /tmp/tally.sock.admin\n  tally plugin diff video-actions --to /tmp/tally.sock.query"
    )]
    Shadow(shadow::Shadow),
    /// Shows where the reports of two versions of an aggregator differ, and by how much
    ///
    /// With NAME alone: the version that runs and its shadow, as of the same cut, asked of a running daemon. With FILE and --from: the
    /// version that ran last and the component in FILE, both from nothing over the log of a daemon that is not running, as of its last
    /// cut; nothing is changed. Rows are matched by their key columns. Ends with exit code 3 when there are differences.
    #[command(
        after_help = "Example:\n  tally plugin diff video-actions --to /tmp/tally.sock.query\n  tally plugin diff video-actions new/video-actions.wasm --from beginning --data-dir data\n  tally plugin diff video-actions new/video-actions.wasm --from 2026-01-27T10:00:00Z --data-dir data --rows 100"
    )]
    Diff(shadow::Diff),
    /// Ends the version that runs beside an aggregator, and forgets it
    ///
    /// Asks the admin door. What runs in its own right goes on as it did.
    #[command(after_help = "Example:\n  tally plugin drop video-actions --to /tmp/tally.sock.admin")]
    Drop(shadow::Drop),
    /// Puts the shadow of an aggregator in its place
    ///
    /// Asks the admin door. The new version goes on with the state that the shadow has, so nothing is computed anew; it runs in place of the
    /// file, until the plugins directory has another file. `plugin rollback` goes back to the version and the state before.
    #[command(after_help = "Example:\n  tally plugin promote video-actions --to /tmp/tally.sock.admin")]
    Promote {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Looks at the plugins directory now, without waiting for the watcher
    ///
    /// Asks the admin door. Ends with exit code 1 when a plugin that is wanted does not run; the version before it goes
    /// on meanwhile.
    #[command(
        after_help = "Example:\n  cp new/video-actions.wasm plugins/ && tally plugin reload --to /tmp/tally.sock.admin"
    )]
    Reload(Asked),
    /// Has an aggregator stop taking events, until it is resumed
    ///
    /// Asks the admin door. What it has is kept, also over restarts; when it is resumed it catches up on what the log still has. So
    /// does an aggregator whose file is taken out of the plugins directory and put back.
    #[command(after_help = "Example:\n  tally plugin pause video-actions --to /tmp/tally.sock.admin")]
    Pause {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Lets an aggregator go on that is paused or in quarantine, from what it saved last
    ///
    /// Asks the admin door. The same plugin goes on with its strikes forgiven, and catches up on what the log still has.
    /// A fixed plugin needs no resuming after a quarantine: put it into the plugins directory. Ends with exit code 1 and the reason
    /// when there is nothing to resume or it cannot go on.
    #[command(after_help = "Example:\n  tally plugin resume video-actions --to /tmp/tally.sock.admin")]
    Resume {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Computes an aggregator's state anew from the log, with the version that is wanted
    ///
    /// Asks the admin door. It begins with nothing, applies what the log has, and then goes on with what comes; ingestion and everybody
    /// else go on meanwhile. Use it where a new version does not load the state of the old one, counts something that the old one did not
    /// keep, or mends what was counted wrongly. Shows how far it is, until it stands where the others do. `plugin rollback` goes back.
    #[command(
        after_help = "Example:\n  tally plugin rebuild video-actions --to /tmp/tally.sock.admin\n  tally plugin rebuild video-actions --from 2026-01-27T00:00:00Z --discard-state"
    )]
    Rebuild {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        /// Where it begins: `beginning` of the log, a time (RFC 3339), behind the last cut until then, or `same`: where what it has began
        #[arg(long, value_name = "PLACE", default_value = "beginning")]
        from: String,
        /// Give up what it has of events before that place
        #[arg(long)]
        discard_state: bool,
        /// Do not wait until it stands where the others do
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// Has an aggregator begin with nothing and the next event
    ///
    /// Asks the admin door. What it has computed is given up, so that has to be said. `plugin rollback` goes back, as long as the log
    /// holds what came since.
    #[command(after_help = "Example:\n  tally plugin reset video-actions --discard-state --to /tmp/tally.sock.admin")]
    Reset {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        /// Give up what it has
        #[arg(long)]
        discard_state: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// Takes an aggregator back to the version and the state before its last swap, rebuild or reset
    ///
    /// Asks the admin door. It catches up on what came since, which the log has to hold. Where that was another version it runs in place
    /// of the file, until the plugins directory has another file. A second rollback goes forward again.
    #[command(after_help = "Example:\n  tally plugin rollback video-actions --to /tmp/tally.sock.admin")]
    Rollback {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Forgets what an aggregator has computed that is paused, or whose file is gone
    ///
    /// Asks the admin door. The log and the records that are written keep what they have. Should its file come back, it begins anew.
    #[command(after_help = "Example:\n  tally plugin remove old-metric --discard-state --to /tmp/tally.sock.admin")]
    Remove {
        /// The aggregator's name, as `plugin list` shows it
        name: String,
        /// Give up what it has
        #[arg(long)]
        discard_state: bool,
        #[command(flatten)]
        asked: Asked,
    },
}

/// Where to ask, and how to print.
#[derive(Debug, clap::Args)]
pub struct Asked {
    #[command(flatten)]
    pub target: Target,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

impl Asked {
    /// Prints an answer as it is.
    pub fn print(&self, value: &Value) -> anyhow::Result<()> {
        print(&answer(value, self.output, Paint::stdout()))
    }

    /// Prints a list of plugins; people are spared what they cost.
    fn print_list(&self, list: &Value) -> anyhow::Result<()> {
        match self.output {
            Output::Json => self.print(list),
            Output::Table => self.print(&shadow::listed(&cost::left_out(list.clone()))),
        }
    }
}

/// Asks or checks, and prints.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { wide, asked } => {
            let value = asked.target.get("/v1/plugins")?;
            asked.print_list(&value)?;
            if wide && asked.output == Output::Table {
                print(&format!("\n{}", cost::costs(&value, Paint::stdout())))?;
            }
        }
        Command::Inspect { name, asked } => {
            let (plugins, status) = (asked.target.get("/v1/plugins")?, asked.target.get("/v1/status")?);
            asked.print(&inspected(&name, &plugins, &status)?)?;
        }
        Command::New(args) => kit::new(&args)?,
        Command::Build(args) => kit::build(&args)?,
        Command::Test(args) => return kit::test(&args),
        Command::Bench(args) => kit::bench(&args)?,
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
        Command::Plan { file, name, asked } => {
            let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let stem = || file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
            let name = name.or_else(stem).context("the file's name is no plugin's; give one with --name")?;
            let value = asked.target.send(&format!("/v1/plugins/{}/plan", encode(&name)), bytes.into())?;
            match asked.output {
                Output::Table => print(&planned(&value))?,
                _ => asked.print(&value)?,
            }
            let refused = refused(&value);
            if !refused.is_empty() {
                bail!("it would not run: {}", refused.join("; "));
            }
        }
        Command::Shadow(args) => shadow::shadow(args)?,
        Command::Diff(args) => return shadow::compare(args),
        Command::Drop(args) => shadow::drop(args)?,
        Command::Promote { name, asked } => change(&name, "promote", &asked)?,
        Command::Pause { name, asked } => change(&name, "pause", &asked)?,
        Command::Resume { name, asked } => change(&name, "resume", &asked)?,
        Command::Rollback { name, asked } => change(&name, "rollback", &asked)?,
        Command::Reset { name, discard_state, asked } => {
            change(&name, &format!("reset?discard_state={discard_state}"), &asked)?;
        }
        Command::Remove { name, discard_state, asked } => {
            change(&name, &format!("remove?discard_state={discard_state}"), &asked)?;
        }
        Command::Rebuild { name, from, discard_state, no_wait, asked } => {
            let begun = rebuild(&name, &from, discard_state, &asked.target)?;
            asked.print_list(&if no_wait { begun } else { caught_up(&name, &asked.target)? })?;
        }
        Command::Reload(asked) => {
            let value = asked.target.post("/v1/plugins/reload")?;
            asked.print_list(&value)?;
            let stuck = not_running(&value);
            if !stuck.is_empty() {
                bail!("not everything wanted runs: {}", stuck.join("; "));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn change_path(name: &str, how: &str) -> String {
    format!("/v1/plugins/{}/{how}", encode(name))
}

fn change(name: &str, how: &str, asked: &Asked) -> anyhow::Result<()> {
    asked.print_list(&asked.target.post(&change_path(name, how))?)
}

/// Has an aggregator begin anew; gives the list of then.
pub fn rebuild(name: &str, from: &str, discard_state: bool, target: &Target) -> anyhow::Result<Value> {
    target.post(&change_path(name, &format!("rebuild?from={}&discard_state={discard_state}", encode(from))))
}

/// Waits until an aggregator stands where the others do, and shows how far it is. Gives the list of then.
pub fn caught_up(name: &str, target: &Target) -> anyhow::Result<Value> {
    let mut meter: Option<Meter> = None;
    loop {
        let list = target.get("/v1/plugins")?;
        let plugin = plugins(&list).iter().find(|plugin| plugin["name"] == name);
        let plugin = plugin.with_context(|| format!("aggregator {name} is gone"))?;
        let how_far = &plugin["catching_up"];
        if plugin["state"] == "starting" {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        if plugin["state"] != "running" {
            bail!("aggregator {name} is {}: {}", text(&plugin["state"]), text(&plugin["reason"]));
        }
        let (Some(at), Some(last)) = (how_far["sequence"].as_u64(), how_far["last_sequence"].as_u64()) else {
            if let Some(meter) = &meter {
                meter.end();
            }
            return Ok(list);
        };
        let meter = meter.get_or_insert_with(|| Meter::start(Some(last)));
        meter.show(at, |seconds| format!("{at} of {last} events, {:.0} a second", at as f64 / seconds));
        std::thread::sleep(Duration::from_millis(100));
    }
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
            let is_another = plugin["wanted_digest"].is_string() && plugin["wanted_digest"] != plugin["running_digest"];
            let is_as_before = plugin["state"] == "running" && plugin["reason"].is_string();
            let is_held = plugin["held"].is_string() && plugin["running_digest"].is_string();
            !is_held && (is_another || is_as_before || plugin["state"] == "failed")
        })
        .map(|plugin| {
            let name = plugin["name"].as_str().unwrap_or("?");
            let reason = plugin["reason"].as_str().unwrap_or("no reason given");
            format!("{name} ({reason})")
        })
        .collect()
}

/// A plan for people: a paragraph for each aggregator.
fn planned(value: &Value) -> String {
    let mut out = String::new();
    for entry in value["plan"].as_array().into_iter().flatten() {
        let bytes = entry["saved_bytes"].as_u64().unwrap_or(0);
        let state = match text(&entry["state"]) {
            "same" => "this version runs already".to_owned(),
            "new" => "none: it begins with the next event".to_owned(),
            "keep" => format!("keep: {bytes} bytes saved are carried over"),
            "migrate" => format!(
                "migrate: {bytes} bytes saved are carried over by the new version, which loads the older state version"
            ),
            _ => format!("refused: {}", text(&entry["reason"])),
        };
        let _ = writeln!(out, "{}\n  {:<10}{state}", text(&entry["name"]), "state");
        for (key, label) in [("running", "runs"), ("wanted", "wanted")] {
            let version = &entry[key];
            if version.is_object() {
                let (name, state_version) = (text(&version["version"]), text(&version["state_version"]));
                let _ =
                    writeln!(out, "  {label:<10}{name}, state version {state_version:?}, {}", text(&version["digest"]));
            }
        }
        let catches_up = entry["catches_up_events"].as_u64().unwrap_or(0);
        if catches_up > 0 {
            let _ =
                writeln!(out, "  {:<10}{catches_up} events of the log before it stands where the others do", "reads");
        }
        let rebuild = &entry["rebuild"];
        let (events, behind) =
            (rebuild["events"].as_u64().unwrap_or(0), rebuild["behind_sequence"].as_u64().unwrap_or(0));
        if entry["state"] != "same" && events > 0 {
            let lost = match behind {
                0 => String::new(),
                behind => format!(", and leave out the {behind} before them, which the log no longer holds"),
            };
            let _ = writeln!(out, "  {:<10}would read {events} events of the log{lost}", "rebuild");
        }
        let lists = [
            (&entry["added"]["event_types"], "+ type"),
            (&entry["removed"]["event_types"], "- type"),
            (&entry["added"]["fields"], "+ field"),
            (&entry["removed"]["fields"], "- field"),
            (&entry["changed_fields"], "~ field"),
            (&entry["warnings"], "warning"),
        ];
        for (list, label) in lists {
            for item in list.as_array().into_iter().flatten() {
                let _ = writeln!(out, "  {label:<10}{}", text(item));
            }
        }
    }
    out
}

/// Names and reasons of the aggregators for which a version would be refused.
fn refused(value: &Value) -> Vec<String> {
    let plan = value["plan"].as_array().map_or(&[][..], Vec::as_slice);
    let reason = |entry: &Value| format!("{} ({})", text(&entry["name"]), text(&entry["reason"]));
    plan.iter().filter(|entry| entry["state"] == "refused").map(reason).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
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
            {"name": "pipe", "wanted_digest": null, "running_digest": "6", "state": "running", "reason": "no file"},
            {"name": "folder", "wanted_digest": null, "running_digest": null, "state": "failed", "reason": "no file"},
            {"name": "out", "wanted_digest": "5", "running_digest": "5", "state": "quarantined", "reason": "it trapped"},
        ]});
        let expected = [
            "broken (no component)",
            "new (no component)",
            "dealt (no shard key)",
            "pipe (no file)",
            "folder (no file)",
        ];
        assert_eq!(not_running(&value), expected);
        assert!(not_running(&json!({})).is_empty());
    }

    #[test]
    fn what_would_be_refused_is_a_failure() {
        let value = json!({"plan": [
            {"name": "fine", "state": "keep", "reason": null},
            {"name": "other", "state": "refused", "reason": "no shard key"},
        ]});
        assert_eq!(refused(&value), ["other (no shard key)"]);
        assert!(refused(&json!({"plan": []})).is_empty());
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
