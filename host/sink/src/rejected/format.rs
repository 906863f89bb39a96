//! A rejected line as a line of JSON. Pure.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::Rejected;

/// How much of a rejected line is kept, in bytes.
pub const KEPT_BYTES: usize = 4096;
/// How much of the detail is kept, in bytes.
const KEPT_DETAIL: usize = 1024;
/// How much of the source's name is kept, in bytes.
const KEPT_SOURCE: usize = 256;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    source: &'a str,
    line: u64,
    reason: &'a str,
    detail: &'a str,
    length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_base64: Option<String>,
    truncated: bool,
}

/// An upper bound of what [`line()`] appends: an escaped byte takes up to six.
pub(super) fn longest(rejected: &Rejected<'_>) -> usize {
    let kept = rejected.bytes.len().min(KEPT_BYTES)
        + rejected.detail.len().min(KEPT_DETAIL)
        + rejected.source.len().min(KEPT_SOURCE)
        + rejected.reason.len();
    6 * kept + 256
}

/// Appends one line with its newline.
pub(super) fn line(rejected: &Rejected<'_>, into: &mut Vec<u8>) {
    let kept = &rejected.bytes[..rejected.bytes.len().min(KEPT_BYTES)];
    let is_cut = kept.len() as u64 != rejected.length;
    let text = text(kept, is_cut);
    let line = Line {
        time: time(rejected.time_micros),
        source: prefix(rejected.source, KEPT_SOURCE),
        line: rejected.line,
        reason: rejected.reason,
        detail: prefix(rejected.detail, KEPT_DETAIL),
        length: rejected.length,
        bytes: text,
        bytes_base64: text.is_none().then(|| base64(kept)),
        truncated: is_cut,
    };
    let start = into.len();
    if serde_json::to_writer(&mut *into, &line).is_err() {
        // Strings and numbers into memory: cannot fail. If it did, no half line may stay.
        into.truncate(start);
        return;
    }
    into.push(b'\n');
}

/// The bytes as text, if they are; a character that was cut at the end is left out.
fn text(bytes: &[u8], is_cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if is_cut && error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// The beginning of a text, at a character's border.
fn prefix(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn time(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().unwrap_or(0);
        let group = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for at in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_it_may_be_and_short_ones_are_not_taken_for_long() {
        let short =
            Rejected { time_micros: 0, source: "unix", line: 1, reason: "why", detail: "", bytes: b"", length: 0 };
        let long = "\u{1}".repeat(1 << 20);
        // Every byte of these takes six, and the numbers are as long as they get.
        let each = [
            Rejected { bytes: long.as_bytes(), ..short },
            Rejected { detail: &long, ..short },
            Rejected { source: &long, ..short },
            Rejected { reason: &long[..100], ..short },
            Rejected { source: &long, detail: &long, reason: &long[..100], bytes: long.as_bytes(), ..short },
        ];
        for rejected in each {
            let rejected = Rejected { line: u64::MAX, length: u64::MAX, time_micros: i64::MAX, ..rejected };
            let mut into = Vec::new();
            line(&rejected, &mut into);
            assert!(into.len() <= longest(&rejected), "{} bytes, said to be {}", into.len(), longest(&rejected));
        }
        let usual = Rejected { detail: "expected a value", bytes: b"{\"type\":}", length: 9, ..short };
        assert!(longest(&usual) < 512, "{}", longest(&usual));
    }
}
