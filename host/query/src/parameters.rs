//! From a URL's parameters to an [`Ask`]. Pure; unknown parameters are errors, so that a typing error never changes an answer silently.

use std::time::Duration;

use crate::{Ask, MAX_WAIT, QueryError};

/// Reads the parameters of `GET /v1/aggregators/{name}`.
pub(crate) fn parse(pairs: Vec<(String, String)>) -> Result<Ask, QueryError> {
    let mut ask = Ask::default();
    for (name, value) in pairs {
        match name.as_str() {
            "table" => ask.tables.push(value),
            "rows" => ask.row_limit = number(&name, &value)?,
            "skip" => ask.skip_rows = number(&name, &value)?,
            "min_sequence" => ask.min_sequence = Some(number(&name, &value)?),
            "wait" => ask.wait = wait(&value)?,
            _ => match name.strip_prefix("param.") {
                Some(parameter) if !parameter.is_empty() => ask.parameters.push((parameter.to_string(), value)),
                _ => return Err(unknown(&name)),
            },
        }
    }
    Ok(ask)
}

fn unknown(name: &str) -> QueryError {
    QueryError::bad_request(
        "unknown_parameter",
        format!(
            "there is no parameter `{name}`; known are table, rows, skip, min_sequence, wait and param.NAME (passed to the aggregator)"
        ),
    )
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, QueryError> {
    value.parse().map_err(|_| {
        QueryError::bad_request(
            "invalid_parameter",
            format!("`{name}={value}` is not a whole number in range; write e.g. `{name}=20`"),
        )
    })
}

/// `5s` or `500ms`, at most [`MAX_WAIT`].
fn wait(value: &str) -> Result<Duration, QueryError> {
    let duration = match value.strip_suffix("ms") {
        Some(number) => number.parse().ok().map(Duration::from_millis),
        None => value.strip_suffix('s').and_then(|number| number.parse().ok()).map(Duration::from_secs),
    };
    duration.filter(|duration| *duration <= MAX_WAIT).ok_or_else(|| {
        QueryError::bad_request(
            "invalid_parameter",
            format!(
                "`wait={value}` is not a time of at most {}s; write e.g. `wait=5s` or `wait=500ms`",
                MAX_WAIT.as_secs()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(pairs: &[(&str, &str)], expected: Expect) {
        let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let answer = match parse(pairs) {
            Ok(ask) => format!("{ask:?}"),
            Err(error) => format!("{} {}: {}", error.status, error.code, error.message),
        };
        expected.assert_eq(&answer);
    }

    #[test]
    fn defaults() {
        check(
            &[],
            expect!["Ask { tables: [], row_limit: 100, skip_rows: 0, parameters: [], min_sequence: None, wait: 10s }"],
        );
    }

    #[test]
    fn everything() {
        check(
            &[
                ("table", "posts"),
                ("table", "actions"),
                ("rows", "5"),
                ("skip", "10"),
                ("min_sequence", "18446744073709551615"),
                ("wait", "250ms"),
                ("param.percentiles", "50,99"),
            ],
            expect![[
                r#"Ask { tables: ["posts", "actions"], row_limit: 5, skip_rows: 10, parameters: [("percentiles", "50,99")], min_sequence: Some(18446744073709551615), wait: 250ms }"#
            ]],
        );
    }

    #[test]
    fn mistakes() {
        check(
            &[("row", "5")],
            expect![
                "400 unknown_parameter: there is no parameter `row`; known are table, rows, skip, min_sequence, wait and param.NAME (passed to the aggregator)"
            ],
        );
        check(
            &[("param.", "5")],
            expect![
                "400 unknown_parameter: there is no parameter `param.`; known are table, rows, skip, min_sequence, wait and param.NAME (passed to the aggregator)"
            ],
        );
        check(
            &[("rows", "-1")],
            expect!["400 invalid_parameter: `rows=-1` is not a whole number in range; write e.g. `rows=20`"],
        );
        check(
            &[("rows", "4294967296")],
            expect!["400 invalid_parameter: `rows=4294967296` is not a whole number in range; write e.g. `rows=20`"],
        );
        check(
            &[("min_sequence", "")],
            expect![
                "400 invalid_parameter: `min_sequence=` is not a whole number in range; write e.g. `min_sequence=20`"
            ],
        );
        check(
            &[("wait", "61s")],
            expect![
                "400 invalid_parameter: `wait=61s` is not a time of at most 60s; write e.g. `wait=5s` or `wait=500ms`"
            ],
        );
        check(
            &[("wait", "99999999999999999999s")],
            expect![
                "400 invalid_parameter: `wait=99999999999999999999s` is not a time of at most 60s; write e.g. `wait=5s` or `wait=500ms`"
            ],
        );
        check(
            &[("wait", "1m")],
            expect![
                "400 invalid_parameter: `wait=1m` is not a time of at most 60s; write e.g. `wait=5s` or `wait=500ms`"
            ],
        );
    }
}
