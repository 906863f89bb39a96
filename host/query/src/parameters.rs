//! From a URL's parameters to what is asked. Pure; unknown and repeated parameters are errors, so that a typing error never
//! changes an answer silently.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;

use tally_event::decode::RejectReason;

use crate::format::Format;
use crate::{
    Ask, Batch, DEFAULT_DIFFERENCES, DEFAULT_REJECTED, MAX_DIFFERENCES, MAX_REJECTED, MAX_WAIT, QueryError, Since,
};

/// Longest path and parameters together, bytes.
const MAX_URI: usize = 8 << 10;

/// What the parameters of a question about an aggregator may say, by route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A whole report.
    Report,
    /// One table.
    Table,
    /// One value.
    Value,
}

impl About {
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Report => &["table", "rows", "skip", "min_sequence", "wait", "format"],
            Self::Table => &["rows", "skip", "min_sequence", "wait", "format"],
            Self::Value => &["min_sequence", "wait"],
        }
    }
}

/// Refuses URIs that are too long or badly encoded, so that nobody after it has to guess what was meant.
pub(crate) fn check_uri(uri: &Uri) -> Result<(), QueryError> {
    let text = uri.path_and_query().map_or("", |text| text.as_str());
    if text.len() > MAX_URI {
        let message = format!("the path and its parameters have {} bytes; at most {MAX_URI} are taken", text.len());
        return Err(QueryError::new(414, "uri_too_long", message));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        rest = after;
        decoded.push(match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                rest = &after[2..];
                (high * 16 + low) as u8
            }
            (b'%', ..) => {
                let message = "there is a `%` without two hexadecimal digits behind it; write `%25` for a percent sign";
                return Err(QueryError::bad_request("invalid_encoding", message));
            }
            _ => byte,
        });
    }
    match std::str::from_utf8(&decoded) {
        Ok(_) => Ok(()),
        Err(_) => Err(QueryError::bad_request(
            "invalid_encoding",
            "the percent-encoded bytes of the path or its parameters are not UTF-8",
        )),
    }
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, QueryError> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(pairs) = pairs.map_err(|error| {
        QueryError::bad_request("invalid_parameter", format!("the parameters cannot be read: {error}"))
    })?;
    for (at, (name, _)) in pairs.iter().enumerate() {
        if name != "table" && pairs[..at].iter().any(|(before, _)| before == name) {
            return Err(QueryError::bad_request(
                "repeated_parameter",
                format!("the parameter `{name}` is given more than once; give it once"),
            ));
        }
    }
    Ok(pairs)
}

/// Takes a request that has no parameters.
pub(crate) struct NoParameters;

impl<S: Sync> FromRequestParts<S> for NoParameters {
    type Rejection = QueryError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, QueryError> {
        match pairs(&parts.uri)?.first() {
            None => Ok(Self),
            Some((name, _)) => Err(QueryError::bad_request(
                "unknown_parameter",
                format!("there is no parameter `{name}`; {} takes none", parts.uri.path()),
            )),
        }
    }
}

/// Reads what is asked of an aggregator, and the format if it is named.
pub(crate) fn ask(uri: &Uri, about: About, max_rows: u32) -> Result<(Ask, Option<Format>), QueryError> {
    let mut ask = Ask::default();
    ask.row_limit = ask.row_limit.min(max_rows);
    let mut format = None;
    for (name, value) in pairs(uri)? {
        let parameter = name.strip_prefix("param.").filter(|parameter| !parameter.is_empty());
        if parameter.is_none() && !about.known().contains(&name.as_str()) {
            return Err(unknown(
                &name,
                &format!("{} and param.NAME (passed to the aggregator)", about.known().join(", ")),
            ));
        }
        match (name.as_str(), parameter) {
            (_, Some(parameter)) => ask.parameters.push((parameter.to_owned(), value)),
            ("table", _) => ask.tables.push(value),
            ("rows", _) => ask.row_limit = rows(&value, max_rows)?,
            ("skip", _) => ask.skip_rows = number(&name, &value)?,
            ("min_sequence", _) => ask.min_sequence = Some(number(&name, &value)?),
            ("wait", _) => ask.wait = wait(&value)?,
            _ => format = Some(Format::parse(&value)?),
        }
    }
    Ok((ask, format))
}

/// Reads how many rejected lines are wanted, and of which reason.
pub(crate) fn rejected(uri: &Uri) -> Result<(u32, Option<String>), QueryError> {
    let (rows, reason) = rows_and(uri, "reason", "rejected lines")?;
    Ok((rows, reason.map(reject_reason).transpose()?))
}

/// Reads how many dead letters are wanted, and of which aggregator.
pub(crate) fn dead_letters(uri: &Uri) -> Result<(u32, Option<String>), QueryError> {
    rows_and(uri, "aggregator", "dead letters")
}

/// Reads where a rebuild begins, and whether state may be given up.
pub(crate) fn rebuild(uri: &Uri) -> Result<(Option<Since>, bool), QueryError> {
    let (mut from, mut discard_state) = (Some(Since::Beginning), false);
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "from" if value == "same" => from = None,
            "from" => from = Some(place(&value)?),
            "discard_state" => discard_state = truth(&name, &value)?,
            _ => return Err(unknown(&name, "from and discard_state")),
        }
    }
    Ok((from, discard_state))
}

/// Reads whether state may be given up.
pub(crate) fn discard_state(uri: &Uri) -> Result<bool, QueryError> {
    let mut discard_state = false;
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "discard_state" => discard_state = truth(&name, &value)?,
            _ => return Err(unknown(&name, "discard_state")),
        }
    }
    Ok(discard_state)
}

fn truth(name: &str, value: &str) -> Result<bool, QueryError> {
    value.parse().map_err(|_| {
        QueryError::bad_request("invalid_parameter", format!("`{name}={value}` is neither `true` nor `false`"))
    })
}

fn place(value: &str) -> Result<Since, QueryError> {
    value.parse().map_err(|problem| QueryError::bad_request("invalid_parameter", format!("`from`: {problem}")))
}

/// Reads from where a version is to count anew, if it is.
pub(crate) fn from(uri: &Uri) -> Result<Option<Since>, QueryError> {
    let mut from = None;
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "from" => from = Some(place(&value)?),
            _ => return Err(unknown(&name, "from")),
        }
    }
    Ok(from)
}

/// Reads how many rows of each kind of difference are wanted of a table.
pub(crate) fn differences(uri: &Uri) -> Result<u32, QueryError> {
    let mut rows = DEFAULT_DIFFERENCES;
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "rows" => rows = number(&name, &value)?,
            _ => return Err(unknown(&name, "rows")),
        }
    }
    match rows <= MAX_DIFFERENCES {
        true => Ok(rows),
        false => Err(too_many_rows(format!(
            "`rows={rows}` is more than {MAX_DIFFERENCES}, the most rows of each kind of difference in a table"
        ))),
    }
}

fn rows_and(uri: &Uri, other: &str, what: &str) -> Result<(u32, Option<String>), QueryError> {
    let (mut rows, mut of) = (DEFAULT_REJECTED, None);
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "rows" => {
                rows = number(&name, &value)?;
                if !(1..=MAX_REJECTED).contains(&rows) {
                    return Err(too_many_rows(format!(
                        "`rows={value}` is not from 1 to {MAX_REJECTED}, the most {what} of an answer"
                    )));
                }
            }
            name if name == other => of = Some(value),
            _ => return Err(unknown(&name, &format!("rows and {other}"))),
        }
    }
    Ok((rows, of))
}

fn reject_reason(name: String) -> Result<String, QueryError> {
    if RejectReason::ALL.iter().any(|reason| reason.as_str() == name) {
        return Ok(name);
    }
    let known: Vec<&str> = RejectReason::ALL.iter().map(|reason| reason.as_str()).collect();
    let message = format!("no line is rejected for the reason `{name}`; known are {}", known.join(", "));
    Err(QueryError::bad_request("unknown_reason", message))
}

/// Reads the number of a batch in a path.
pub(crate) fn batch(id: &str) -> Result<Batch, QueryError> {
    let number = id.parse().ok().filter(|number| *number > 0 && id.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(Batch::Number).ok_or_else(|| {
        QueryError::bad_request(
            "invalid_parameter",
            format!("`{id}` is no number of a batch; they count from 1, and the newest is at /v1/batches/last"),
        )
    })
}

/// There are more rows than an answer may have.
pub(crate) fn too_many_rows(message: String) -> QueryError {
    QueryError::bad_request("too_many_rows", message)
}

fn unknown(name: &str, known: &str) -> QueryError {
    QueryError::bad_request("unknown_parameter", format!("there is no parameter `{name}`; known are {known}"))
}

fn rows(value: &str, max_rows: u32) -> Result<u32, QueryError> {
    let rows = number("rows", value)?;
    if rows > max_rows {
        return Err(too_many_rows(format!(
            "`rows={value}` is more than an answer may have, {max_rows} rows per table (query.max_rows); ask for pages with `rows` and `skip`"
        )));
    }
    Ok(rows)
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, QueryError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| {
        QueryError::bad_request(
            "invalid_parameter",
            format!("`{name}={value}` is not a whole number in range; write e.g. `{name}=20`"),
        )
    })
}

/// `5s` or `500ms`, at most [`MAX_WAIT`].
fn wait(value: &str) -> Result<Duration, QueryError> {
    let whole = |digits: &str| number::<u64>("wait", digits).ok();
    let duration = match value.strip_suffix("ms") {
        Some(digits) => whole(digits).map(Duration::from_millis),
        None => value.strip_suffix('s').and_then(whole).map(Duration::from_secs),
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

    fn check(about: About, query: &str, expected: Expect) {
        let uri: Uri = format!("/v1/aggregators/x?{query}").parse().unwrap();
        expected.assert_eq(&match ask(&uri, about, 10_000) {
            Ok((ask, format)) => format!("{ask:?} {format:?}"),
            Err(error) => format!("{} {}: {}", error.status, error.code, error.message),
        });
    }

    #[test]
    fn defaults() {
        check(
            About::Report,
            "",
            expect![
                "Ask { tables: [], row_limit: 100, skip_rows: 0, parameters: [], min_sequence: None, wait: 10s } None"
            ],
        );
        let uri = Uri::from_static("/v1/aggregators/x");
        let (ask, _) = ask(&uri, About::Report, 7).unwrap();
        assert_eq!(ask.row_limit, 7, "the default is never over the limit");
    }

    #[test]
    fn everything() {
        check(
            About::Report,
            "table=posts&table=actions&rows=5&skip=10&min_sequence=18446744073709551615&wait=250ms&format=csv&param.percentiles=50%2C99",
            expect![[
                r#"Ask { tables: ["posts", "actions"], row_limit: 5, skip_rows: 10, parameters: [("percentiles", "50,99")], min_sequence: Some(18446744073709551615), wait: 250ms } Some(Csv)"#
            ]],
        );
    }

    #[test]
    fn mistakes() {
        check(
            About::Report,
            "row=5",
            expect![
                "400 unknown_parameter: there is no parameter `row`; known are table, rows, skip, min_sequence, wait, format and param.NAME (passed to the aggregator)"
            ],
        );
        check(
            About::Table,
            "table=posts",
            expect![
                "400 unknown_parameter: there is no parameter `table`; known are rows, skip, min_sequence, wait, format and param.NAME (passed to the aggregator)"
            ],
        );
        check(
            About::Value,
            "param.=5",
            expect![
                "400 unknown_parameter: there is no parameter `param.`; known are min_sequence, wait and param.NAME (passed to the aggregator)"
            ],
        );
        check(
            About::Report,
            "rows=1&rows=2",
            expect!["400 repeated_parameter: the parameter `rows` is given more than once; give it once"],
        );
        check(
            About::Report,
            "format=xml",
            expect!["400 unknown_format: there is no format `xml`; known are json, csv and arrow"],
        );
        check(
            About::Report,
            "rows=10001",
            expect![
                "400 too_many_rows: `rows=10001` is more than an answer may have, 10000 rows per table (query.max_rows); ask for pages with `rows` and `skip`"
            ],
        );
        for number in ["-1", "4294967296", "", "+1", "1e3"] {
            let uri: Uri = format!("/x?rows={}", number.replace('+', "%2B")).parse().unwrap();
            let error = ask(&uri, About::Report, 10).unwrap_err();
            assert_eq!((error.status, error.code), (400, "invalid_parameter"), "{number}");
        }
        for wait in ["61s", "99999999999999999999s", "1m", "5", "+5s", ""] {
            let uri: Uri = format!("/x?wait={}", wait.replace('+', "%2B")).parse().unwrap();
            let error = ask(&uri, About::Report, 10).unwrap_err();
            assert_eq!((error.status, error.code), (400, "invalid_parameter"), "{wait}");
        }
    }

    #[test]
    fn numbers_of_batches() {
        assert_eq!(batch("7"), Ok(Batch::Number(7)));
        for wrong in ["0", "-1", "+1", "x", "", "18446744073709551616"] {
            assert_eq!(batch(wrong).map_err(|error| error.code), Err("invalid_parameter"), "{wrong}");
        }
    }

    #[test]
    fn encoding_is_checked() {
        let code = |uri: &str| check_uri(&uri.parse().unwrap()).map_err(|error| error.code);
        assert_eq!(code("/v1/x%2Fy?a=%C3%A9&b=+"), Ok(()));
        for wrong in ["/%", "/%2", "/%zz", "/x?a=%+1", "/%ff", "/x?a=%C3"] {
            assert_eq!(code(wrong), Err("invalid_encoding"), "{wrong}");
        }
        assert_eq!(code(&format!("/{}", "a".repeat(MAX_URI))), Err("uri_too_long"));
    }
}
