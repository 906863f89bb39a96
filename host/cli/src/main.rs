//! The `tally` binary: parses the command line and passes each subcommand to its file. Knows no subcommand's business.
//!
//! Exit codes: 0 done, 1 the answer is no or it failed, 2 asked wrongly (flags or configuration), 3 what was compared differs.

mod address;
mod batch;
mod bench;
mod client;
mod config;
mod connect;
mod cost;
mod dead_letters;
mod generate;
mod http;
mod kit;
mod log;
mod logs;
mod outcome;
mod pages;
mod plugin;
mod progress;
mod query;
mod rejected;
mod render;
mod run;
mod send;
mod settings;
mod shadow;
mod status;
mod top;
mod units;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Counts what happens: events in by any door, durable, aggregated by Wasm plugins, answered at once.
#[derive(Debug, Parser)]
#[command(name = "tally", version, max_term_width = 100, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example: start a daemon, send it a file, ask it, watch it
  tally run --data-dir data --plugins-dir target/plugins --unix /tmp/tally.sock
  tally send events.ndjson --to unix:/tmp/tally.sock --ack
  tally query video-actions --to /tmp/tally.sock.query
  tally top --to /tmp/tally.sock.query

Exit codes: 0 done; 1 the answer is no, or it failed; 2 asked wrongly (flags or configuration);
3 what was compared differs (plugin diff)";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Send(send::Args),
    Generate(generate::Args),
    Query(query::Args),
    Status(status::Args),
    Top(top::Args),
    #[command(subcommand)]
    Batch(batch::Command),
    Rejected(rejected::Args),
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    #[command(subcommand)]
    Plugin(plugin::Command),
    #[command(subcommand)]
    Config(config::Command),
    Verify(verify::Args),
    #[command(subcommand)]
    Log(log::Command),
    Bench(bench::Args),
    Completions(pages::Completions),
    Man(pages::Man),
}

fn main() -> ExitCode {
    tally_daemon::allocator::bound();
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Send(args) => send::run(args),
        Command::Generate(args) => generate::run(args).map(|()| ExitCode::SUCCESS),
        Command::Query(args) => query::run(args),
        Command::Status(args) => status::run(args),
        Command::Top(args) => top::run(args),
        Command::Batch(command) => batch::run(command),
        Command::Rejected(args) => rejected::run(args),
        Command::DeadLetters(command) => dead_letters::run(command),
        Command::Plugin(command) => plugin::run(command),
        Command::Config(command) => config::run(command),
        Command::Verify(args) => verify::run(args),
        Command::Log(command) => log::run(command),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => pages::completions(args, Cli::command()),
        Command::Man(args) => pages::man(args, Cli::command()),
    };
    outcome::exit_code(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `look` with every command that does something, and its full name.
    fn every_leaf(mut command: clap::Command, look: &mut dyn FnMut(&str, clap::Command)) {
        command.build();
        let mut rest = vec![command];
        while let Some(command) = rest.pop() {
            let inner: Vec<_> = command.get_subcommands().filter(|inner| inner.get_name() != "help").cloned().collect();
            if inner.is_empty() {
                let name = command.get_bin_name().unwrap_or_default().to_string();
                look(&name, command);
            }
            rest.extend(inner);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_teaches_by_an_example() {
        let mut names = Vec::new();
        every_leaf(Cli::command(), &mut |name, mut command| {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{name} --help has no example:\n{help}");
            assert!(help.contains(name), "the example of {name} shows something else");
            names.push(name.to_string());
        });
        assert!(names.contains(&"tally plugin reload".to_string()), "{names:?}");
    }

    #[test]
    fn what_is_asked_of_the_daemon_can_be_had_as_json() {
        every_leaf(Cli::command(), &mut |name, command| {
            let silent = ["tally run", "generate", "completions", "man", "top", "config check", "plugin new"]
                .iter()
                .any(|own| name.ends_with(own));
            let output = command.get_arguments().find(|argument| {
                argument.get_long() == Some("output")
                    || argument.get_all_aliases().unwrap_or_default().contains(&"output")
            });
            let json = output.is_some_and(|output| output.get_possible_values().iter().any(|v| v.get_name() == "json"));
            assert!(json || silent, "{name} has no --output json");
        });
    }
}
