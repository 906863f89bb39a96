//! `tally rejected`: lines that were no events, why, and how many there were.

use std::process::ExitCode;

use serde_json::Value;

use crate::client::{Target, with_parameters};
use crate::outcome::print;
use crate::render::{Output, Paint, answer, table};

/// Shows the newest rejected lines, and how many there were by reason since the log began.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tally rejected --reason invalid_timestamp --rows 5 --to /tmp/tally.sock.query")]
pub struct Args {
    /// Only lines rejected for this reason, e.g. invalid_json
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Most lines [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rows: Option<u32>,
    #[command(flatten)]
    target: Target,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Asks and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let rows = args.rows.map(|rows| ("rows".to_string(), rows.to_string()));
    let reason = args.reason.map(|reason| ("reason".to_string(), reason));
    let parameters: Vec<_> = rows.into_iter().chain(reason).collect();
    let value = args.target.get(&with_parameters("/v1/rejected".to_string(), &parameters))?;
    print(&match args.output {
        Output::Json => answer(&value, Output::Json, Paint::stdout()),
        Output::Table => readable(&value, Paint::stdout()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn readable(value: &Value, paint: Paint) -> String {
    let counts = match value["counts"].as_object() {
        Some(counts) if !counts.is_empty() => answer(&value["counts"], Output::Table, paint),
        _ => "nothing was rejected\n".to_string(),
    };
    let lines: Vec<Value> = value["rejected"].as_array().into_iter().flatten().map(one).collect();
    match lines.is_empty() {
        true => counts,
        false => {
            let columns = ["time", "source", "line", "reason", "detail", "bytes"];
            format!("{counts}\n{}", table(&lines, Some(&columns), paint))
        }
    }
}

/// Bytes that are no text are told by how many there are.
fn one(line: &Value) -> Value {
    let mut line = line.clone();
    if line["bytes"].is_null() {
        line["bytes"] = format!("({} bytes, not UTF-8)", line["length"]).into();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn counts_come_first_then_the_newest_lines() {
        let value = json!({"counts": {"invalid_json": 3, "missing_type": 1}, "rejected": [
            {"time": "2026-01-27T10:00:00.123456Z", "source": "unix", "line": 7, "reason": "invalid_json",
             "detail": "expected value", "length": 4, "bytes": "{bad", "truncated": false},
            {"time": "2026-01-27T10:00:00.123456Z", "source": "unix", "line": 6, "reason": "invalid_utf8",
             "detail": "at byte 3", "length": 12, "bytes_base64": "AAAA", "truncated": false},
        ]});
        expect![[r#"
            invalid_json  3
            missing_type  1

            time                         source  line  reason        detail          bytes
            2026-01-27T10:00:00.123456Z  unix       7  invalid_json  expected value  {bad
            2026-01-27T10:00:00.123456Z  unix       6  invalid_utf8  at byte 3       (12 bytes, not UTF-8)
        "#]]
        .assert_eq(&readable(&value, Paint::PLAIN));
        expect![[r#"
            nothing was rejected
        "#]]
        .assert_eq(&readable(&json!({"counts": {}, "rejected": []}), Paint::PLAIN));
    }
}
