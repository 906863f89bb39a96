//! Durations (`"30s"`, `"1h30m"`) and sizes (`"64MiB"`, or a number of bytes) as people write them.

use std::time::Duration;

/// Units of time in nanoseconds, longest name first where one begins another.
const TIMES: &[(&str, u64)] = &[
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// Units of size in bytes. Decimal and binary prefixes mean what they say.
const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a duration such as `30s`, `500ms` or `1h30m`: whole numbers, each with a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("\"{text}\" is no time; write a number with a unit (us, ms, s, m, h, d), e.g. \"30s\" or \"1h30m\"");
    let mut rest = text.trim();
    let mut nanos: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split_at_non_digit(rest);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let part = number
            .parse::<u64>()
            .ok()
            .zip(scale(TIMES, unit))
            .and_then(|(n, scale)| n.checked_mul(scale))
            .ok_or_else(wrong)?;
        nanos = nanos.checked_add(part).ok_or_else(wrong)?;
        rest = next;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Reads a size in bytes such as `64MiB`, `10 MB` or `4096`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_at_non_digit(text.trim());
    number
        .parse::<u64>()
        .ok()
        .zip(scale(SIZES, unit.trim()))
        .and_then(|(n, scale)| n.checked_mul(scale))
        .ok_or_else(|| {
            format!("\"{text}\" is no size; write a number of bytes or one with a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB), e.g. \"64MiB\"")
        })
}

fn split_at_non_digit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn scale(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, scale)| *scale)
}

/// A duration as people write it, in the form that [`parse_duration`] reads; what is below a microsecond is left out.
pub(super) fn write_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, scale) in [TIMES[5], TIMES[4], TIMES[3], TIMES[2], TIMES[1], TIMES[0]] {
        if rest >= scale {
            text += &format!("{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    if text.is_empty() { "0s".to_string() } else { text }
}

/// A size in the largest binary unit that says it exactly.
pub(super) fn write_size(bytes: u64) -> String {
    let units = SIZES.iter().rev().filter(|(unit, _)| unit.ends_with("iB"));
    match units.into_iter().find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale)) {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => bytes.to_string(),
    }
}
