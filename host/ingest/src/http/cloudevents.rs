//! CloudEvents 1.0 in binary mode: attributes are headers, the body is the data. Made into the one JSON object that structured mode would have
//! sent. Pure.

use axum::http::{HeaderMap, header};
use percent_encoding::percent_decode;
use serde_json::Value;
use serde_json::value::RawValue;

use super::lines::{Lines, is_space};

/// Appends the event.
pub(super) fn push(headers: &HeaderMap, body: &[u8], lines: &mut Lines) {
    let mut attributes = String::new();
    let mut attribute = |name: &str, value: &[u8]| {
        let comma = if attributes.is_empty() { "" } else { "," };
        let text = percent_decode(value).decode_utf8_lossy();
        attributes.push_str(&format!("{comma}{}:{}", Value::from(name), Value::from(text)));
    };
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix("ce-") {
            attribute(name, value.as_bytes());
        }
    }
    if body.iter().all(|byte| is_space(*byte)) {
        return lines.push(&[b"{", attributes.as_bytes(), b"}"]);
    }
    let media = headers.get(header::CONTENT_TYPE).map_or("application/json".as_bytes(), |value| value.as_bytes());
    attribute("datacontenttype", media);
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(data) => lines.push(&[b"{", attributes.as_bytes(), b",\"data\":", data.get().as_bytes(), b"}"]),
        Err(error) => lines.malformed(0, &error, body),
    }
}
