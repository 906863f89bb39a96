//! After every run: what a daemon says it counted against the independent count. A difference fails the bench.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::ask;
use crate::count::{ACTIONS, Count};
use crate::daemon::Daemon;

/// Totals, every post, and the ledger must be those of `count`.
pub fn daemon(daemon: &Daemon, count: &Count) -> Result<()> {
    let sent = count.events;
    let ledger = &ask::json(&daemon.query, "/v1/status")?["ledger"];
    let books = [&ledger["received"], &ledger["accepted"], &ledger["duplicate"]].map(Value::as_u64);
    ensure!(
        books == [Some(sent), Some(sent), Some(0)],
        "the ledger does not say that all of {sent} events were accepted: {ledger}"
    );
    let ask = |name: &str| {
        let question = format!("/v1/aggregators/{name}?rows=0&min_sequence={sent}&wait=60s");
        ask::json(&daemon.query, &question)
    };
    let (actions, homepage) = (ask("video-actions")?, ask("homepage-fetch")?);
    summaries(&[&actions["summary"], &homepage["summary"]], count)?;
    posts(&actions["tables"]["posts"], count)
}

/// The same of another aggregator of one of these plugins: each number but the hot post, which its settings decide.
pub fn copy(daemon: &Daemon, name: &str, count: &Count) -> Result<()> {
    let question = format!("/v1/aggregators/{name}?rows=0&min_sequence={}&wait=60s", count.events);
    let told = ask::json(&daemon.query, &question)?;
    of_copy(&told, count).with_context(|| format!("the aggregator {name}"))
}

fn of_copy(told: &Value, count: &Count) -> Result<()> {
    let numbers = count.numbers();
    let expected = numbers.as_object().context("numbers have names")?;
    let mut compared = 0;
    for (name, value) in expected.iter().filter(|(name, _)| !name.starts_with("hot_post")) {
        if let Some(found) = told["summary"].get(name) {
            ensure!(found == value, "{name} is {value} by the independent count, and was answered as {found}");
            compared += 1;
        }
    }
    // The plugin with fewer has two: homepage_fetches and unique_visitors.
    ensure!(compared >= 2, "the summary has none of the numbers that were counted: {}", told["summary"]);
    match &told["tables"]["posts"] {
        Value::Null => Ok(()),
        table => posts(table, count),
    }
}

/// Each number of the count stands in one of these objects.
pub fn summaries(told: &[&Value], count: &Count) -> Result<()> {
    let expected = count.numbers();
    for (name, value) in expected.as_object().context("numbers have names")? {
        let found = told.iter().find_map(|summary| summary.get(name));
        ensure!(found == Some(value), "{name} is {value} by the independent count, and was answered as {found:?}");
    }
    Ok(())
}

fn posts(table: &Value, count: &Count) -> Result<()> {
    const COLUMNS: [&str; 6] = ["views", "plays", "pauses", "unmutes", "carousel_left", "carousel_right"];
    const { assert!(COLUMNS.len() == ACTIONS.len()) };
    let rows = table.as_array().context("the answer has no table of posts")?;
    ensure!(rows.len() == count.posts(), "{} posts were answered, and {} were sent", rows.len(), count.posts());
    for row in rows {
        let post = row["post_id"].as_str().context("a post has no id")?;
        let counts = COLUMNS.map(|column| row[column].as_u64().unwrap_or(u64::MAX));
        ensure!(
            count.post(post) == Some(&counts),
            "post {post} was answered as {row}, and counted {:?}",
            count.post(post)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Lines;
    use serde_json::json;

    #[test]
    fn a_copy_has_its_own_hot_post_and_no_other_number() {
        let mut count = Count::default();
        let line = r#"{"type":"action","user_id":"a","resource_type":"posts:7","action":"play"}"#;
        count.add(Lines::new(format!("{line}\n").into()).all(), 1).unwrap();
        let mut told = json!({"summary": count.numbers()});
        told["summary"]["hot_post"] = "post_9".into();
        of_copy(&told, &count).unwrap();
        told["summary"]["plays"] = 2.into();
        assert!(of_copy(&told, &count).unwrap_err().to_string().contains("plays"));
        assert!(of_copy(&json!({"summary": {}}), &count).is_err());
    }

    #[test]
    fn one_event_too_few_is_noticed() {
        let line = r#"{"type":"action","user_id":"a","resource_type":"posts:7","action":"play"}"#;
        let mut count = Count::default();
        count.add(Lines::new(format!("{line}\n{line}\n").into()).all(), 1).unwrap();
        let mut told = count.numbers();
        summaries(&[&told], &count).unwrap();
        told["plays"] = 1.into();
        assert!(summaries(&[&told], &count).unwrap_err().to_string().contains("plays"));

        let row = |plays: u64| json!([{"post_id": "7", "views": 0, "plays": plays, "pauses": 0, "unmutes": 0, "carousel_left": 0, "carousel_right": 0}]);
        posts(&row(2), &count).unwrap();
        assert!(posts(&row(3), &count).is_err());
        assert!(posts(&json!([]), &count).is_err());
    }
}
