//! Numbers as people read them. Knows nothing of what is counted.

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An average: one digit behind the point where it is small, none where it is not, thousands or millions where it is large.
pub fn average(number: f64) -> String {
    match number {
        number if number < 100.0 => format!("{number:.1}"),
        number if number < 1e5 => grouped(number.round() as u64),
        number if number < 1e8 => format!("{} k", grouped((number / 1e3).round() as u64)),
        number => format!("{} M", grouped((number / 1e6).round() as u64)),
    }
}

/// A share from 0 to 1 in percent.
pub fn percent(share: f64) -> String {
    match share {
        0.0 => "0%".to_string(),
        share if share < 0.0001 => "<0.01%".to_string(),
        share => format!("{:.2}%", share * 100.0),
    }
}

/// Bytes.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Whole seconds.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A time that is short most of the time, in seconds.
pub fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.000_999_5 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 0.999_5 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_units() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 9.96, 99.94, 1234.5].map(average), ["0.0", "10.0", "99.9", "1,235"]);
        assert_eq!([123_456.0, 43_895_620.0, 1_000_100_000.0].map(average), ["123 k", "43,896 k", "1,000 M"]);
        assert_eq!([0.0, 0.000_01, 0.0123, 1.0].map(percent), ["0%", "<0.01%", "1.23%", "100.00%"]);
        assert_eq!([1023, 1024, 20 << 20, 3 << 40].map(size), ["1023 B", "1.0 KiB", "20.0 MiB", "3.0 TiB"]);
        assert_eq!([59, 61, 3725, 90_000].map(duration), ["59 s", "1 min 1 s", "1 h 2 min", "1 d 1 h"]);
        assert_eq!([0.0, 0.000_25, 0.0123, 2.5].map(time), ["0 µs", "250 µs", "12.3 ms", "2.5 s"]);
    }
}
