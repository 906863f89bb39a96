//! Times and sizes as people write them.

use super::super::units::{write_duration, write_size};
use super::super::{parse_duration, parse_size};

#[test]
fn durations() {
    let nanos = |text| parse_duration(text).map(|duration| duration.as_nanos());
    assert_eq!(nanos("0s"), Ok(0));
    assert_eq!(nanos("7us"), Ok(7_000));
    assert_eq!(nanos("500ms"), Ok(500_000_000));
    assert_eq!(nanos(" 1h30m "), Ok(5_400_000_000_000));
    assert_eq!(nanos("1d"), Ok(86_400_000_000_000));
    for wrong in ["", "s", "30", "1.5s", "-1s", "1 s", "1S", "1ms2", "18446744073709551616us", "213504d"] {
        assert!(parse_duration(wrong).is_err(), "{wrong:?} was taken");
    }
}

#[test]
fn sizes() {
    assert_eq!(parse_size("0"), Ok(0));
    assert_eq!(parse_size("64MiB"), Ok(64 << 20));
    assert_eq!(parse_size("64 MB"), Ok(64_000_000));
    assert_eq!(parse_size("3B"), Ok(3));
    assert_eq!(parse_size("16777215TiB"), Ok(16_777_215 << 40));
    for wrong in ["", "MiB", "1.5MiB", "-1", "64M", "64mib", "16777216TiB", "1MiB1"] {
        assert!(parse_size(wrong).is_err(), "{wrong:?} was taken");
    }
}

#[test]
fn what_is_written_reads_back() {
    for text in ["0s", "7us", "1s500ms", "1h30m", "1d", "3650d"] {
        assert_eq!(write_duration(parse_duration(text).unwrap()), text);
    }
    for (bytes, text) in [(0, "0"), (1, "1"), (1536, "1536"), (4096, "4KiB"), (64 << 20, "64MiB"), (1 << 40, "1TiB")] {
        assert_eq!(write_size(bytes), text);
        assert_eq!(parse_size(text), Ok(bytes));
    }
}
