//! `cargo xtask`: everything about this repository that is more than one cargo command.
//!
//! It drives cargo, rustc and the `tally` binary from outside and must not depend on any of Tally's crates: it has to
//! work when they do not compile.

#![allow(clippy::disallowed_methods, reason = "time limits and pauses; nothing here decides about events")]

mod bench;
mod build;
mod clients;
mod components;
mod demo;
mod dependencies;
mod fuzz;
mod hostile;
mod instructions;
mod languages;
mod lint;
mod mutants;
mod packages;
mod planted;
mod project;
mod sim;
mod soak;
mod swaps;
mod test;
mod tidy;
mod torture;
mod wasm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use project::Project;

/// Builds, checks and shows Tally.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the `tally` binary (target/release/tally) and the components (target/plugins, target/example-plugins).
    Build(build::Args),
    /// Build everything, run the daemon with generated events and show live results until Ctrl-C.
    Demo(demo::Args),
    /// Build everything and run every test; prints "N passed, M failed" last.
    Test(test::Args),
    /// Put Python's packages for tests by real clients in target/clients; `test` does so by itself.
    Clients,
    /// Build the example plugin that is written in C, JavaScript and Python too, and check that all of them give what the one
    /// in Rust gives; prints what each costs. Installs their tools in target/languages.
    Languages(languages::Args),
    /// Let a daemon work for half an hour with every door, reloads and SIGHUPs at once, and check its books and its memory.
    Soak(soak::Args),
    /// Feed what reads bytes of others with bytes that a fuzzer makes up; prints "N targets, violations: M" last.
    Fuzz(fuzz::Args),
    /// Change the code in a thousand small ways, one at a time, and list the changes that no test notices.
    Mutants(mutants::Args),
    /// Simulate whole lives of the daemon with every fault: seeds, crash points, broken disks, rot. `sim --help` says more.
    Sim(sim::Args),
    /// Kill the daemon at random moments, let system calls fail, fill its disk, set its clock; prints counts and violations.
    Torture(torture::Args),
    /// Exchange plugin versions back to back under load, good and bad ones: every count stays exact, and senders hardly notice.
    Swaps(swaps::Args),
    /// Plant known bugs, one at a time, and show that the simulation catches each.
    Planted(planted::Args),
    /// Send hostile input of every kind by every door, with a well-behaved client beside it; prints what each case came to.
    Hostile(hostile::Args),
    /// Measure how fast Tally is on this machine: named scenarios, beside baselines (`bench --help` says more); or, with
    /// `--instructions`, check how many instructions the hot stages take; with `--peers`, run other programs on the same events.
    Bench(bench::Args),
    /// Check the rules of the repository: dependency direction, headers, file lengths, words.
    Tidy(tidy::Args),
    /// Run clippy on the plugins as they are compiled for Wasm.
    LintGuests(wasm::Args),
    /// Check licences and origins of everything this is built from.
    Dependencies,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            project::say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let project = Project::locate()?;
    match command {
        Command::Build(args) => build::run(&project, &args),
        Command::Demo(args) => demo::run(&project, &args),
        Command::Test(args) => test::run(&project, &args),
        Command::Clients => clients::install(&project),
        Command::Languages(args) => languages::run(&project, &args),
        Command::Soak(args) => soak::run(&project, &args),
        Command::Fuzz(args) => fuzz::run_targets(&project, &args),
        Command::Mutants(args) => mutants::run(&project, &args),
        Command::Sim(args) => sim::run(&project, &args),
        Command::Torture(args) => torture::run(&project, &args),
        Command::Swaps(args) => swaps::run(&project, &args),
        Command::Planted(args) => planted::run(&project, &args),
        Command::Hostile(args) => hostile::run(&project, &args),
        Command::Bench(args) => bench::run(&project, &args),
        Command::Tidy(args) => tidy::run(&project, &args),
        Command::LintGuests(args) => lint::guests(&project, &args),
        Command::Dependencies => dependencies::run(&project),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
