//! `tally query`: asks one aggregator for its report, one of its tables or one value.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::client::{Target, encode, with_parameters};
use crate::outcome::{Usage, print};
use crate::render::{self, Output, Paint};

/// Asks an aggregator for its totals.
///
/// With TABLE only for this table, with COLUMN only for that value of a table with one row, such as `summary`. Without
/// --min-sequence the answer covers at least everything up to about a second ago; asking never delays events.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The aggregator, e.g. video-actions
    name: String,
    /// One table, e.g. summary
    table: Option<String>,
    /// One column of a table that has one row; printed alone
    #[arg(conflicts_with_all = ["rows", "skip"])]
    column: Option<String>,
    /// Only this table and the summary; may be given several times
    #[arg(long = "table", value_name = "TABLE", conflicts_with = "table")]
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
    /// What the answer looks like; csv needs a TABLE
    #[arg(long, visible_alias = "output", value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs: the daemon's answer as it is, on one line.
    Json,
    /// For spreadsheets: one table with a header line.
    Csv,
}

const EXAMPLE: &str = "\
Example:
  tally query video-actions --to /tmp/tally.sock.query
  tally query video-actions summary hot_post --to http://localhost:7073
  tally query video-actions posts --rows 0 --format csv --to /tmp/tally.sock.query > posts.csv
  curl --unix-socket /tmp/tally.sock.query 'http://tally/v1/aggregators/video-actions?table=posts&rows=10'";

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err("write NAME=VALUE, e.g. percentiles=50,99".to_string()),
    }
}

/// Asks and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let one_table = args.table.is_some() && args.column.is_none();
    if args.format == Format::Csv && !one_table {
        let name = &args.name;
        return Err(Usage(anyhow::anyhow!(
            "csv is one table: name it, e.g. `tally query {name} summary --format csv`"
        ))
        .into());
    }
    let path = path(&args);
    let paint = Paint::stdout();
    print(&match args.format {
        Format::Csv => args.target.get_text(&path)?,
        Format::Json => render::answer(&args.target.get(&path)?, Output::Json, paint),
        Format::Table if args.column.is_some() => render::value(&args.target.get(&path)?),
        Format::Table if one_table => render::report_table(&args.target.get(&path)?, paint),
        Format::Table => render::report(&args.target.get(&path)?, paint),
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
    add("format", (args.format == Format::Csv).then(|| "csv".to_string()));
    for (name, value) in &args.parameters {
        add(&format!("param.{name}"), Some(value.clone()));
    }
    let pieces = [Some(&args.name), args.table.as_ref(), args.column.as_ref()];
    let pieces: Vec<String> = pieces.into_iter().flatten().map(|piece| encode(piece)).collect();
    with_parameters(format!("/v1/aggregators/{}", pieces.join("/")), &parameters)
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

    #[test]
    fn table_and_column_are_part_of_the_path() {
        assert_eq!(path_of("a posts --rows 3 --format csv"), "/v1/aggregators/a/posts?rows=3&format=csv");
        assert_eq!(path_of("a summary hot_post --output json"), "/v1/aggregators/a/summary/hot_post");
    }
}
