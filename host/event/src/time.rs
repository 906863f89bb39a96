//! RFC 3339 text, or numbers, to microseconds since the Unix epoch and back. Reads no clock.
//!
//! Taken: any offset, `T`, `t` or a space between date and time, `Z` or `z`; fractional digits beyond microseconds are
//! cut off; a leap second (`:60`) counts as the last microsecond of its minute; years 0001 to 9999, before and after
//! the offset is applied.

use crate::number;
use crate::schema::TimestampFormat;

/// 0001-01-01T00:00:00Z.
pub const MIN_MICROS: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z.
pub const MAX_MICROS: i64 = 253_402_300_799_999_999;

const MINUTE: i64 = 60_000_000;

/// A parser that remembers the last minute, since neighbouring events mostly share it.
#[derive(Debug)]
pub(crate) struct Clockwork {
    /// `YYYY-MM-DDTHH:MM` of the minute remembered.
    minute: [u8; 16],
    /// When it starts.
    micros: i64,
}

impl Default for Clockwork {
    fn default() -> Self {
        Self { minute: *b"1970-01-01T00:00", micros: 0 }
    }
}

impl Clockwork {
    /// Microseconds since the epoch; none when the text is not RFC 3339 or out of range.
    #[inline(always)]
    pub(crate) fn parse(&mut self, text: &[u8]) -> Option<i64> {
        let (minute, rest) = text.split_first_chunk::<16>()?;
        if u128::from_le_bytes(*minute) != u128::from_le_bytes(self.minute) {
            self.micros = minute_micros(minute)?;
            self.minute = *minute;
        }
        if let Some(within) = rest.as_array().and_then(|rest| seconds_and_milliseconds(*rest)) {
            // Every minute of the years 0001 to 9999 is within range.
            return Some(self.micros + within);
        }
        let (within, offset) = seconds_and_offset(rest)?;
        let micros = self.micros + within - offset;
        (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(micros)
    }
}

/// Microseconds since the epoch; none when the text is not RFC 3339 or out of range.
pub fn parse(text: &str) -> Option<i64> {
    Clockwork::default().parse(text.as_bytes())
}

/// Microseconds since the epoch of a JSON number in the units of `format`; digits beyond microseconds are cut off, as
/// they are in text. None when it is out of range.
pub(crate) fn since_epoch(number: &[u8], format: TimestampFormat) -> Option<i64> {
    let scale = match format {
        TimestampFormat::Seconds => 6,
        TimestampFormat::Milliseconds => 3,
        TimestampFormat::Microseconds | TimestampFormat::Rfc3339 => 0,
    };
    number::floor_scaled(number, scale).filter(|micros| (MIN_MICROS..=MAX_MICROS).contains(micros))
}

/// RFC 3339 in UTC with as many fractional digits (0, 3 or 6) as needed. Times out of range are clamped.
pub fn format(micros: i64) -> String {
    let micros = micros.clamp(MIN_MICROS, MAX_MICROS);
    let time = chrono::DateTime::<chrono::Utc>::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// `:SS`, fraction and offset: microseconds within the minute, and the offset in microseconds.
fn seconds_and_offset(rest: &[u8]) -> Option<(i64, i64)> {
    let &[b':', s1, s0, ref rest @ ..] = rest else {
        return None;
    };
    let seconds = two([s1, s0])?;
    let (fraction, rest) = fraction(rest)?;
    let within = match seconds {
        0..=59 => seconds * 1_000_000 + fraction,
        60 => MINUTE - 1,
        _ => return None,
    };
    Some((within, offset(rest)?))
}

/// By far the commonest, milliseconds in UTC, `:SS.mmmZ`: eight bytes at once. None is no verdict.
#[inline(always)]
fn seconds_and_milliseconds(text: [u8; 8]) -> Option<i64> {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // What makes a byte's highest bit one, added to a digit that is none, or to any byte but zero.
    const ABOVE: u64 = u64::from_le_bytes([0x7f, 0x76, 0x76, 0x7f, 0x76, 0x76, 0x76, 0x7f]);
    let digits = u64::from_le_bytes(text) ^ u64::from_le_bytes(*b":00.000Z");
    let [_, s1, s0, _, m2, m1, m0, _] = digits.to_le_bytes().map(i64::from);
    let valid = (digits.wrapping_add(ABOVE) | digits) & HIGH == 0 && s1 < 6;
    valid.then(|| (((s1 * 10 + s0) * 10 + m2) * 10 + m1) * 10_000 + m0 * 1000)
}

/// A fraction, if there is one, in microseconds, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = rest else {
        return Some((0, rest));
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = rest.split_at(digits);
    let value =
        (0..6).fold(0, |value, place| value * 10 + fraction.get(place).map_or(0, |byte| i64::from(byte - b'0')));
    (digits > 0).then_some((value, rest))
}

fn offset(rest: &[u8]) -> Option<i64> {
    match *rest {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h0, b':', m1, m0] => {
            let (hours, minutes) = (two([h1, h0])?, two([m1, m0])?);
            let offset = (hours * 60 + minutes) * MINUTE;
            (hours < 24 && minutes < 60).then_some(if sign == b'+' { offset } else { -offset })
        }
        _ => None,
    }
}

/// Microseconds since the epoch at which a minute `YYYY-MM-DDTHH:MM` starts.
fn minute_micros(text: &[u8; 16]) -> Option<i64> {
    let [y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0, b'T' | b't' | b' ', h1, h0, b':', n1, n0] = *text else {
        return None;
    };
    let year = two([y3, y2])? * 100 + two([y1, y0])?;
    let (month, day, hour, minute) = (two([m1, m0])?, two([d1, d0])?, two([h1, h0])?, two([n1, n0])?);
    let valid = year >= 1 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    let in_day = hour < 24 && minute < 60;
    (valid && in_day).then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * MINUTE)
}

fn two(digits: [u8; 2]) -> Option<i64> {
    let [tens, ones] = digits.map(|byte| byte.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar; years are counted from March so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What chrono says, cut to microseconds; the leap second as documented above.
    fn oracle(text: &str) -> Option<i64> {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        let micros = if time.timestamp_subsec_nanos() >= 1_000_000_000 {
            time.timestamp() * 1_000_000 + 999_999
        } else {
            time.timestamp_micros()
        };
        let year_written = text.get(0..4)?.parse::<u32>().ok()?;
        (year_written >= 1 && (MIN_MICROS..=MAX_MICROS).contains(&micros)).then_some(micros)
    }

    #[test]
    fn table_of_texts() {
        let taken = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-27T10:00:00.123Z", 1_769_508_000_123_000),
            ("2026-01-27T10:00:00.1239999Z", 1_769_508_000_123_999),
            ("2026-01-27t12:30:00.5+02:30", 1_769_508_000_500_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999_999),
            ("2016-12-31T23:59:60.7Z", 1_483_228_799_999_999),
            ("0001-01-01T00:00:00Z", MIN_MICROS),
            ("9999-12-31T23:59:59.999999999Z", MAX_MICROS),
        ];
        for (text, micros) in taken {
            assert_eq!(parse(text), Some(micros), "{text}");
        }
        let refused = "|2026|2026-01-27|2026-01-27T10:00|2026-01-27T10:00:00|2026-01-27T10:00:00.Z|2026-02-29T10:00:00Z\
            |2026-00-10T10:00:00Z|2026-13-10T10:00:00Z|2026-01-00T10:00:00Z|2026-01-27T24:00:00Z|2026-01-27T10:60:00Z\
            |2026-01-27T10:00:61Z|2026-01-27T10:00:00+24:00|2026-01-27T10:00:00+02:60|2026-01-27T10:00:00+0200\
            |2026-01-27T10:00:00ZZ|0000-01-01T00:00:00Z|0001-01-01T00:00:00+00:01|9999-12-31T23:59:59-00:01|2026-1-27T10:00:00Z\
            |+026-01-27T10:00:00Z| 2026-01-27T10:00:00Z|2026-01-27T10:00:0:Z|2026-01-27T10:00:0a.000Z|1769508000|\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0:00Z";
        for text in refused.split('|') {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn formatting_is_read_back() {
        for micros in [0, -1, 1_769_508_000_123_000, MIN_MICROS, MAX_MICROS] {
            assert_eq!(parse(&format(micros)), Some(micros));
        }
        assert_eq!(format(i64::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(format(1_769_508_000_123_000), "2026-01-27T10:00:00.123Z");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Texts of the right shape, each part just beyond its range too.
        #[test]
        fn agrees_with_chrono(
            (year, month, day) in (prop_oneof![0_u32..3, 1582_u32..2400, 9997_u32..10_000], 0_u32..14, 0_u32..33),
            (hour, minute, second) in (0_u32..26, 0_u32..62, 0_u32..62),
            between in prop::sample::select(vec!["T", "t", " ", "_"]),
            fraction in "(\\.[0-9]{0,12})?",
            offset in "(Z|z|[+-][0-2][0-9]:[0-6][0-9]|)",
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}{fraction}{offset}");
            prop_assert_eq!(parse(&text), oracle(&text), "{}", text);
        }

        /// One parser over a sequence of texts remembers nothing that matters.
        #[test]
        fn remembering_a_minute_changes_nothing(times in prop::collection::vec(1_769_508_000_000_000_i64..1_769_508_200_000_000, 1..50)) {
            let mut clockwork = Clockwork::default();
            for micros in times {
                let text = format(micros);
                prop_assert_eq!(clockwork.parse(text.as_bytes()), Some(micros));
                prop_assert_eq!(clockwork.parse(b"2026-01-27T10:7"), None);
                prop_assert_eq!(clockwork.parse(b"2026-01-27T10:7x:00Z"), None);
            }
        }

        /// One byte changed anywhere: both parsers agree still.
        #[test]
        fn agrees_with_chrono_on_damaged_text(at in 0_usize..24, byte in 0x20_u8..0x7f) {
            let mut text = *b"2026-01-27T10:00:00.123Z";
            text[at] = byte;
            let text = std::str::from_utf8(&text).unwrap();
            prop_assert_eq!(parse(text), oracle(text), "{}", text);
        }
    }
}
