//! MessagePack to lines: what is written, what is refused and where, and that nothing is changed on the way.

use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use tally_ingest::Refusal;
use tally_ingest::encoding::{EncodingError, EncodingLimits, msgpack_array, msgpack_to_line};

const LIMITS: EncodingLimits = EncodingLimits { line_bytes: 10_000, depth: 8 };

fn packed(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("it encodes")
}

fn line(bytes: &[u8]) -> Result<String, EncodingError> {
    let mut out = b"before\n".to_vec();
    let result = msgpack_to_line(bytes, LIMITS, &mut out);
    let text = String::from_utf8(out).expect("text");
    let text = text.strip_prefix("before\n").expect("nothing before it is touched").to_owned();
    match result {
        Ok(consumed) => {
            assert_eq!(consumed, bytes.len());
            Ok(text)
        }
        Err(error) => {
            assert_eq!(text, "");
            Err(error)
        }
    }
}

/// The line, or reason, end and detail, for every input.
fn check(inputs: &[&[u8]], expected: expect_test::Expect) {
    let mut shown = String::new();
    for input in inputs {
        match line(input) {
            Ok(text) => shown.push_str(&(text + "\n")),
            Err(EncodingError { refusal: Refusal::Encoding { detail }, consumed }) => {
                shown.push_str(&format!("{consumed:?} {detail}\n"));
            }
            Err(error) => shown.push_str(&format!("{error:?}\n")),
        }
    }
    expected.assert_eq(&shown);
}

#[test]
fn values_are_written_exactly() {
    let deep = packed(&json!({"a": [1, {"b": null, "c": [], "d": {}}, "x\ny\u{1}\"\\/\u{2028}"], "": true}));
    let doubled = [&[0x82, 0xa1, b'k', 1, 0xa1, b'k', 2][..]].concat();
    check(
        &[
            &deep,
            &doubled,
            &packed(&json!([u64::MAX, i64::MIN, -1, -33, 127, 128, 65536])),
            &packed(&json!([1.0, -0.0, 0.1, 1e300, 5e-324, 1e16, 123456789.125])),
            &[0xca, 0x3d, 0xcc, 0xcc, 0xcd],
            // Timestamps of 4, 8 and 12 bytes.
            &[0xd6, 0xff, 0x69, 0x78, 0x88, 0x60],
            &[0xd7, 0xff, 0x1d, 0x53, 0x58, 0x00, 0x69, 0x78, 0x88, 0x60],
            &[0xc7, 12, 0xff, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ],
        expect![[r#"
            {"":true,"a":[1,{"b":null,"c":[],"d":{}},"x\ny\u0001\"\\/ "]}
            {"k":1,"k":2}
            [18446744073709551615,-9223372036854775808,-1,-33,127,128,65536]
            [1.0,-0.0,0.1,1e300,5e-324,1e16,123456789.125]
            0.1
            "2026-01-27T09:41:52Z"
            "2026-01-27T09:41:52.123000320Z"
            "1969-12-31T23:59:59.000000001Z"
        "#]],
    );
}

#[test]
fn what_json_cannot_say_is_refused() {
    let map = |value: &[u8]| [&[0x82, 0xa1, b'a', 0x93, 1, 2][..], value, &[0xa1, b'b', 3]].concat();
    check(
        &[
            &map(&[0xc4, 2, 0, 0]),
            &map(&[0xca, 0x7f, 0xc0, 0, 0]),
            &map(&[0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0]),
            &map(&[0xd4, 5, 0]),
            &map(&[0xd4, 0xff, 0]),
            &map(&[0xd7, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            &map(&[0xc7, 12, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            &map(&[0xa2, 0xc3, 0x28]),
            &map(&[0x81, 7, 1]),
            &map(&[0x81, 0xa1, 0xff, 1]),
            &map(&[0xc1]),
            &map(&[0x91; 9]),
            &[0x91; 8],
            &[0x82, 0xa1, b'a'],
            &[0xdb, 0xff, 0xff, 0xff, 0xff, b'a'],
            &[],
            &packed(&json!({"long": "x".repeat(9_990)})),
            &[&[0x81, 0xd9, 200][..], &[b'k'; 200], &[0x91, 0xa2, 0xc3, 0x28]].concat(),
        ],
        expect![[r#"
            Some(13) byte 7 at "/a/2": JSON has no binary data; send text instead, for example base64
            Some(14) byte 7 at "/a/2": JSON has no NaN and no infinity
            Some(18) byte 7 at "/a/2": JSON has no NaN and no infinity
            Some(12) byte 7 at "/a/2": JSON has nothing for extension type 5; only the timestamp (-1) is read
            Some(12) byte 7 at "/a/2": a timestamp of 1 bytes is none of the three forms
            Some(19) byte 7 at "/a/2": the timestamp lies outside of the years 1 to 9999
            Some(24) byte 7 at "/a/2": the timestamp lies outside of the years 1 to 9999
            Some(12) byte 7 at "/a/2": the text is not UTF-8
            Some(12) byte 8 at "/a/2": a key must be text, not an integer
            Some(13) byte 8 at "/a/2": the text is not UTF-8
            None byte 7 at "/a/2": 0xc1 begins no MessagePack value
            None byte 13 at "/a/2/0/0/0/0/0/0": nested more than 8 deep
            None byte 9 at "/0/0/0/0/0/0/0/0": the data ends within a value
            None byte 4 at "/a": the data ends within a value
            None byte 1: the data ends within a value
            None byte 1: the data ends within a value
            EncodingError { refusal: TooLong { length: 10001 }, consumed: Some(9999) }
            Some(207) byte 205 at "/kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"...: the text is not UTF-8
        "#]],
    );
}

#[test]
fn a_hostile_size_costs_nothing() {
    // An array that says it has four thousand million elements, and arrays in arrays without end.
    check(
        &[&[0xdd, 0xff, 0xff, 0xff, 0xff, 1], &vec![0x91; 1 << 20]],
        expect![[r#"
            None byte 7 at "/1": the data ends within a value
            None byte 9 at "/0/0/0/0/0/0/0/0": nested more than 8 deep
        "#]],
    );
}

#[test]
fn values_follow_one_another() {
    let mut bytes = packed(&json!({"a": 1}));
    bytes.extend([0x81, 0xa1, b'b', 0xc4, 1, 0]);
    bytes.extend(packed(&json!({"c": 3})));
    let (mut out, mut at, mut refused) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        at += msgpack_to_line(&bytes[at..], LIMITS, &mut out).unwrap_or_else(|error| {
            refused += 1;
            error.consumed.expect("it has an end")
        });
    }
    assert_eq!((refused, out.as_slice()), (1, &b"{\"a\":1}{\"c\":3}"[..]));
}

#[test]
fn arrays_are_told_from_others() {
    assert_eq!(msgpack_array(&packed(&json!([1, 2]))), Some((2, 1)));
    assert_eq!(msgpack_array(&packed(&json!(vec![0; 70_000]))), Some((70_000, 5)));
    assert_eq!(msgpack_array(&packed(&json!({}))), None);
    assert_eq!(msgpack_array(&[]), None);
}

fn values() -> impl Strategy<Value = Value> {
    // Short ones, which serde_json reads exactly: `floats_keep_every_bit` has the others.
    let float = any::<i32>().prop_map(|eighths| f64::from(eighths) / 8.0);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        float.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec((any::<String>(), inner), 0..8).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_the_same_after_msgpack(value in values()) {
        let text = line(&packed(&value)).expect("it has JSON");
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn floats_keep_every_bit(value in any::<f64>().prop_filter("JSON has no others", |value| value.is_finite())) {
        let text = line(&packed(&json!(value))).expect("it has JSON");
        prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        prop_assert!(text.contains('.') || text.contains('e'), "it stays a float: {}", text);
    }

    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        match msgpack_to_line(&bytes, LIMITS, &mut out) {
            Ok(consumed) => {
                prop_assert!(consumed <= bytes.len());
                prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&out).is_ok());
            }
            Err(error) => prop_assert!(out.is_empty() && error.consumed.is_none_or(|end| end <= bytes.len())),
        }
    }
}
