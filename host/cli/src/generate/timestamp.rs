//! RFC 3339 text for milliseconds since the Unix epoch, one division per second of the workload.

/// 2026-01-27T10:00:00Z, in milliseconds.
pub const START: i64 = 1_769_508_000_000;

/// Writes timestamps; remembers the text of the last second.
pub struct Writer {
    second: i64,
    text: [u8; 24],
}

impl Writer {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Writer { second: i64::MIN, text: *b"0000-00-00T00:00:00.000Z" }
    }

    /// `2026-01-27T10:00:00.123Z`; for years 0 to 9999.
    pub fn text(&mut self, millis: i64) -> &[u8; 24] {
        let second = millis.div_euclid(1000);
        if second != self.second {
            self.second = second;
            self.set_second(second);
        }
        self.put(20, 3, millis.rem_euclid(1000));
        &self.text
    }

    fn set_second(&mut self, second: i64) {
        let (year, month, day) = date(second.div_euclid(86_400));
        let of_day = second.rem_euclid(86_400);
        self.put(0, 4, year);
        self.put(5, 2, month);
        self.put(8, 2, day);
        self.put(11, 2, of_day / 3600);
        self.put(14, 2, of_day / 60 % 60);
        self.put(17, 2, of_day % 60);
    }

    fn put(&mut self, at: usize, digits: usize, mut value: i64) {
        for place in (at..at + digits).rev() {
            self.text[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
}

/// Year, month and day of a day number since 1970-01-01 (days counted from a March 1st, eras of 400 years).
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let mut writer = Writer::new();
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (START, "2026-01-27T10:00:00.000Z"),
            (START + 123, "2026-01-27T10:00:00.123Z"),
            (START + 86_400_000 * 32 - 1, "2026-02-28T09:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        ] {
            assert_eq!(String::from_utf8_lossy(writer.text(millis)), text);
        }
    }

    #[test]
    fn dates_advance_by_one_day() {
        let mut last = date(-800_000);
        for day in -799_999..800_000 {
            let next = date(day);
            let (year, month, of_month) = last;
            let follows = next == (year, month, of_month + 1)
                || next == (year, month + 1, 1)
                || (next == (year + 1, 1, 1) && (month, of_month) == (12, 31));
            assert!(follows, "{last:?} then {next:?}");
            last = next;
        }
    }
}
