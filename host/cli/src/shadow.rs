//! `tally plugin shadow`, `diff` and `drop`: a new version beside the one that runs, and where the reports of the two differ. The work is
//! the daemon's; this asks and prints.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};
use tally_daemon::plugins::offline::{DiffOptions, diff};
use tally_daemon::plugins::replica::Since;

use crate::client::{encode, with_parameters};
use crate::outcome::{DIFFERS, Usage, print};
use crate::plugin::Asked;
use crate::progress::while_waiting;
use crate::render::{Output, Paint, answer, table};

/// `tally plugin shadow`.
#[derive(Debug, clap::Args)]
pub struct Shadow {
    /// The aggregator beside which it runs, as `plugin list` shows it
    name: String,
    /// The component of the new version
    file: PathBuf,
    /// Count anew from the last cut at or before this time (RFC 3339), or from the `beginning` of the log
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// `tally plugin diff`.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The aggregator, as `plugin list` shows it
    name: String,
    /// Compare with this component, without a daemon
    #[arg(requires = "from")]
    file: Option<PathBuf>,
    /// Where both count from: the last cut at or before this time (RFC 3339), or the `beginning` of the log
    #[arg(long, value_name = "TIME", requires = "file", value_parser = str::parse::<Since>)]
    from: Option<Since>,
    /// With FILE: the data directory of a daemon that is not running
    #[arg(long, value_name = "DIR", env = "TALLY_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Most rows of each kind of difference that are shown of a table; all are counted
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    rows: u32,
    #[command(flatten)]
    asked: Asked,
}

/// `tally plugin drop`.
#[derive(Debug, clap::Args)]
pub struct Drop {
    /// The aggregator, as `plugin list` shows it
    name: String,
    #[command(flatten)]
    asked: Asked,
}

/// Starts a shadow.
pub fn shadow(args: Shadow) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let from = args.from.map(|from| ("from".to_owned(), from));
    let path = with_parameters(path(&args.name, "shadow"), from.as_slice());
    args.asked.print(&args.asked.target.send(&path, bytes.into())?)
}

/// Ends one.
pub fn drop(args: Drop) -> anyhow::Result<()> {
    args.asked.print(&args.asked.target.delete(&path(&args.name, "shadow"))?)
}

/// Compares a shadow, or a file over a log at rest, with what runs.
pub fn compare(args: Diff) -> anyhow::Result<ExitCode> {
    let value = match (args.file, args.from) {
        (Some(file), Some(since)) => {
            let without = || Usage(anyhow!("which log? Give --data-dir DIR, or set TALLY_DATA_DIR"));
            let data_dir = args.data_dir.ok_or_else(without)?;
            let options = DiffOptions { data_dir, name: args.name, file, since, rows: args.rows as usize };
            serde_json::to_value(while_waiting("replaying the log", || diff(&options))?)?
        }
        _ => {
            let rows = [("rows".to_owned(), args.rows.to_string())];
            args.asked.target.get(&with_parameters(path(&args.name, "diff"), &rows))?
        }
    };
    print(&match args.asked.output {
        Output::Table => readable(&value, Paint::stdout()),
        Output::Json => answer(&value, Output::Json, Paint::stdout()),
    })?;
    Ok(if value["equal"] == true { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn path(name: &str, what: &str) -> String {
    format!("/v1/plugins/{}/{what}", encode(name))
}

/// The list of plugins with each shadow on a line of its own, below its aggregator.
pub fn listed(list: &Value) -> Value {
    let mut lines = Vec::new();
    for plugin in list["plugins"].as_array().into_iter().flatten() {
        let mut plugin = plugin.clone();
        let shadow = plugin.as_object_mut().and_then(|plugin| plugin.remove("shadow"));
        let name = plugin["plugin"].clone();
        let how_far = &plugin["catching_up"];
        if let (Some(at), Some(last)) = (how_far["sequence"].as_u64(), how_far["last_sequence"].as_u64()) {
            plugin["catching_up"] = format!("{at} of {last}").into();
        }
        lines.push(plugin);
        lines.extend(shadow.map(|shadow| {
            json!({
                "name": "+ shadow",
                "plugin": name,
                "state": shadow["state"],
                "version": shadow["version"],
                "running_digest": shadow["digest"],
                "reason": shadow["reason"],
                "behind": shadow["behind"],
            })
        }));
    }
    json!({ "plugins": lines })
}

/// A comparison for people: both versions, then a paragraph for each table that differs.
fn readable(value: &Value, paint: Paint) -> String {
    let mut out = format!("{} as of cut {}, event {}\n", text(&value["name"]), value["cut"], value["sequence"]);
    for side in ["running", "new"] {
        let version = &value[side];
        let (name, state_version) = (text(&version["version"]), text(&version["state_version"]));
        let _ = writeln!(out, "  {side:<9}{name}, state version {state_version:?}, {}", text(&version["digest"]));
    }
    let tables = value["tables"].as_array().map_or(&[][..], Vec::as_slice);
    let equal: u64 = tables.iter().filter_map(|table| table["equal_rows"].as_u64()).sum();
    if value["equal"] == true {
        let _ = writeln!(out, "no differences: {equal} rows in {} tables are equal", tables.len());
        return out;
    }
    for one in tables {
        let differs = ["differing_rows", "only_running_rows", "only_new_rows"].iter().any(|kind| one[*kind] != 0);
        if differs || !rows(&one["changed_columns"]).is_empty() {
            out += &format!("\n{}", of_table(one, paint));
        }
    }
    out
}

fn of_table(one: &Value, paint: Paint) -> String {
    let mut out = format!(
        "{}: {} rows differ, {} are equal, {} only in running, {} only in new\n",
        text(&one["table"]),
        one["differing_rows"],
        one["equal_rows"],
        one["only_running_rows"],
        one["only_new_rows"]
    );
    for change in rows(&one["changed_columns"]) {
        let kind = |side: &str| change[side].as_str().unwrap_or("not there").to_owned();
        let _ = writeln!(
            out,
            "  column {}: {} in running, {} in new",
            text(&change["column"]),
            kind("running"),
            kind("new")
        );
    }
    let cells: Vec<Value> = rows(&one["differing"]).iter().flat_map(cells).collect();
    if !cells.is_empty() {
        let key = rows(&one["differing"])[0]["key"].as_object();
        let key = key.into_iter().flat_map(Map::keys).map(String::as_str);
        let columns: Vec<&str> = key.chain(["column", "running", "new", "difference", "relative"]).collect();
        out += &table(&cells, Some(&columns), paint);
    }
    out += &more(&one["differing_rows"], &one["differing"]);
    for (shown, count, heading) in
        [("only_running", "only_running_rows", "only in running"), ("only_new", "only_new_rows", "only in new")]
    {
        if !rows(&one[shown]).is_empty() {
            out += &format!("{heading}:\n{}", table(rows(&one[shown]), None, paint));
        }
        out += &more(&one[count], &one[shown]);
    }
    out
}

/// A line for each cell that differs, under the values that name its row.
fn cells(row: &Value) -> Vec<Value> {
    let line = |cell: &Value| {
        let mut line = row["key"].as_object().cloned().unwrap_or_default();
        for column in ["column", "running", "new", "difference"] {
            line.insert(column.to_owned(), cell[column].clone());
        }
        let relative = cell["relative"].as_f64().map(|part| format!("{:+.2} %", part * 100.0).into());
        line.insert("relative".to_owned(), relative.unwrap_or_default());
        Value::Object(line)
    };
    rows(&row["cells"]).iter().map(line).collect()
}

fn more(count: &Value, shown: &Value) -> String {
    match count.as_u64().unwrap_or(0).saturating_sub(rows(shown).len() as u64) {
        0 => String::new(),
        more => format!("and {more} more rows; see them with --rows\n"),
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn comparison(tables: Value, equal: bool) -> Value {
        let version = |digest| json!({"version": "1.0.0", "state_version": "1", "digest": digest, "settings": "{}"});
        json!({"name": "a", "running": version("d1"), "new": version("d2"), "cut": 7, "sequence": 90, "equal": equal, "tables": tables})
    }

    #[test]
    fn differences_are_read_by_people() {
        let tables = json!([
            {"table": "summary", "key": [], "changed_columns": [], "equal_rows": 1, "differing_rows": 0, "only_running_rows": 0,
             "only_new_rows": 0, "differing": [], "only_running": [], "only_new": []},
            {"table": "posts", "key": ["post"], "changed_columns": [{"column": "share", "running": null, "new": "float"}],
             "equal_rows": 3, "differing_rows": 2, "only_running_rows": 1, "only_new_rows": 0,
             "differing": [{"key": {"post": "p1"}, "cells": [
                {"column": "score", "running": 5, "new": 6, "difference": 1, "relative": 0.2},
                {"column": "hot", "running": null, "new": "x", "difference": null, "relative": null}]}],
             "only_running": [{"post": "p2", "score": 4}], "only_new": []},
        ]);
        expect![[r#"
            a as of cut 7, event 90
              running  1.0.0, state version "1", d1
              new      1.0.0, state version "1", d2

            posts: 2 rows differ, 3 are equal, 1 only in running, 0 only in new
              column share: not there in running, float in new
            post  column  running  new  difference  relative
            p1    score         5  6             1  +20.00 %
            p1    hot           -  x             -  -
            and 1 more rows; see them with --rows
            only in running:
            post  score
            p2        4
        "#]]
        .assert_eq(&readable(&comparison(tables, false), Paint::PLAIN));
        let equal = json!([{"table": "summary", "equal_rows": 1}]);
        let printed = readable(&comparison(equal, true), Paint::PLAIN);
        assert!(printed.ends_with("no differences: 1 rows in 1 tables are equal\n"), "{printed}");
    }

    #[test]
    fn a_shadow_is_a_line_below_its_aggregator() {
        let shadow = json!({"state": "failed", "version": "2", "digest": "d2", "behind": 3, "reason": "event 9: trap"});
        let list = json!({"plugins": [
            {"name": "a", "plugin": "p", "state": "running", "shadow": shadow},
            {"name": "b", "plugin": "q", "state": "running"},
        ]});
        let lines = listed(&list);
        assert_eq!(lines["plugins"][0], json!({"name": "a", "plugin": "p", "state": "running"}));
        assert_eq!(
            lines["plugins"][1],
            json!({"name": "+ shadow", "plugin": "p", "state": "failed", "version": "2", "running_digest": "d2",
                   "behind": 3, "reason": "event 9: trap"})
        );
        assert_eq!(lines["plugins"][2]["name"], "b");
    }
}
