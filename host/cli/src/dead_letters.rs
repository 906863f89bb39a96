//! `tally dead-letters`: events that an aggregator failed on alone. They are in the log, they count for everybody else, and
//! this aggregator goes on without them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tally_daemon::dead_letters;

use crate::client::{Target, encode, with_parameters};
use crate::outcome::print;
use crate::plugin;
use crate::render::{Output, Paint, answer, table};

/// Shows events that aggregators failed on and are spared, and gives them again to a plugin that was mended.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Lists the newest ones: which event, which aggregator, and how it failed
    #[command(after_help = "Example:\n  tally dead-letters list --aggregator video-actions --to /tmp/tally.sock.query")]
    List {
        /// Only those of this aggregator
        #[arg(long, value_name = "NAME")]
        aggregator: Option<String>,
        /// Most dead letters [default: 20]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        rows: Option<u32>,
        #[command(flatten)]
        from: From,
        /// What the answer looks like
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Shows one with the event, the plugin that failed and where in it
    #[command(after_help = "Example:\n  tally dead-letters show video-actions:123456 --to /tmp/tally.sock.query")]
    Show {
        /// As the list has it, NAME:SEQUENCE
        id: String,
        #[command(flatten)]
        from: From,
        /// What the answer looks like
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Gives an aggregator's dead letters to it again, each at its place among the events
    ///
    /// Asks the admin door, once the mended plugin runs. What the aggregator has is computed anew from the log by `plugin rebuild`, so
    /// nothing is counted twice, and every event stands where it came; `plugin rollback` goes back. Where the log does not hold its
    /// beginning any more, that gives up what came before, and has to be said. Ends with exit code 1 when events fail again.
    #[command(after_help = "Example:\n  tally dead-letters replay video-actions --to /tmp/tally.sock.admin")]
    Replay {
        /// The aggregator
        name: String,
        /// Give up what it has of events that the log no longer holds
        #[arg(long)]
        discard_state: bool,
        #[command(flatten)]
        target: Target,
        /// What the answer looks like
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct From {
    #[command(flatten)]
    target: Target,
    /// The data directory of a daemon that does not run, instead of asking one that does
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    data_dir: Option<PathBuf>,
}

/// Asks and prints.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    print(&match command {
        Command::Replay { name, discard_state, target, output } => {
            return replay(&name, discard_state, &target, output);
        }
        Command::List { aggregator, rows, from, output } => {
            let value = match &from.data_dir {
                Some(folder) => dead_letters::list(
                    &dead_letters::at_rest(folder)?,
                    rows.unwrap_or(20) as usize,
                    aggregator.as_deref(),
                ),
                None => {
                    let rows = rows.map(|rows| ("rows".to_string(), rows.to_string()));
                    let aggregator = aggregator.map(|name| ("aggregator".to_string(), name));
                    let parameters: Vec<_> = rows.into_iter().chain(aggregator).collect();
                    from.target.get(&with_parameters("/v1/dead-letters".to_string(), &parameters))?
                }
            };
            match output {
                Output::Json => answer(&value, Output::Json, Paint::stdout()),
                Output::Table => listed(&value, Paint::stdout()),
            }
        }
        Command::Show { id, from, output } => {
            let value = match &from.data_dir {
                Some(folder) => {
                    let found = dead_letters::at_rest(folder)?.into_iter().find(|letter| letter.id == id);
                    serde_json::to_value(found.with_context(|| format!("there is no dead letter {id:?} there"))?)?
                }
                None => from.target.get(&format!("/v1/dead-letters/{}", encode(&id)))?,
            };
            match output {
                Output::Json => answer(&value, Output::Json, Paint::stdout()),
                Output::Table => shown(&value, Paint::stdout()),
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn replay(name: &str, discard_state: bool, target: &Target, output: Output) -> anyhow::Result<ExitCode> {
    let ids = || -> anyhow::Result<Vec<String>> {
        let parameters = [("rows".to_owned(), "1000".to_owned()), ("aggregator".to_owned(), name.to_owned())];
        let value = target.get(&with_parameters("/v1/dead-letters".to_owned(), &parameters))?;
        let letters = value["dead_letters"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(letters.iter().filter_map(|letter| letter["id"].as_str().map(str::to_owned)).collect())
    };
    let before = ids()?;
    ensure!(!before.is_empty(), "there are no dead letters of aggregator {name:?}; see `tally dead-letters list`");
    plugin::rebuild(name, "same", discard_state, target)?;
    plugin::caught_up(name, target)?;
    let after = ids()?;
    let again: Vec<&str> = before.iter().filter(|id| after.contains(id)).map(String::as_str).collect();
    let value = json!({"given_again": before.len(), "applied": before.len() - again.len(), "failed_again": again});
    print(&match output {
        Output::Json => answer(&value, output, Paint::stdout()),
        Output::Table => format!("{} events were given again: {} applied\n", before.len(), before.len() - again.len()),
    })?;
    ensure!(again.is_empty(), "failed again: {}", again.join(", "));
    Ok(ExitCode::SUCCESS)
}

fn listed(value: &Value, paint: Paint) -> String {
    match value["dead_letters"].as_array() {
        Some(letters) if !letters.is_empty() => table(letters, Some(&["id", "time", "version", "reason"]), paint),
        _ => "no dead letters\n".to_string(),
    }
}

/// What has lines of its own stands behind the rest.
fn shown(value: &Value, paint: Paint) -> String {
    let mut rest = value.clone();
    let mut take = |key: &str| rest.as_object_mut().and_then(|rest| rest.remove(key)).unwrap_or_default();
    let (backtrace, event, truncated) = (take("backtrace"), take("event"), take("truncated"));
    let mut text = answer(&rest, Output::Table, paint);
    if let Some(backtrace) = backtrace.as_str().filter(|backtrace| !backtrace.is_empty()) {
        text += &format!("\nwhere, innermost first:\n{backtrace}\n");
    }
    text += &match (event.as_str(), truncated == true) {
        (Some(event), false) => format!("\nevent:\n{event}\n"),
        (Some(event), true) => format!("\nthe beginning of the event:\n{event}\n"),
        (None, _) => "\nthe log no longer held the event when this was kept\n".to_string(),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn letter() -> Value {
        json!({"id": "bad:7", "aggregator": "bad", "sequence": 7, "time": "2026-01-27T10:00:00.123456Z", "plugin": "probe",
               "version": "1.0.0", "digest": "ab", "reason": "`apply` trapped: unreachable",
               "backtrace": "trap (at 0x1)\napply (at 0x2)", "event": "{\"type\":\"x\"}", "length": 12, "truncated": false})
    }

    #[test]
    fn a_list_has_a_line_each() {
        expect![[r#"
            id     time                         version  reason
            bad:7  2026-01-27T10:00:00.123456Z  1.0.0    `apply` trapped: unreachable
        "#]]
        .assert_eq(&listed(&json!({"dead_letters": [letter()]}), Paint::PLAIN));
        expect![[r#"
            no dead letters
        "#]]
        .assert_eq(&listed(&json!({"dead_letters": []}), Paint::PLAIN));
    }

    #[test]
    fn one_is_shown_with_its_backtrace_and_its_event() {
        expect![[r#"
            aggregator  bad
            digest      ab
            id          bad:7
            length      12
            plugin      probe
            reason      `apply` trapped: unreachable
            sequence    7
            time        2026-01-27T10:00:00.123456Z
            version     1.0.0

            where, innermost first:
            trap (at 0x1)
            apply (at 0x2)

            event:
            {"type":"x"}
        "#]]
        .assert_eq(&shown(&letter(), Paint::PLAIN));
        let mut gone = letter();
        (gone["event"], gone["backtrace"]) = (Value::Null, "".into());
        let text = shown(&gone, Paint::PLAIN);
        assert!(text.ends_with("\nthe log no longer held the event when this was kept\n"), "{text}");
        assert!(!text.contains("where"), "{text}");
    }
}
