//! `tally query`: asks one aggregator for its report.

use std::process::ExitCode;

use crate::client::{Target, encode};
use crate::outcome::print;
use crate::render::{Output, answer, report};

/// Asks an aggregator for its totals.
///
/// Without --min-sequence the answer covers at least everything up to about a second ago; asking never delays events.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The aggregator, e.g. video-actions
    name: String,
    /// Only this table; may be given several times
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Most rows per table; 0 for all [default: 100]
    #[arg(long, value_name = "N")]
    rows: Option<u32>,
    /// Leave out the first rows of each table
    #[arg(long, value_name = "N")]
    skip: Option<u64>,
    /// Wait until the answer covers this sequence number (the `sequence` of an acknowledgement)
    #[arg(long, value_name = "S")]
    min_sequence: Option<u64>,
    /// How long to wait for it, e.g. 5s; at most 60s [default: 10s]
    #[arg(long, value_name = "TIME", requires = "min_sequence")]
    wait: Option<String>,
    /// A parameter for the aggregator, as NAME=VALUE; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    parameters: Vec<(String, String)>,
    #[command(flatten)]
    target: Target,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

const EXAMPLE: &str = "\
Example:
  tally query video-actions --table posts --rows 10 --to /tmp/tally.sock.query
  curl --unix-socket /tmp/tally.sock.query 'http://tally/v1/aggregators/video-actions?table=posts&rows=10'";

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("write NAME=VALUE, e.g. percentiles=50,99".to_string()),
    }
}

/// Asks and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let value = args.target.get(&path(&args))?;
    print(&match args.output {
        Output::Table => report(&value),
        Output::Json => answer(&value, Output::Json),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn path(args: &Args) -> String {
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: Option<String>| parameters.extend(value.map(|value| (name.to_string(), value)));
    for table in &args.tables {
        add("table", Some(table.clone()));
    }
    add("rows", args.rows.map(|rows| rows.to_string()));
    add("skip", args.skip.map(|skip| skip.to_string()));
    add("min_sequence", args.min_sequence.map(|sequence| sequence.to_string()));
    add("wait", args.wait.clone());
    for (name, value) in &args.parameters {
        add(&format!("param.{name}"), Some(value.clone()));
    }
    let parameters: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let mark = if parameters.is_empty() { "" } else { "?" };
    format!("/v1/aggregators/{}{mark}{}", encode(&args.name), parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn path_of(line: &str) -> String {
        let words = ["query", "--to", "q"].into_iter().chain(line.split(' '));
        path(&Line::parse_from(words).args)
    }

    #[test]
    fn flags_become_parameters() {
        assert_eq!(path_of("video-actions"), "/v1/aggregators/video-actions");
        assert_eq!(
            path_of("a/b --table posts --table x&y --rows 0 --skip 2 --min-sequence 9 --wait 5s --param p=50,99"),
            "/v1/aggregators/a%2Fb?table=posts&table=x%26y&rows=0&skip=2&min_sequence=9&wait=5s&param.p=50%2C99"
        );
    }
}
