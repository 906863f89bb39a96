//! `tally completions` and `tally man`: what shells and manual pages need to know, made from the command line's own
//! definition, so that they cannot disagree with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use clap::builder::Resettable;

use crate::outcome::{Usage, print};

/// Prints what makes a shell complete commands and flags.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  source <(tally completions bash)
  tally completions zsh > \"${fpath[1]}/_tally\"
  tally completions fish > ~/.config/fish/completions/tally.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Shells that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints a manual page, or writes all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tally man send | man -l -
  tally man --dir ~/.local/share/man/man1")]
pub struct Man {
    /// The command, e.g. `plugin reload`; without one, tally itself
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the page of every command into this folder, made if missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints completions.
pub fn completions(args: Completions, command: clap::Command) -> anyhow::Result<ExitCode> {
    print(&String::from_utf8(complete(args.shell, command))?)?;
    Ok(ExitCode::SUCCESS)
}

fn complete(shell: Shell, mut command: clap::Command) -> Vec<u8> {
    use clap_complete::aot;
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    let mut script = Vec::new();
    aot::generate(shell, &mut command, "tally", &mut script);
    script
}

/// Prints or writes pages.
pub fn man(args: Man, command: clap::Command) -> anyhow::Result<ExitCode> {
    let pages = pages(command)?;
    if let Some(folder) = &args.dir {
        write(&pages, folder)?;
        print(&format!("{} pages written to {}\n", pages.len(), folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = [&["tally".to_string()][..], &args.command].concat().join("-");
    let page = pages.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        Usage(anyhow::anyhow!("there is no command `{}`; see `tally --help`", args.command.join(" ")))
    })?;
    print(std::str::from_utf8(&page.1)?)?;
    Ok(ExitCode::SUCCESS)
}

fn write(pages: &[(String, Vec<u8>)], folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, page) in pages {
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The page of every command, by its name, such as `tally-plugin-list`.
fn pages(mut command: clap::Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut rest = vec![command];
    while let Some(command) = rest.pop() {
        rest.extend(command.get_subcommands().cloned());
        let name = command.get_display_name().unwrap_or("tally").to_string();
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut page = Vec::new();
        let command = command.after_help(Resettable::Reset);
        clap_mangen::Man::new(command).title(name.to_uppercase()).render(&mut page)?;
        page.extend(example_section(&examples).into_bytes());
        pages.push((name, page));
    }
    pages.sort();
    Ok(pages)
}

/// Examples keep their lines.
fn example_section(text: &str) -> String {
    let lines: String = text.trim_end().lines().map(|line| format!("{}\n", verbatim(line))).collect();
    match lines.is_empty() {
        true => lines,
        false => format!(".SH EXAMPLES\n.nf\n{lines}.fi\n"),
    }
}

/// Nothing in it is a command of troff, and a hyphen can be copied as one.
fn verbatim(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;
    use clap::CommandFactory;
    use expect_test::expect;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(complete(*shell, Cli::command())).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell:?}: {}", command.get_name());
            }
            assert!(script.contains("retry-for"), "{shell:?}");
        }
    }

    #[test]
    fn examples_keep_their_lines_in_a_page() {
        expect![[r#"
            .SH EXAMPLES
            .nf
            Example:
              a \e \(aqb\(aq \-\-c
            \&.d
            .fi
        "#]]
        .assert_eq(&example_section("Example:\n  a \\ 'b' --c\n.d\n"));
        assert_eq!(example_section(""), "");
    }

    #[test]
    fn every_command_has_a_page() {
        let pages = pages(Cli::command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        expect![[r#"
            tally
            tally-batch
            tally-batch-last
            tally-batch-show
            tally-bench
            tally-completions
            tally-config
            tally-config-check
            tally-config-show
            tally-dead-letters
            tally-dead-letters-list
            tally-dead-letters-replay
            tally-dead-letters-show
            tally-generate
            tally-log
            tally-log-inspect
            tally-log-repair
            tally-man
            tally-plugin
            tally-plugin-bench
            tally-plugin-build
            tally-plugin-check
            tally-plugin-diff
            tally-plugin-drop
            tally-plugin-inspect
            tally-plugin-list
            tally-plugin-new
            tally-plugin-pause
            tally-plugin-plan
            tally-plugin-promote
            tally-plugin-rebuild
            tally-plugin-reload
            tally-plugin-remove
            tally-plugin-reset
            tally-plugin-resume
            tally-plugin-rollback
            tally-plugin-shadow
            tally-plugin-test
            tally-query
            tally-rejected
            tally-run
            tally-send
            tally-status
            tally-top
            tally-verify"#]]
        .assert_eq(&names.join("\n"));
        let folder = tempfile::tempdir().unwrap();
        write(&pages, &folder.path().join("man1")).unwrap();
        for (name, page) in &pages {
            let written = std::fs::read(folder.path().join("man1").join(format!("{name}.1"))).unwrap();
            assert!(written == *page && String::from_utf8_lossy(page).contains("SYNOPSIS"), "{name}");
        }
    }
}
