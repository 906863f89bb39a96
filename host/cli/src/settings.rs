//! Where the daemon's configuration is read from: the file, the environment, and a flag for each key that the key table
//! gives one. Must not know: what the keys mean.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use tally_daemon::config::keys::Default;
use tally_daemon::config::{Flag, KEYS, Key, Kind, Sources};

/// The file and the flags.
#[derive(Debug, clap::Args)]
pub struct Layers {
    /// Configuration file (TOML); unknown keys are errors
    #[arg(long, value_name = "FILE", env = "TALLY_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Layers {
    /// All layers, those of the environment too.
    pub fn sources(self) -> Sources {
        Sources { file: self.config, environment: Sources::environment(), flags: self.flags.0 }
    }
}

/// `--flush-events N` and the like, and `--set KEY=VALUE` for every key.
#[derive(Debug)]
struct Flags(Vec<Flag>);

const SET: &str = "set";

/// The keys that have a flag of their own, and the flag's name without dashes.
fn flags() -> impl Iterator<Item = (&'static Key, &'static str)> {
    KEYS.iter().filter_map(|key| Some((key, key.flag?.trim_start_matches('-'))))
}

fn argument((key, name): (&'static Key, &'static str)) -> Arg {
    let value = match key.kind {
        _ if name.ends_with("-dir") => "DIR",
        Kind::Path => "PATH",
        Kind::Address => "ADDRESS",
        Kind::Count { .. } => "N",
        Kind::Time { .. } => "TIME",
        Kind::Word if name == "log-level" => "LEVEL",
        _ => "VALUE",
    };
    let default = match key.default {
        Default::Unset(_) => String::new(),
        default => format!(" [default: {default}]"),
    };
    let help = format!("{}{default} [env: {}]", key.help, key.variable());
    let argument = Arg::new(name).long(name).value_name(value).help(help);
    match name {
        "query-socket" => argument.visible_alias("query"),
        _ => argument,
    }
}

fn set() -> Arg {
    Arg::new(SET)
        .long(SET)
        .value_name("KEY=VALUE")
        .action(ArgAction::Append)
        .value_parser(|text: &str| match text.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_string(), value.to_string())),
            None => Err("write KEY=VALUE, e.g. --set limits.depth=32"),
        })
        .help("Sets any key of the configuration, e.g. --set limits.depth=32; `tally config --help` lists them")
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(argument)).arg(set())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let own = flags().filter_map(|(key, name)| {
            let value = matches.get_one::<String>(name)?.clone();
            Some(Flag { flag: format!("--{name}"), key: key.name.to_string(), value })
        });
        let set = matches.get_many::<(String, String)>(SET).into_iter().flatten();
        let set = set.map(|(key, value)| Flag { flag: format!("--set {key}"), key: key.clone(), value: value.clone() });
        Ok(Flags(own.chain(set).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Every key with its help, unit and default, for a help page.
pub fn every_key() -> String {
    let width = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            text.push('\n');
        }
        let reload = if key.reloadable { "; SIGHUP applies it" } else { "" };
        text += &format!("  {:width$}  {} ({}; default: {}{reload})\n", key.name, key.help, key.unit(), key.default);
    }
    text
}
