//! A backend with made-up answers, and requests straight into its router.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tally_event::columns::{Column, Text, Values};
use tally_event::schema::Kind;
use tally_event::table::{NamedColumn, Role, Table};
use tally_query::{Answer, Ask, Backend, Batch, Change, Door, QueryError, Report, Since, router};
use tower::ServiceExt;

/// Knows the aggregator `video-actions` with a table of seven posts. `slow` and `panics` do what they are called.
#[derive(Default)]
pub struct Fake {
    pub reloads: AtomicU32,
    pub stopping: bool,
    pub max_rows: Option<u32>,
}

fn text(entries: &[&str]) -> Values {
    let mut text = Text { codes: (0..entries.len() as u32).collect(), ..Text::default() };
    for entry in entries {
        text.bytes.extend_from_slice(entry.as_bytes());
        text.ends.push(text.bytes.len() as u32);
    }
    Values::Text(text)
}

fn column(name: &str, kind: Kind, role: Role, values: Values, present: &[u8]) -> NamedColumn {
    NamedColumn { name: name.into(), kind, role, column: Column { values, present: present.into() } }
}

fn summary() -> Table {
    let columns = vec![
        column("total_events", Kind::Integer, Role::Counter, Values::Integers(vec![12]), &[]),
        column("hot_post", Kind::Text, Role::Gauge, text(&["post_1"]), &[]),
        column("cold_post", Kind::Text, Role::Gauge, text(&[""]), &[0]),
    ];
    Table { name: "summary".into(), columns, rows_left_out: 0 }
}

/// A row of every kind, then one in which nothing but the key is present.
fn posts(skip: u64, limit: u32) -> Table {
    const ROWS: u64 = 7;
    let left = ROWS.saturating_sub(skip);
    let rows = left.min(if limit == 0 { left } else { limit.into() }).min(2) as usize;
    let present = &[1, 0][..rows];
    let columns = vec![
        column("post", Kind::Text, Role::Key, text(&["a \"b\", c", "ü\nx"][..rows]), &[]),
        column("plays", Kind::Integer, Role::Counter, Values::Integers([i64::MAX, 0][..rows].into()), present),
        column("revenue", Kind::Decimal(2), Role::Counter, Values::Integers([-5, 0][..rows].into()), present),
        column("share", Kind::Float, Role::Gauge, Values::Floats([0.25, 0.0][..rows].into()), present),
        column("robot", Kind::Boolean, Role::Gauge, Values::Booleans([1, 0][..rows].into()), present),
        column(
            "last",
            Kind::Timestamp,
            Role::Gauge,
            Values::Integers([1_769_508_000_123_000, 0][..rows].into()),
            present,
        ),
        column("extra", Kind::Json, Role::Gauge, text(&["{\"k\":[1]}", "null"][..rows]), present),
    ];
    Table { name: "posts".into(), columns, rows_left_out: left - rows as u64 }
}

impl Backend for Fake {
    fn max_rows(&self) -> u32 {
        self.max_rows.unwrap_or(10_000)
    }

    fn ready(&self) -> Result<(), QueryError> {
        match self.stopping {
            false => Ok(()),
            true => Err(QueryError::unavailable("stopping", "the daemon is stopping")),
        }
    }

    fn status(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({"sequence": 7})) })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async { Ok("# HELP tally_ready 1 while events are accepted.\n".into()) })
    }

    fn plugins(&self) -> Answer<'_, Value> {
        Box::pin(async { Err(QueryError::unavailable("starting", "plugins are being loaded; ask again")) })
    }

    fn reload(&self) -> Answer<'_, Value> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.reloads.fetch_add(1, Ordering::SeqCst);
            Ok(json!({"plugins": []}))
        })
    }

    fn aggregators(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({"aggregators": []})) })
    }

    fn ask<'a>(&'a self, name: &'a str, ask: Ask) -> Answer<'a, Report> {
        Box::pin(async move {
            let tables = match name {
                "panics" => panic!("the backend's fault"),
                "slow" => std::future::pending().await,
                "echo" => return Err(QueryError::bad_request("not_answered", format!("{ask:?}"))),
                "video-actions" => [summary()]
                    .into_iter()
                    .chain(
                        Some(posts(ask.skip_rows, ask.row_limit))
                            .filter(|table| ask.tables.is_empty() || ask.tables.contains(&table.name)),
                    )
                    .collect(),
                "tiny" => vec![summary()],
                _ => {
                    return Err(QueryError::not_found(
                        "unknown_aggregator",
                        format!("there is no aggregator {name:?}"),
                    ));
                }
            };
            let watermark = (name != "tiny").then(|| "2026-01-27T10:00:00.000000Z".to_owned());
            let age = Duration::from_micros(1_234_567);
            Ok(Report { as_of_sequence: 12, watermark, age, complete: true, tables })
        })
    }

    fn batch(&self, batch: Batch) -> Answer<'_, Vec<u8>> {
        Box::pin(async move {
            match batch {
                Batch::Last => Ok(b"{\"batch_id\":3}".to_vec()),
                Batch::Number(number @ 1..=3) => Ok(format!("{{\"batch_id\":{number}}}").into_bytes()),
                Batch::Number(number) => Err(QueryError::not_found("no_batch", format!("there is no batch {number}"))),
            }
        })
    }

    fn change<'a>(&'a self, name: &'a str, change: Change) -> Answer<'a, Value> {
        Box::pin(async move { Ok(json!({"changed": name, "to": format!("{change:?}")})) })
    }

    fn plan<'a>(&'a self, plugin: &'a str, component: Vec<u8>) -> Answer<'a, Value> {
        Box::pin(async move { Ok(json!({"plan": plugin, "bytes": component.len()})) })
    }

    fn shadow<'a>(&'a self, name: &'a str, component: Vec<u8>, from: Option<Since>) -> Answer<'a, Value> {
        Box::pin(async move {
            Ok(json!({"shadow": name, "bytes": component.len(), "from": from.map(|from| format!("{from:?}"))}))
        })
    }

    fn diff<'a>(&'a self, name: &'a str, rows: u32) -> Answer<'a, Value> {
        Box::pin(async move { Ok(json!({"diff": name, "rows": rows})) })
    }

    fn drop_shadow<'a>(&'a self, name: &'a str) -> Answer<'a, Value> {
        Box::pin(async move { Ok(json!({"dropped": name})) })
    }

    fn dead_letters(&self, rows: u32, aggregator: Option<String>) -> Answer<'_, Value> {
        Box::pin(async move { Ok(json!({"rows": rows, "aggregator": aggregator})) })
    }

    fn dead_letter<'a>(&'a self, id: &'a str) -> Answer<'a, Value> {
        Box::pin(async move { Ok(json!({"id": id})) })
    }

    fn rejected(&self, rows: u32, reason: Option<String>) -> Answer<'_, Value> {
        Box::pin(async move { Ok(json!({"rows": rows, "reason": reason})) })
    }
}

pub fn query_door(fake: Fake) -> Router {
    router(Arc::new(fake), Door::Query { admin: "/run/tally.sock.admin".into() })
}

/// Sends `METHOD PATH` with these headers.
pub async fn send(router: Router, line: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let (method, path) = line.split_once(' ').expect("METHOD PATH");
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

pub async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// Status, telling headers and body of the answer; a carriage return is shown as `␍`.
pub async fn answer(router: Router, line: &str, headers: &[(&str, &str)]) -> String {
    let response = send(router, line, headers).await;
    let mut head = format!("{}\n", response.status());
    for name in
        ["content-type", "allow", "x-as-of-sequence", "x-data-age", "x-watermark", "x-complete", "x-rows-left-out"]
    {
        if let Some(value) = response.headers().get(name) {
            head += &format!("{name}: {}\n", value.to_str().unwrap());
        }
    }
    head + &String::from_utf8(bytes(response).await).unwrap().replace('\r', "␍")
}
