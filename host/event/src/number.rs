//! Values of JSON numbers whose grammar was checked before: integers, exact decimals, floats.

/// Why a number cannot be read as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotExact {
    /// Beyond `i64` (after scaling), or beyond finite floats.
    OutOfRange,
    /// Nonzero digits below 10^-scale.
    SurplusDigits,
}

/// The number times 10^scale, exactly. `digits` is a JSON number.
#[inline]
pub(crate) fn scaled(digits: &[u8], scale: u8) -> Result<i64, NotExact> {
    match plain_integer(digits) {
        Some(value) if scale == 0 => Ok(value),
        Some(value) => 10_i64.pow(scale.into()).checked_mul(value).ok_or(NotExact::OutOfRange),
        None => scaled_slowly(digits, scale),
    }
}

/// The nearest finite float.
pub(crate) fn float(digits: &[u8]) -> Result<f64, NotExact> {
    let parsed = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<f64>().ok());
    parsed.filter(|value| value.is_finite()).ok_or(NotExact::OutOfRange)
}

/// Up to 18 digits with an optional sign, which cannot overflow.
#[inline]
fn plain_integer(number: &[u8]) -> Option<i64> {
    let (negative, digits) = match number {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    if digits.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

fn scaled_slowly(number: &[u8], scale: u8) -> Result<i64, NotExact> {
    match split(number, scale) {
        Split { rest: true, .. } => Err(NotExact::SurplusDigits),
        Split { negative, whole, .. } => {
            let signed = whole.map(|whole| if negative { -whole } else { whole });
            signed.and_then(|whole| i64::try_from(whole).ok()).ok_or(NotExact::OutOfRange)
        }
    }
}

/// The greatest integer that is not above the number times 10^scale, if it is within `i64`. `digits` is a JSON number.
pub(crate) fn floor_scaled(digits: &[u8], scale: u8) -> Option<i64> {
    if let Ok(exact) = scaled(digits, scale) {
        return Some(exact);
    }
    let Split { negative, whole, rest } = split(digits, scale);
    let whole = whole?;
    i64::try_from(if negative { -whole - i128::from(rest) } else { whole }).ok()
}

/// A number times 10^scale.
struct Split {
    negative: bool,
    /// Its integral part without the sign; none beyond `i128`.
    whole: Option<i128>,
    /// Whether anything is behind the point.
    rest: bool,
}

/// Any JSON number is its digits times a power of ten; a negative power cuts off as many digits.
fn split(number: &[u8], scale: u8) -> Split {
    let exponent_at = number.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(number.len());
    let (mantissa, exponent) = number.split_at(exponent_at);
    let fraction = mantissa.iter().position(|&b| b == b'.').map_or(0, |point| mantissa.len() - point - 1);
    let power = exponent_of(exponent).saturating_sub(fraction as i64).saturating_add(scale.into());

    let digits = mantissa.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0');
    let count = digits.clone().count();
    let kept = count.saturating_sub(usize::try_from(power.saturating_neg()).unwrap_or(0));
    let append = |value: i128, digit: u8| value.checked_mul(10)?.checked_add(digit.into());
    let value = digits.clone().take(kept).try_fold(0, append);
    let factor = u32::try_from(power.max(0)).ok().and_then(|power| 10_i128.checked_pow(power));
    let whole = match (value, factor) {
        (Some(0), _) => Some(0),
        (Some(value), Some(factor)) => value.checked_mul(factor),
        _ => None,
    };
    Split { negative: number.first() == Some(&b'-'), whole, rest: digits.skip(kept).any(|digit| digit != 0) }
}

/// `e+12` as 12; saturates far beyond what any line could make up for by its digits.
fn exponent_of(exponent: &[u8]) -> i64 {
    let (sign, digits) = match exponent {
        [b'e' | b'E', b'-', digits @ ..] => (-1, digits),
        [b'e' | b'E', b'+', digits @ ..] | [b'e' | b'E', digits @ ..] => (1, digits),
        _ => (1, &[][..]),
    };
    const MOST: i64 = 1 << 40;
    let magnitude = digits.iter().fold(0, |value: i64, byte| (value * 10 + i64::from(byte - b'0')).min(MOST));
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_exact_or_refused() {
        let table: &[(&str, Result<i64, NotExact>)] = &[
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("1", Ok(1)),
            ("1.0", Ok(1)),
            ("1e3", Ok(1000)),
            ("1E+3", Ok(1000)),
            ("1000e-3", Ok(1)),
            ("12.50e1", Ok(125)),
            ("0e999999999999999999999", Ok(0)),
            ("0.000e-5", Ok(0)),
            ("10000000000000000000000e-22", Ok(1)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(NotExact::OutOfRange)),
            ("-9223372036854775809", Err(NotExact::OutOfRange)),
            ("1e19", Err(NotExact::OutOfRange)),
            ("1e99999999999999999999", Err(NotExact::OutOfRange)),
            ("1e-99999999999999999999", Err(NotExact::SurplusDigits)),
            ("1.5", Err(NotExact::SurplusDigits)),
            ("1e-1", Err(NotExact::SurplusDigits)),
            ("123456789012345678901234567890123456789012345", Err(NotExact::OutOfRange)),
        ];
        for (text, expected) in table {
            assert_eq!(scaled(text.as_bytes(), 0), *expected, "{text}");
        }
    }

    #[test]
    fn decimals_are_scaled_exactly_or_refused() {
        let table: &[(&str, u8, Result<i64, NotExact>)] = &[
            ("12.34", 2, Ok(1234)),
            ("12.3400", 2, Ok(1234)),
            ("-0.01", 2, Ok(-1)),
            ("12.345", 2, Err(NotExact::SurplusDigits)),
            ("5", 2, Ok(500)),
            ("5e-2", 2, Ok(5)),
            ("1.2e1", 0, Ok(12)),
            ("9.223372036854775807", 18, Ok(i64::MAX)),
            ("9.223372036854775808", 18, Err(NotExact::OutOfRange)),
            ("92233720368547758", 3, Err(NotExact::OutOfRange)),
            ("0.0000000000000000001", 18, Err(NotExact::SurplusDigits)),
        ];
        for (text, scale, expected) in table {
            assert_eq!(scaled(text.as_bytes(), *scale), *expected, "{text} at scale {scale}");
        }
    }

    #[test]
    fn floats_are_nearest_and_finite() {
        assert_eq!(float(b"0.1"), Ok(0.1));
        assert_eq!(float(b"-0").map(f64::to_bits), Ok((-0.0_f64).to_bits()));
        assert_eq!(float(b"1e400"), Err(NotExact::OutOfRange));
        assert_eq!(float(b"1e-400"), Ok(0.0));
    }

    proptest! {
        /// Any way of writing a value gives that value.
        #[test]
        fn writing_does_not_matter(value: i64, shift in 0_u32..25, zeros in 0_usize..30) {
            let magnitude = value.unsigned_abs().to_string();
            let sign = if value < 0 { "-" } else { "" };
            // value = (digits with a point moved `shift` places to the left) x 10^shift, zeros appended
            let padded = format!("{magnitude:0>width$}", width = shift as usize + 1);
            let (whole, fraction) = padded.split_at(padded.len() - shift as usize);
            let point = if fraction.is_empty() && zeros == 0 { "" } else { "." };
            let text = format!("{sign}{whole}{point}{fraction}{}e{shift}", "0".repeat(zeros));
            prop_assert_eq!(scaled(text.as_bytes(), 0), Ok(value), "{}", text);
        }

        /// Short decimals agree with integer arithmetic.
        #[test]
        fn decimals_agree_with_integers(whole in 0_i64..1_000_000, thousandths in 0_i64..1000) {
            let text = format!("{whole}.{thousandths:03}");
            prop_assert_eq!(scaled(text.as_bytes(), 3), Ok(whole * 1000 + thousandths));
            let cents = if thousandths % 10 == 0 { Ok(whole * 100 + thousandths / 10) } else { Err(NotExact::SurplusDigits) };
            prop_assert_eq!(scaled(text.as_bytes(), 2), cents);
        }
    }
}
