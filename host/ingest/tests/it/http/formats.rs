//! What becomes of bodies in every format.

use std::io::Write;

use axum::body::Body as HttpBody;
use expect_test::{Expect, expect};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::{Door, LIMITS, request};

async fn check(path: &str, media: &str, bodies: &[&[u8]], expected: Expect) {
    let door = Door::open();
    let mut shown = String::new();
    for body in bodies {
        shown.push_str(&door.shown(path, media, body.to_vec()).await);
    }
    expected.assert_eq(&shown);
}

#[tokio::test]
async fn json_is_an_object_or_an_array() {
    let bodies: &[&[u8]] = &[
        br#"{"a":1}"#,
        b" {\"a\":\n\n 1,\n\t\"b\": \"x\"}\n",
        b"[{\"a\":1},\n {\"bad\":\n1} , {\"dup\":1}]\n",
        br#"[]"#,
        br#"[{"bad":1}]"#,
        br#"[{"dup":1},{"bad":1}]"#,
        br#"7"#,
        br#"{"a":"#,
        b"{\"a\":1} {\"b\":2}",
    ];
    check("/v1/events", "application/json; charset=utf-8", bodies, expect![[r#"
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":1,"rejects":[],"rejects_left_out":0}
          default: {"a":1}
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":2,"rejects":[],"rejects_left_out":0}
          default: {"a":		 1,		"b": "x"}
        200 {"accepted":1,"rejected":1,"duplicates":1,"last_sequence":3,"rejects":[{"index":1,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
          default: {"a":1}
          default: {"bad":	1}
          default: {"dup":1}
        200 {"accepted":0,"rejected":0,"duplicates":0,"last_sequence":0,"rejects":[],"rejects_left_out":0}
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":3,"rejects":[{"index":0,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
          default: {"bad":1}
        200 {"accepted":0,"rejected":1,"duplicates":1,"last_sequence":3,"rejects":[{"index":1,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"}],"rejects_left_out":0}
          default: {"dup":1}
          default: {"bad":1}
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":4,"rejects":[],"rejects_left_out":0}
          default: 7
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":4,"rejects":[{"index":0,"reason":"invalid_json","detail":"EOF while parsing a value at line 1 column 5"}],"rejects_left_out":0}
          default: {"a":
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":4,"rejects":[{"index":0,"reason":"invalid_json","detail":"trailing characters at line 1 column 9"}],"rejects_left_out":0}
          default: {"a":1} {"b":2}
    "#]]).await;
}

#[tokio::test]
async fn an_array_that_is_no_json_is_one_rejected_event() {
    let bodies: &[&[u8]] = &[
        b"[{\"a\":1},\n{\"b\":2},\n{\"c\"3}]",
        b"[{\"a\":1}",
        b"[{\"a\":1}] x",
        b"[{\"a\":\"line\nbreak\"}]",
        b"[{\"a\":1},{\"a\":\"\xff\"}]",
        b"[{\"a\":1},]",
    ];
    check("/v1/events", "application/json", bodies, expect![[r#"
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":0,"rejects":[{"index":2,"reason":"invalid_json","detail":"byte 24: expected `:`; none of the body's events is taken"}],"rejects_left_out":0}
          default: refused, 26 bytes kept
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":0,"rejects":[{"index":1,"reason":"invalid_json","detail":"byte 8: EOF while parsing a list; none of the body's events is taken"}],"rejects_left_out":0}
          default: refused, 8 bytes kept
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":0,"rejects":[{"index":1,"reason":"invalid_json","detail":"byte 11: trailing characters; none of the body's events is taken"}],"rejects_left_out":0}
          default: refused, 11 bytes kept
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":0,"rejects":[{"index":0,"reason":"invalid_json","detail":"byte 11: control character (\\u0000-\\u001F) found while parsing a string; none of the body's events is taken"}],"rejects_left_out":0}
          default: refused, 20 bytes kept
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":0,"rejects":[{"index":1,"reason":"invalid_json","detail":"byte 16: invalid unicode code point; none of the body's events is taken"}],"rejects_left_out":0}
          default: refused, 19 bytes kept
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":0,"rejects":[{"index":1,"reason":"invalid_json","detail":"byte 10: trailing comma; none of the body's events is taken"}],"rejects_left_out":0}
          default: refused, 10 bytes kept
    "#]]).await;
}

#[tokio::test]
async fn lines_are_events_and_blank_ones_are_none() {
    let long = [b"{\"a\":1}\n{\"long\":\"", "x".repeat(LIMITS.line_bytes).as_bytes(), b"\"}\n\r\n{\"b\":2}"].concat();
    let bodies: &[&[u8]] = &[b"\n{\"a\":1}\r\n \t\n{\"bad\":1}\nnonsense\n{\"b\":2}", &long, b" \n\n", b""];
    check("/v1/events", "application/x-ndjson", bodies, expect![[r#"
        200 {"accepted":2,"rejected":2,"duplicates":0,"last_sequence":2,"rejects":[{"index":1,"field":"/timestamp","reason":"invalid_timestamp","detail":"no time"},{"index":2,"reason":"invalid_json","detail":"expected ident at line 1 column 2"}],"rejects_left_out":0}
          default: {"a":1}
          default: {"bad":1}
          default: nonsense
          default: {"b":2}
        200 {"accepted":2,"rejected":1,"duplicates":0,"last_sequence":4,"rejects":[{"index":1,"reason":"line_too_long","detail":"10011 bytes"}],"rejects_left_out":0}
          default: {"a":1}
          default: refused, 4096 bytes kept
          default: {"b":2}
        200 {"accepted":0,"rejected":0,"duplicates":0,"last_sequence":0,"rejects":[],"rejects_left_out":0}
        400 empty_body: the body is empty: it must hold at least one event
    "#]]).await;
}

#[tokio::test]
async fn msgpack_is_maps_or_an_array_of_maps() {
    let pack = |value| rmp_serde::to_vec(&value).expect("it encodes");
    let (a, b) = (pack(json!({"a": 1})), pack(json!({"b": [null, "two\nlines"]})));
    let binary = [0x81, 0xa1, b'x', 0xc4, 1, 0];
    let array = pack(json!([{"a": 1}, {"b": 2}]));
    let bodies: &[&[u8]] = &[
        &a,
        &[&a[..], &b, &a].concat(),
        &array,
        &[&[0x93][..], &a, &binary, &b].concat(),
        &[&a[..], &binary, &b, &[0x81, 0xa1]].concat(),
        &[&[0x93][..], &a, &b].concat(),
        &[&array[..], &a].concat(),
        &[0x90],
        &pack(json!({"long": "x".repeat(LIMITS.line_bytes)})),
    ];
    check("/v1/events", "application/msgpack", bodies, expect![[r#"
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":1,"rejects":[],"rejects_left_out":0}
          default: {"a":1}
        200 {"accepted":3,"rejected":0,"duplicates":0,"last_sequence":4,"rejects":[],"rejects_left_out":0}
          default: {"a":1}
          default: {"b":[null,"two\nlines"]}
          default: {"a":1}
        200 {"accepted":2,"rejected":0,"duplicates":0,"last_sequence":6,"rejects":[],"rejects_left_out":0}
          default: {"a":1}
          default: {"b":2}
        200 {"accepted":2,"rejected":1,"duplicates":0,"last_sequence":8,"rejects":[{"index":1,"reason":"invalid_encoding","detail":"byte 4 at \"/x\": JSON has no binary data; send text instead, for example base64"}],"rejects_left_out":0}
          default: {"a":1}
          default: refused, 6 bytes kept
          default: {"b":[null,"two\nlines"]}
        200 {"accepted":2,"rejected":2,"duplicates":0,"last_sequence":10,"rejects":[{"index":1,"reason":"invalid_encoding","detail":"byte 4 at \"/x\": JSON has no binary data; send text instead, for example base64"},{"index":3,"reason":"invalid_encoding","detail":"byte 2: the data ends within a value"}],"rejects_left_out":0}
          default: {"a":1}
          default: refused, 6 bytes kept
          default: {"b":[null,"two\nlines"]}
          default: refused, 2 bytes kept
        200 {"accepted":2,"rejected":1,"duplicates":0,"last_sequence":12,"rejects":[{"index":2,"reason":"invalid_encoding","detail":"byte 1: the data ends within a value"}],"rejects_left_out":0}
          default: {"a":1}
          default: {"b":[null,"two\nlines"]}
          default: refused, 0 bytes kept
        200 {"accepted":2,"rejected":1,"duplicates":0,"last_sequence":14,"rejects":[{"index":2,"reason":"invalid_encoding","detail":"4 bytes follow the array"}],"rejects_left_out":0}
          default: {"a":1}
          default: {"b":2}
          default: refused, 4 bytes kept
        200 {"accepted":0,"rejected":0,"duplicates":0,"last_sequence":0,"rejects":[],"rejects_left_out":0}
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":14,"rejects":[{"index":0,"reason":"line_too_long","detail":"10011 bytes"}],"rejects_left_out":0}
          default: refused, 4096 bytes kept
    "#]]).await;
}

#[tokio::test]
async fn cloudevents_come_structured_in_batches_and_in_binary_mode() {
    let door = Door::open();
    let event = r#"{"specversion":"1.0","id":"1","type":"t","source":"/s","data":{"a":1}}"#;
    let mut shown = door.shown("/v1/events", "application/cloudevents+json; charset=UTF-8", event).await;
    let batch = format!("[{event},{event}]");
    shown.push_str(&door.shown("/v1/events", "application/cloudevents-batch+json", batch).await);
    let binary = |media: &str, body: &'static str| {
        request("/v1/events", media)
            .header("ce-specversion", "1.0")
            .header("ce-type", "order.placed")
            .header("ce-source", "/caf%C3%A9%20%22x%22")
            .header("ce-id", "17")
            .header("CE-Time", "2026-01-27T10:00:00Z")
            .header("ce-latin", [0xe9].as_slice())
            .body(HttpBody::from(body))
            .expect("a request")
    };
    for request in [
        binary("application/json", "{\"a\":\n1}"),
        binary("application/vnd.order+json", "[1]"),
        binary("", ""),
        binary("application/json", "1,\"id\":\"18\""),
        binary("text/xml", "<a/>"),
    ] {
        shown.push_str(&format!("{}\n", door.send(request).await.shown()));
        door.seen().iter().for_each(|line| shown.push_str(&format!("  {line}\n")));
    }
    expect![[r#"
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":1,"rejects":[],"rejects_left_out":0}
          cloudevents: {"specversion":"1.0","id":"1","type":"t","source":"/s","data":{"a":1}}
        200 {"accepted":2,"rejected":0,"duplicates":0,"last_sequence":3,"rejects":[],"rejects_left_out":0}
          cloudevents: {"specversion":"1.0","id":"1","type":"t","source":"/s","data":{"a":1}}
          cloudevents: {"specversion":"1.0","id":"1","type":"t","source":"/s","data":{"a":1}}
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":4,"rejects":[],"rejects_left_out":0}
          cloudevents: {"specversion":"1.0","type":"order.placed","source":"/café \"x\"","id":"17","time":"2026-01-27T10:00:00Z","latin":"é","datacontenttype":"application/json","data":{"a":	1}}
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":5,"rejects":[],"rejects_left_out":0}
          cloudevents: {"specversion":"1.0","type":"order.placed","source":"/café \"x\"","id":"17","time":"2026-01-27T10:00:00Z","latin":"é","datacontenttype":"application/vnd.order+json","data":[1]}
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":6,"rejects":[],"rejects_left_out":0}
          cloudevents: {"specversion":"1.0","type":"order.placed","source":"/café \"x\"","id":"17","time":"2026-01-27T10:00:00Z","latin":"é"}
        400 {"accepted":0,"rejected":1,"duplicates":0,"last_sequence":6,"rejects":[{"index":0,"reason":"invalid_json","detail":"byte 2: trailing characters; none of the body's events is taken"}],"rejects_left_out":0}
          cloudevents: refused, 11 bytes kept
        415 unsupported_media_type: the Content-Type text/xml is not taken; the data of a CloudEvent must be application/json
    "#]].assert_eq(&shown);
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

#[tokio::test]
async fn bodies_may_be_gzip() {
    let door = Door::open();
    let whole = packed(b"{\"a\":1}\n{\"b\":2}\n");
    let mut spoilt = whole.clone();
    let crc = spoilt.len() - 8;
    spoilt[crc] ^= 1;
    let mut shown = String::new();
    let bodies = [
        ("gzip", whole.clone()),
        ("GZIP", [packed(b"{\"a\":1}\n{"), packed(b"\"b\":2}")].concat()),
        ("identity", b"{}".to_vec()),
        ("gzip", whole[..whole.len() - 3].to_vec()),
        ("gzip", whole[..12].to_vec()),
        ("gzip", [&whole[..], b"rest"].concat()),
        ("gzip", spoilt),
        ("gzip", b"{\"a\":1}".to_vec()),
        ("gzip", Vec::new()),
        ("gzip", packed(b"")),
        ("gzip", packed(&vec![b' '; LIMITS.body_bytes + 1])),
        ("br", whole),
        ("gzip, gzip", packed(b"{}")),
    ];
    for (encoding, body) in bodies {
        let request = request("/v1/events", "application/x-ndjson").header("content-encoding", encoding);
        let answer = door.send(request.body(body.into()).expect("a request")).await;
        shown.push_str(&format!("{}\n", answer.shown()));
    }
    expect![[r#"
        200 {"accepted":2,"rejected":0,"duplicates":0,"last_sequence":2,"rejects":[],"rejects_left_out":0}
        200 {"accepted":2,"rejected":0,"duplicates":0,"last_sequence":4,"rejects":[],"rejects_left_out":0}
        200 {"accepted":1,"rejected":0,"duplicates":0,"last_sequence":5,"rejects":[],"rejects_left_out":0}
        400 invalid_gzip: the body is no gzip, or not whole, or damaged; Content-Encoding says that it is gzip
        400 invalid_gzip: the body is no gzip, or not whole, or damaged; Content-Encoding says that it is gzip
        400 invalid_gzip: the body is no gzip, or not whole, or damaged; Content-Encoding says that it is gzip
        400 invalid_gzip: the body is no gzip, or not whole, or damaged; Content-Encoding says that it is gzip
        400 invalid_gzip: the body is no gzip, or not whole, or damaged; Content-Encoding says that it is gzip
        400 invalid_gzip: the body is no gzip, or not whole, or damaged; Content-Encoding says that it is gzip
        400 empty_body: the body is empty: it must hold at least one event
        413 body_too_large: the body has more than 1048576 bytes (limits.body_bytes), unpacked; send fewer events at a time
        415 unsupported_encoding: the Content-Encoding br is not taken; send gzip, or none
        415 unsupported_encoding: the Content-Encoding gzip, gzip is not taken; send gzip, or none
    "#]].assert_eq(&shown);
}
