//! A report as a plugin could give it: refused by its check, or shown as JSON, CSV and Arrow with the rows and columns it has.
//! One that was refused is not shown by the daemon, yet showing it panics nowhere either.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow_ipc::reader::StreamReader;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tally_event::columns::{Column, Text, Values};
use tally_event::schema::Kind;
use tally_event::table::{NamedColumn, Role, Table};
use tally_fuzz::Input;
use tally_query::{Answer, Ask, Backend, Batch, Door, QueryError, Report, router};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let table = table(&mut input);
    let sound = table.check().is_ok();
    let rows = table.to_json_rows();
    assert_eq!(rows.len(), table.rows());
    assert_eq!(table.summary_json().is_empty(), table.rows() == 0 || table.columns.is_empty());
    // A table of few rows may leave its columns unequal only when it was refused.
    if !sound {
        return;
    }
    let (count, columns) = (table.rows(), table.columns.len());
    assert!(rows.iter().all(|row| row.len() == columns));
    let backend = Arc::new(Answers(table));

    let json = ask(&backend, "application/json");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["rows"].as_array().map(Vec::len), Some(count));
    let text = ask(&backend, "text/csv");
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&text[..]);
    let records: Vec<_> = reader.records().collect::<Result<_, _>>().expect("CSV");
    // A record of one empty field is a blank line, which no reader counts.
    if columns > 1 {
        assert_eq!(records.len(), count + 1);
        assert!(records.iter().all(|record| record.len() == columns));
    }
    let stream = ask(&backend, "application/vnd.apache.arrow.stream");
    let batches = StreamReader::try_new(&stream[..], None).expect("Arrow");
    let batches: Vec<_> = batches.collect::<Result<_, _>>().expect("Arrow");
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), count);
});

fn table(input: &mut Input<'_>) -> Table {
    let rows = usize::from(input.byte() % 8);
    let columns = (0..input.byte() % 6).map(|number| column(number, rows, input)).collect();
    Table { name: "posts".into(), columns, rows_left_out: input.u64() }
}

fn column(number: u8, rows: usize, input: &mut Input<'_>) -> NamedColumn {
    let odd = input.byte();
    let name = if odd & 1 == 0 { format!("c{number}") } else { String::from_utf8_lossy(input.short()).into_owned() };
    let rows = if odd & 2 == 0 { rows } else { usize::from(input.byte() % 8) };
    let kind = match input.byte() % 7 {
        0 => Kind::Text,
        1 => Kind::Integer,
        2 => Kind::Decimal(input.byte() % 24),
        3 => Kind::Float,
        4 => Kind::Boolean,
        5 => Kind::Timestamp,
        _ => Kind::Json,
    };
    // Mostly what fits the kind.
    let shape = if odd & 4 == 0 { kind } else { Kind::Text };
    let values = match shape {
        Kind::Text | Kind::Json => text(rows, odd & 8 == 0, input),
        Kind::Float => Values::Floats((0..rows).map(|_| f64::from_bits(input.u64())).collect()),
        Kind::Boolean => {
            Values::Booleans((0..rows).map(|_| input.byte() & if odd & 8 == 0 { 1 } else { 0xff }).collect())
        }
        _ => Values::Integers((0..rows).map(|_| input.u64().cast_signed() >> (odd >> 4)).collect()),
    };
    let present = match odd >> 5 {
        0 => (0..rows).map(|_| input.byte() & 1).collect(),
        1 => input.short().to_vec(),
        _ => Vec::new(),
    };
    NamedColumn { name, kind, role: Role::Gauge, column: Column { values, present } }
}

fn text(rows: usize, sound: bool, input: &mut Input<'_>) -> Values {
    let mut text = Text { bytes: input.short().to_vec(), ..Text::default() };
    let entries = usize::from(input.byte() % 5);
    for entry in 1..=entries {
        text.ends.push(if sound { (text.bytes.len() * entry / entries) as u32 } else { input.u32() });
    }
    let code =
        |input: &mut Input<'_>| if sound { u32::from(input.byte()) % entries.max(1) as u32 } else { input.u32() };
    text.codes = (0..rows).map(|_| code(input)).collect();
    if !sound {
        text.hashes = input.short().iter().copied().map(u64::from).collect();
    }
    Values::Text(text)
}

/// A backend that has one aggregator with one table.
struct Answers(Table);

fn ask(backend: &Arc<Answers>, media: &str) -> Vec<u8> {
    let router = router(Arc::clone(backend) as Arc<dyn Backend>, Door::Admin);
    let request = Request::get("/v1/aggregators/one/posts").header("accept", media).body(Body::empty());
    RUNTIME.block_on(async {
        let response = router.oneshot(request.expect("a request")).await.expect("a router always answers");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 24).await.expect("a body");
        assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
        body.into()
    })
}

impl Backend for Answers {
    fn max_rows(&self) -> u32 {
        100
    }

    fn ready(&self) -> Result<(), QueryError> {
        Ok(())
    }

    fn status(&self) -> Answer<'_, Value> {
        Box::pin(async { Ok(json!({})) })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async { Ok(String::new()) })
    }

    fn plugins(&self) -> Answer<'_, Value> {
        self.status()
    }

    fn reload(&self) -> Answer<'_, Value> {
        self.status()
    }

    fn aggregators(&self) -> Answer<'_, Value> {
        self.status()
    }

    fn ask<'a>(&'a self, _: &'a str, _: Ask) -> Answer<'a, Report> {
        let tables = vec![self.0.clone()];
        let report = Report { as_of_sequence: 1, watermark: None, age: Duration::ZERO, complete: true, tables };
        Box::pin(async { Ok(report) })
    }

    fn batch(&self, _: Batch) -> Answer<'_, Vec<u8>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn rejected(&self, _: u32, _: Option<String>) -> Answer<'_, Value> {
        self.status()
    }

    fn resume<'a>(&'a self, _: &'a str) -> Answer<'a, Value> {
        self.status()
    }

    fn dead_letters(&self, _: u32, _: Option<String>) -> Answer<'_, Value> {
        self.status()
    }

    fn dead_letter<'a>(&'a self, _: &'a str) -> Answer<'a, Value> {
        self.status()
    }
}
