//! `tally config`: is the configuration right, and what is in force and why. Starts nothing.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::LazyLock;

use serde_json::{Value, json};
use tally_daemon::config::{Config, ConfigError, Loaded, Origin, Problem, inspect, key};

use crate::logs;
use crate::outcome::{Usage, print};
use crate::render::Output;
use crate::settings::{Layers, every_key};

/// Checks the configuration, or shows it.
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = KEYS.as_str(), after_help = "Example:\n  tally config check --config tally.toml\n\n`tally config --help` lists every key.")]
pub enum Command {
    /// Says everything that is wrong with a configuration, and what is odd about it
    ///
    /// Reads the same file, environment and flags as `tally run`. Ends with exit code 2 if the daemon would refuse the
    /// configuration, listing every mistake; otherwise with 0, also when there are warnings.
    #[command(after_help = "Example:\n  tally config check --config tally.toml")]
    Check(Args),
    /// Shows every key, its value, and where that comes from
    ///
    /// Reads the same file, environment and flags as `tally run`. Of secrets only the path of their file is shown.
    #[command(after_help = "Example:\n  BATCH_SIZE=100 tally config show --config tally.toml --output json")]
    Show(Args),
}

static KEYS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "\
Example:
  tally config show --config tally.toml

Every key can stand in the file, in the environment or on the command line; each wins over those before it:
  tally.toml    [flush] events = 100
  environment   TALLY_FLUSH_EVENTS=100 (lists with commas); BATCH_SIZE is flush.events, FLUSH_INTERVAL_SEC is
                flush.interval in whole seconds
  flag          --flush-events 100, or --set flush.events=100
Besides keys the file has [[aggregator]] (name, plugin, settings, shards) and [preset.NAME] (type or type_path,
timestamp, timestamp_format, event_id, rename, required).

Keys:
{}",
        every_key()
    )
});

/// What to check or show, and how to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    layers: Layers,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Checks or shows.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(args) => check(args),
        Command::Show(args) => {
            let config = load(args.layers).map_err(|error| Usage(error.into()))?.config;
            print(&match args.output {
                Output::Table => readable(&config),
                Output::Json => format!("{}\n", for_programs(&config)),
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(args: Args) -> anyhow::Result<ExitCode> {
    let (problems, warnings) = match load(args.layers) {
        Ok(Loaded { config, mut warnings }) => {
            warnings.extend(inspect(&config));
            (Vec::new(), warnings)
        }
        Err(ConfigError::Invalid { problems, warnings }) if args.output == Output::Json => (problems, warnings),
        Err(error) => return Err(Usage(error.into()).into()),
    };
    let mut text: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    text += match warnings.len() {
        0 => "the configuration is right\n",
        _ => "the configuration is right but for the warnings\n",
    };
    if args.output == Output::Json {
        let problem =
            |problem: &Problem| json!({"key": problem.key, "origin": origin(&problem.origin), "text": problem.text});
        let problems: Vec<Value> = problems.iter().map(problem).collect();
        text = format!("{}\n", json!({"valid": problems.is_empty(), "problems": problems, "warnings": warnings}));
    }
    print(&text)?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// A configuration that `tally run` would take.
fn load(layers: Layers) -> Result<Loaded, ConfigError> {
    let loaded = layers.sources().load()?;
    match logs::check(&loaded.config) {
        Ok(_) => Ok(loaded),
        Err(problem) => Err(ConfigError::Invalid { problems: vec![problem], warnings: loaded.warnings }),
    }
}

fn readable(config: &Config) -> String {
    let sections = config.sections();
    let rows = || sections.iter().flat_map(|section| &section.rows);
    let keys = rows().map(|row| row.key.len()).max().unwrap_or(0);
    // A single long value must not push everything else out of the window.
    let values = rows().map(|row| row.text.chars().count().min(36)).max().unwrap_or(0);
    let mut text = String::new();
    for section in &sections {
        if !text.is_empty() {
            text.push('\n');
        }
        for row in &section.rows {
            let _ = writeln!(text, "{:keys$}  {:values$}  {}", row.key, row.text, row.origin);
        }
    }
    text
}

fn for_programs(config: &Config) -> Value {
    let rows = config.sections().into_iter().flat_map(|section| section.rows);
    let one = |row: tally_daemon::config::Row| {
        let mut one = json!({"key": row.key, "value": row.value, "origin": origin(&row.origin)});
        if let Some(key) = key(&row.key) {
            one["unit"] = key.unit().into();
            one["default"] = key.default.to_string().into();
            one["variable"] = key.variable().into();
            one["reloadable"] = key.reloadable.into();
            one["limit"] = key.is_limit.into();
            one["help"] = key.help.into();
        }
        one
    };
    json!({"settings": rows.map(one).collect::<Vec<_>>()})
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::Default => json!({"from": "default"}),
        Origin::File(path, line) => json!({"from": "file", "file": path.display().to_string(), "line": line}),
        Origin::Environment(name) => json!({"from": "environment", "name": name}),
        Origin::Flag(name) => json!({"from": "flag", "name": name}),
    }
}
