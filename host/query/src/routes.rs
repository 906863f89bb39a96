//! Which path leads to which method of the backend, and what is the same for all of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use serde_json::{Value, json};
use tally_event::table::Table;

use crate::format::Format;
use crate::parameters::{self, About, NoParameters};
use crate::{Ask, Backend, Batch, Change, Door, QueryError, Report, render};

const JSON: &str = "application/json";
/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENAPI: &str = include_str!("openapi.json");

#[derive(Clone)]
struct Asked {
    backend: Arc<dyn Backend>,
    door: Arc<Door>,
}

/// Every route with its methods, for one backend behind one door.
pub fn router(backend: Arc<dyn Backend>, door: Door) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in routes() {
        router = router.route(path, handler);
    }
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(around))
        .with_state(Asked { backend, door: Arc::new(door) })
}

/// Method, path and handler of each route.
fn routes() -> [(Method, &'static str, MethodRouter<Asked>); 27] {
    [
        (Method::GET, "/health", get(health)),
        (Method::GET, "/ready", get(ready)),
        (Method::GET, "/metrics", get(metrics)),
        (Method::GET, "/openapi.json", get(openapi)),
        (Method::GET, "/v1/status", get(status)),
        (Method::GET, "/v1/plugins", get(plugins)),
        (Method::POST, "/v1/plugins/reload", post(reload)),
        (Method::POST, "/v1/plugins/{name}/plan", post(plan)),
        (Method::POST, "/v1/plugins/{name}/shadow", post(shadow)),
        (Method::DELETE, "/v1/plugins/{name}/shadow", delete(drop_shadow)),
        (Method::GET, "/v1/plugins/{name}/diff", get(diff)),
        (Method::POST, "/v1/plugins/{name}/pause", post(pause)),
        (Method::POST, "/v1/plugins/{name}/resume", post(resume)),
        (Method::POST, "/v1/plugins/{name}/rollback", post(rollback)),
        (Method::POST, "/v1/plugins/{name}/promote", post(promote)),
        (Method::POST, "/v1/plugins/{name}/rebuild", post(rebuild)),
        (Method::POST, "/v1/plugins/{name}/reset", post(reset)),
        (Method::POST, "/v1/plugins/{name}/remove", post(remove)),
        (Method::GET, "/v1/aggregators", get(aggregators)),
        (Method::GET, "/v1/aggregators/{name}", get(report)),
        (Method::GET, "/v1/aggregators/{name}/{table}", get(table)),
        (Method::GET, "/v1/aggregators/{name}/{table}/{column}", get(value)),
        (Method::GET, "/v1/batches/last", get(last_batch)),
        (Method::GET, "/v1/batches/{id}", get(batch)),
        (Method::GET, "/v1/rejected", get(rejected)),
        (Method::GET, "/v1/dead-letters", get(dead_letters)),
        (Method::GET, "/v1/dead-letters/{id}", get(dead_letter)),
    ]
}

/// Largest body of a request, in bytes; what a daemon takes as a plugin may be less.
const COMPONENT_BYTES: usize = 64 << 20;

type Outcome = Result<Response, QueryError>;

/// Around every route: a URI that is no sound one goes no further, and no answer is kept by a cache.
async fn around(request: Request, next: Next) -> Response {
    let mut response = match parameters::check_uri(request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn body(content_type: &'static str, bytes: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, content_type)], bytes).into_response()
}

fn line(value: &Value) -> Response {
    body(JSON, format!("{value}\n"))
}

async fn health(_: NoParameters) -> Response {
    line(&json!({"status": "ok"}))
}

async fn ready(State(asked): State<Asked>, _: NoParameters) -> Outcome {
    asked.backend.ready().map(|()| line(&json!({"status": "ready"})))
}

async fn metrics(State(asked): State<Asked>, _: NoParameters) -> Outcome {
    Ok(body(METRICS, asked.backend.metrics().await?))
}

async fn openapi(_: NoParameters) -> Response {
    body(JSON, OPENAPI)
}

async fn status(State(asked): State<Asked>, _: NoParameters) -> Outcome {
    Ok(line(&asked.backend.status().await?))
}

async fn plugins(State(asked): State<Asked>, _: NoParameters) -> Outcome {
    Ok(line(&asked.backend.plugins().await?))
}

async fn reload(State(asked): State<Asked>, _: NoParameters) -> Outcome {
    asked.may_change("reload")?;
    change("reload", async move { asked.backend.reload().await }).await
}

async fn change_one(asked: Asked, what: &'static str, name: String, to: Result<Change, QueryError>) -> Outcome {
    asked.may_change(what)?;
    let to = to?;
    change(what, async move { asked.backend.change(&name, to).await }).await
}

async fn pause(State(asked): State<Asked>, Path(name): Path<String>, _: NoParameters) -> Outcome {
    change_one(asked, "pause", name, Ok(Change::Pause)).await
}

async fn resume(State(asked): State<Asked>, Path(name): Path<String>, _: NoParameters) -> Outcome {
    change_one(asked, "resume", name, Ok(Change::Resume)).await
}

async fn rollback(State(asked): State<Asked>, Path(name): Path<String>, _: NoParameters) -> Outcome {
    change_one(asked, "rollback", name, Ok(Change::Rollback)).await
}

async fn promote(State(asked): State<Asked>, Path(name): Path<String>, _: NoParameters) -> Outcome {
    change_one(asked, "promote", name, Ok(Change::Promote)).await
}

async fn rebuild(State(asked): State<Asked>, Path(name): Path<String>, uri: Uri) -> Outcome {
    let to = parameters::rebuild(&uri).map(|(from, discard_state)| Change::Rebuild { from, discard_state });
    change_one(asked, "rebuild", name, to).await
}

async fn reset(State(asked): State<Asked>, Path(name): Path<String>, uri: Uri) -> Outcome {
    let to = parameters::discard_state(&uri).map(|discard_state| Change::Reset { discard_state });
    change_one(asked, "reset", name, to).await
}

async fn remove(State(asked): State<Asked>, Path(name): Path<String>, uri: Uri) -> Outcome {
    let to = parameters::discard_state(&uri).map(|discard_state| Change::Remove { discard_state });
    change_one(asked, "remove", name, to).await
}

async fn plan(State(asked): State<Asked>, Path(name): Path<String>, _: NoParameters, request: Request) -> Outcome {
    asked.may_change("plan")?;
    Ok(line(&asked.backend.plan(&name, component(request).await?).await?))
}

async fn component(request: Request) -> Result<Vec<u8>, QueryError> {
    let component = axum::body::to_bytes(request.into_body(), COMPONENT_BYTES).await.map_err(|error| {
        let message = format!("the component could not be read: {error}; at most {COMPONENT_BYTES} bytes are taken");
        QueryError::new(413, "no_component", message)
    })?;
    Ok(component.into())
}

async fn shadow(State(asked): State<Asked>, Path(name): Path<String>, uri: Uri, request: Request) -> Outcome {
    asked.may_change("shadow")?;
    let from = parameters::from(&uri)?;
    let component = component(request).await?;
    change("shadow", async move { asked.backend.shadow(&name, component, from).await }).await
}

async fn drop_shadow(State(asked): State<Asked>, Path(name): Path<String>, _: NoParameters) -> Outcome {
    asked.may_change("drop shadows of")?;
    change("drop", async move { asked.backend.drop_shadow(&name).await }).await
}

async fn diff(State(asked): State<Asked>, Path(name): Path<String>, uri: Uri) -> Outcome {
    let rows = parameters::differences(&uri)?;
    Ok(line(&asked.backend.diff(&name, rows).await?))
}

/// In a task of its own: a client that hangs up must not leave a change half done.
async fn change(what: &str, done: impl Future<Output = Result<Value, QueryError>> + Send + 'static) -> Outcome {
    let answer = tokio::spawn(done).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a {what} ended by itself");
        Err(QueryError::internal("change_failed", format!("the {what} ended by itself; see the daemon's log")))
    });
    Ok(line(&answer?))
}

async fn aggregators(State(asked): State<Asked>, _: NoParameters) -> Outcome {
    Ok(line(&asked.backend.aggregators().await?))
}

async fn report(State(asked): State<Asked>, Path(name): Path<String>, uri: Uri, headers: HeaderMap) -> Outcome {
    let (ask, format) = asked.read(&uri, About::Report)?;
    let format = format.map_or_else(|| Format::accepted(&headers), Ok)?;
    let wanted = ask.tables.clone();
    let report = asked.ask(&name, ask).await?;
    if format == Format::Json {
        return Ok(about(&report, line(&render::report(&name, &report))));
    }
    let tables: Vec<&Table> =
        report.tables.iter().filter(|table| wanted.is_empty() || wanted.contains(&table.name)).collect();
    let [table] = tables[..] else {
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let message = format!(
            "this format has one table, but the answer has {}; name one with `table=` or in the path",
            names.join(", ")
        );
        return Err(QueryError::bad_request("one_table_only", message));
    };
    flat(&report, table, format)
}

async fn table(
    State(asked): State<Asked>,
    Path((name, table)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Outcome {
    let (ask, format) = asked.read(&uri, About::Table)?;
    let format = format.map_or_else(|| Format::accepted(&headers), Ok)?;
    let ask = Ask { tables: vec![table.clone()], ..ask };
    let skipped = ask.skip_rows;
    let report = asked.ask(&name, ask).await?;
    let table = find(&name, &report, &table)?;
    match format {
        Format::Json => Ok(about(&report, line(&render::table(&name, &report, table, skipped)))),
        _ => flat(&report, table, format),
    }
}

async fn value(
    State(asked): State<Asked>,
    Path((name, table, column)): Path<(String, String, String)>,
    uri: Uri,
) -> Outcome {
    let (ask, _) = asked.read(&uri, About::Value)?;
    let ask = Ask { tables: vec![table.clone()], row_limit: 1, ..ask };
    let report = asked.ask(&name, ask).await?;
    let table = find(&name, &report, &table)?;
    let rows = table.rows() as u64 + table.rows_left_out;
    if rows != 1 {
        let message = format!(
            "table {:?} has {rows} rows, and a value is asked of a table of one row; ask /v1/aggregators/{name}/{}",
            table.name, table.name
        );
        return Err(QueryError::bad_request("not_one_row", message));
    }
    let value = render::value(&name, &report, table, &column).ok_or_else(|| {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let message = format!("table {:?} has no column {column:?}; it has {}", table.name, names.join(", "));
        QueryError::not_found("unknown_column", message)
    })?;
    Ok(about(&report, line(&value)))
}

async fn last_batch(State(asked): State<Asked>, _: NoParameters) -> Outcome {
    asked.batch(Batch::Last).await
}

async fn batch(State(asked): State<Asked>, Path(id): Path<String>, _: NoParameters) -> Outcome {
    asked.batch(parameters::batch(&id)?).await
}

async fn rejected(State(asked): State<Asked>, uri: Uri) -> Outcome {
    let (rows, reason) = parameters::rejected(&uri)?;
    Ok(line(&asked.backend.rejected(rows, reason).await?))
}

async fn dead_letters(State(asked): State<Asked>, uri: Uri) -> Outcome {
    let (rows, aggregator) = parameters::dead_letters(&uri)?;
    Ok(line(&asked.backend.dead_letters(rows, aggregator).await?))
}

async fn dead_letter(State(asked): State<Asked>, Path(id): Path<String>, _: NoParameters) -> Outcome {
    Ok(line(&asked.backend.dead_letter(&id).await?))
}

async fn unknown_route(uri: Uri) -> QueryError {
    let known: Vec<&str> = routes().iter().map(|route| route.1).collect();
    let message = format!("there is nothing at {}; there are {}", uri.path(), known.join(", "));
    QueryError::not_found("unknown_route", message)
}

async fn wrong_method(method: Method, uri: Uri) -> QueryError {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_this = |path: &str| path.starts_with("/v1/plugins/") && last(path) == last(uri.path());
    let of_plugins =
        routes().into_iter().filter(|(_, path, _)| uri.path().starts_with("/v1/plugins/") && is_this(path));
    let right: Vec<String> = of_plugins.map(|(right, ..)| right.to_string()).collect();
    let right = if right.is_empty() { Method::GET.to_string() } else { right.join(" or ") };
    QueryError::new(405, "wrong_method", format!("{} does not take {method}; use {right}", uri.path()))
}

impl Asked {
    fn may_change(&self, what: &str) -> Result<(), QueryError> {
        let Door::Query { admin } = &*self.door else { return Ok(()) };
        let message = format!("this door only answers questions; {what} plugins through the admin socket, {admin}");
        Err(QueryError::new(403, "admin_only", message))
    }

    fn read(&self, uri: &Uri, about: About) -> Result<(Ask, Option<Format>), QueryError> {
        parameters::ask(uri, about, self.backend.max_rows())
    }

    /// Asks the aggregator. Whoever wants all rows gets all of them or none.
    async fn ask(&self, name: &str, ask: Ask) -> Result<Report, QueryError> {
        let (all, wanted) = (ask.row_limit == 0, ask.tables.clone());
        let max_rows = self.backend.max_rows();
        let ask = Ask { row_limit: if all { max_rows } else { ask.row_limit }, ..ask };
        let skipped = ask.skip_rows;
        let report = self.backend.ask(name, ask).await?;
        for table in &wanted {
            find(name, &report, table)?;
        }
        if let Some(table) = report.tables.iter().find(|table| all && table.rows_left_out > 0) {
            let rows = table.rows() as u64 + table.rows_left_out;
            return Err(parameters::too_many_rows(format!(
                "table {:?} has {rows} rows from row {skipped} on, more than an answer may have, {max_rows} (query.max_rows); ask for pages with `rows` and `skip`",
                table.name
            )));
        }
        Ok(report)
    }

    async fn batch(&self, batch: Batch) -> Outcome {
        let mut bytes = self.backend.batch(batch).await?;
        bytes.push(b'\n');
        Ok(body(JSON, bytes))
    }
}

fn find<'a>(name: &str, report: &'a Report, table: &str) -> Result<&'a Table, QueryError> {
    report.tables.iter().find(|found| found.name == table).ok_or_else(|| {
        let message = format!("aggregator {name} has no table {table:?}; see /v1/aggregators/{name}");
        QueryError::not_found("unknown_table", message)
    })
}

/// One table in a format that has room for nothing else.
fn flat(report: &Report, table: &Table, format: Format) -> Outcome {
    let bytes = match format {
        Format::Arrow => render::stream(table).map_err(|error| error.to_string()),
        _ => render::text(table).map_err(|error| error.to_string()),
    };
    let bytes = bytes.map_err(|error| {
        QueryError::internal(
            "not_rendered",
            format!("table {:?} cannot be written in this format: {error}", table.name),
        )
    })?;
    let mut response = about(report, body(format.content_type(), bytes));
    put(&mut response, "x-rows-left-out", &table.rows_left_out.to_string());
    Ok(response)
}

/// Says how fresh the answer is.
fn about(report: &Report, mut response: Response) -> Response {
    put(&mut response, "x-as-of-sequence", &report.as_of_sequence.to_string());
    put(&mut response, "x-data-age", &format!("{:.3}", report.age_seconds()));
    put(&mut response, "x-complete", if report.complete { "true" } else { "false" });
    if let Some(watermark) = &report.watermark {
        put(&mut response, "x-watermark", watermark);
    }
    response
}

fn put(response: &mut Response, name: &'static str, value: &str) {
    // Numbers, booleans and times: always sound header values.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use tally_event::decode::RejectReason;

    fn document() -> Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    #[test]
    fn every_route_is_in_the_document_and_the_other_way_round() {
        let document = document();
        let routes: BTreeSet<String> = routes().iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        let methods = |(path, item): (&String, &Value)| -> Vec<String> {
            item.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())).collect()
        };
        let documented: BTreeSet<String> = document["paths"].as_object().unwrap().iter().flat_map(methods).collect();
        assert_eq!(documented, routes);
    }

    #[test]
    fn the_document_knows_every_reason() {
        let document = document();
        let known = &document["components"]["parameters"]["reason"]["schema"]["enum"];
        let reasons: Vec<&str> = RejectReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(*known, json!(reasons));
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_limits_of_the_document_are_those_of_the_code() {
        let document = document();
        let schema = |name: &str| document["components"]["parameters"][name]["schema"].clone();
        let limits = |name: &str| (schema(name)["default"].as_u64(), schema(name)["maximum"].as_u64());
        assert_eq!(limits("rows"), (Some(crate::DEFAULT_ROWS.into()), Some(crate::DEFAULT_MAX_ROWS.into())));
        for rows in ["rejected_rows", "dead_letter_rows"] {
            assert_eq!(limits(rows), (Some(crate::DEFAULT_REJECTED.into()), Some(crate::MAX_REJECTED.into())));
        }
        let differences = (Some(crate::DEFAULT_DIFFERENCES.into()), Some(crate::MAX_DIFFERENCES.into()));
        assert_eq!(limits("difference_rows"), differences);
    }
}
