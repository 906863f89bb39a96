//! One MessagePack value made into a line of JSON: refused, or the same value as rmp-serde reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tally_ingest::encoding::{EncodingLimits, msgpack_to_line};

fuzz_target!(|data: &[u8]| {
    let limits = EncodingLimits { line_bytes: 4096, depth: 16 };
    let mut line = b"before".to_vec();
    match msgpack_to_line(data, limits, &mut line) {
        Err(error) => {
            assert_eq!(line, b"before", "after an error the line is as it was");
            assert!(error.consumed.is_none_or(|consumed| (1..=data.len()).contains(&consumed)));
        }
        Ok(consumed) => {
            assert!(consumed <= data.len());
            let line = &line[b"before".len()..];
            assert!(line.len() <= limits.line_bytes && !line.contains(&b'\n'));
            let value: Value = serde_json::from_slice(line).expect("JSON");
            // Of the timestamp extension rmp-serde makes something else, and refuses it in most places.
            if let Ok(read) = rmp_serde::from_slice::<Value>(&data[..consumed])
                && !has_time(&value)
            {
                assert!(same(&read, &value), "{read} {value}");
            }
        }
    }
});

/// Whether a time may be among the texts.
fn has_time(value: &Value) -> bool {
    match value {
        Value::String(text) => text.ends_with('Z'),
        Value::Array(values) => values.iter().any(has_time),
        Value::Object(members) => members.values().any(has_time),
        _ => false,
    }
}

/// Equal, where floats may be off by what serde_json rounds when it reads.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return false };
            // One of 32 bits is written with the digits that tell it from others of 32 bits.
            one == other || (one - other).abs() <= one.abs() * 1e-15 || one as f32 == other as f32
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}
