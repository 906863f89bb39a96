//! One table as CSV and as an Arrow stream, and how the format is chosen.

use arrow_ipc::reader::StreamReader;
use expect_test::{Expect, expect};

use crate::fake::{Fake, answer, bytes, query_door, send};

const POSTS: &str = "GET /v1/aggregators/video-actions/posts";

async fn check(line: &str, headers: &[(&str, &str)], expected: Expect) {
    expected.assert_eq(&answer(query_door(Fake::default()), line, headers).await);
}

#[tokio::test]
async fn a_table_as_csv() {
    check(
        &format!("{POSTS}?format=csv"),
        &[],
        expect![[r#"
            200 OK
            content-type: text/csv; charset=utf-8; header=present
            x-as-of-sequence: 12
            x-data-age: 1.234
            x-watermark: 2026-01-27T10:00:00.000000Z
            x-complete: true
            x-rows-left-out: 5
            post,plays,revenue,share,robot,last,extra␍
            "a ""b"", c",9223372036854775807,-0.05,0.25,true,2026-01-27T10:00:00.123Z,"{""k"":[1]}"␍
            "ü
            x",,,,,,␍
        "#]],
    )
    .await;
    check(
        "GET /v1/aggregators/video-actions?table=summary",
        &[("accept", "text/csv")],
        expect![[r#"
            200 OK
            content-type: text/csv; charset=utf-8; header=present
            x-as-of-sequence: 12
            x-data-age: 1.234
            x-watermark: 2026-01-27T10:00:00.000000Z
            x-complete: true
            x-rows-left-out: 0
            total_events,hot_post,cold_post␍
            12,post_1,␍
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_report_of_one_table_needs_no_name() {
    check(
        "GET /v1/aggregators/tiny?format=csv",
        &[],
        expect![[r#"
            200 OK
            content-type: text/csv; charset=utf-8; header=present
            x-as-of-sequence: 12
            x-data-age: 1.234
            x-complete: true
            x-rows-left-out: 0
            total_events,hot_post,cold_post␍
            12,post_1,␍
        "#]],
    )
    .await;
    check("GET /v1/aggregators/video-actions?format=csv", &[], expect![[r#"
        400 Bad Request
        content-type: application/problem+json
        {"code":"one_table_only","detail":"this format has one table, but the answer has summary, posts; name one with `table=` or in the path","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]).await;
}

#[tokio::test]
async fn a_table_as_an_arrow_stream() {
    let accept = [("accept", "application/vnd.apache.arrow.stream")];
    let response = send(query_door(Fake::default()), POSTS, &accept).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.apache.arrow.stream");
    assert_eq!(response.headers()["x-rows-left-out"], "5");
    let bytes = bytes(response).await;
    let mut reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let schema = reader.schema();
    let mut seen = String::new();
    for field in schema.fields() {
        let mut metadata: Vec<_> = field.metadata().iter().collect();
        metadata.sort();
        seen += &format!("{}: {} {metadata:?}\n", field.name(), field.data_type());
    }
    let batch = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none(), "one batch");
    for column in batch.columns() {
        seen += &format!("{column:?}\n");
    }
    expect![[r#"
        post: Utf8 [("tally.role", "key")]
        plays: Int64 [("tally.role", "counter")]
        revenue: Decimal128(38, 2) [("tally.role", "counter")]
        share: Float64 [("tally.role", "gauge")]
        robot: Boolean [("tally.role", "gauge")]
        last: Timestamp(µs, "UTC") [("tally.role", "gauge")]
        extra: Utf8 [("ARROW:extension:metadata", ""), ("ARROW:extension:name", "arrow.json"), ("tally.role", "gauge")]
        StringArray
        [
          "a \"b\", c",
          "ü\nx",
        ]
        PrimitiveArray<Int64>
        [
          9223372036854775807,
          null,
        ]
        PrimitiveArray<Decimal128(38, 2)>
        [
          -5,
          null,
        ]
        PrimitiveArray<Float64>
        [
          0.25,
          null,
        ]
        BooleanArray
        [
          true,
          null,
        ]
        PrimitiveArray<Timestamp(µs, "UTC")>
        [
          2026-01-27T10:00:00.123 (Unknown Time Zone 'UTC'),
          null,
        ]
        StringArray
        [
          "{\"k\":[1]}",
          null,
        ]
    "#]]
    .assert_eq(&seen);
}

#[tokio::test]
async fn an_empty_table_has_the_same_schema() {
    let schema = async |line: String| {
        let bytes = bytes(send(query_door(Fake::default()), &line, &[]).await).await;
        StreamReader::try_new(bytes.as_slice(), None).unwrap().schema()
    };
    let full = schema(format!("{POSTS}?format=arrow")).await;
    assert_eq!(schema(format!("{POSTS}?format=arrow&skip=9")).await, full);
}

#[tokio::test]
async fn the_parameter_goes_before_the_header() {
    let csv = answer(query_door(Fake::default()), &format!("{POSTS}?format=json"), &[("accept", "text/csv")]).await;
    assert!(csv.starts_with("200 OK\ncontent-type: application/json\n"), "{csv}");
    check(&format!("{POSTS}?format=xml"), &[], expect![[r#"
        400 Bad Request
        content-type: application/problem+json
        {"code":"unknown_format","detail":"there is no format `xml`; known are json, csv and arrow","status":400,"title":"Bad Request","type":"about:blank"}
    "#]]).await;
    check(POSTS, &[("accept", "text/html")], expect![[r#"
        406 Not Acceptable
        content-type: application/problem+json
        {"code":"not_acceptable","detail":"`Accept: text/html` has no format that there is; there are application/json, text/csv and application/vnd.apache.arrow.stream","status":406,"title":"Not Acceptable","type":"about:blank"}
    "#]]).await;
}
