//! RFC 8259 by bytes: where strings, numbers and whole values end, strictly, without building anything. Knows nothing of
//! columns. A newline ends a line, so it is no whitespace here; bytes beyond it are never interpreted.
//!
//! Nothing here relies on the bytes being UTF-8; the caller checks that.

use crate::block::{BLOCK, first_mark, is_special, marks};

/// Deepest nesting that can be asked for: open containers are kept as the bits of a `u128`.
pub(crate) const MAX_DEPTH: u32 = 128;

/// What is wrong with a line, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Index of the offending byte.
    pub(crate) at: u32,
    pub(crate) what: What,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum What {
    Value,
    Key,
    Colon,
    CommaOrBrace,
    CommaOrBracket,
    Control,
    Escape,
    Unterminated,
    Number,
    Trailing,
    TooDeep,
    NotAnObject,
}

impl What {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Value => "a value was expected",
            Self::Key => "a key in double quotes was expected",
            Self::Colon => "':' was expected after the key",
            Self::CommaOrBrace => "',' or '}' was expected",
            Self::CommaOrBracket => "',' or ']' was expected",
            Self::Control => "control characters must be escaped in a string",
            Self::Escape => "no such escape",
            Self::Unterminated => "the string does not end on its line",
            Self::Number => "no JSON number",
            Self::Trailing => "nothing may follow the object",
            Self::TooDeep => "nested too deeply",
            Self::NotAnObject => "an event is a JSON object",
        }
    }
}

pub(crate) type Scan<T> = Result<T, Fault>;

#[cold]
pub(crate) fn fault<T>(at: usize, what: What) -> Scan<T> {
    Err(Fault { at: at as u32, what })
}

/// The byte at `at`; a newline where the bytes end, since that ends a line as well.
#[inline(always)]
pub(crate) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(b'\n')
}

/// Past spaces, tabs and carriage returns.
#[inline(always)]
pub(crate) fn skip_space(bytes: &[u8], at: usize) -> usize {
    if byte(bytes, at) > b' ' { at } else { skip_real_space(bytes, at) }
}

#[inline(never)]
fn skip_real_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte(bytes, at), b' ' | b'\t' | b'\r') {
        at += 1;
    }
    at
}

/// Where a string ends, and whether it holds escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StringEnd {
    /// Index of the closing quote.
    pub(crate) quote: usize,
    pub(crate) escaped: bool,
}

/// The end of the string whose first byte after the quote is at `start`.
#[inline(always)]
pub(crate) fn string(bytes: &[u8], start: usize) -> Scan<StringEnd> {
    let at = plain_run(bytes, start);
    if byte(bytes, at) == b'"' {
        return Ok(StringEnd { quote: at, escaped: false });
    }
    string_with_escapes(bytes, at)
}

/// The same, of a string that is plain up to `at`.
#[inline(never)]
pub(crate) fn string_with_escapes(bytes: &[u8], mut at: usize) -> Scan<StringEnd> {
    let mut escaped = false;
    loop {
        match byte(bytes, at) {
            b'"' => return Ok(StringEnd { quote: at, escaped }),
            b'\\' => at = escape(bytes, at)?,
            b'\n' => return fault(at, What::Unterminated),
            _ => return fault(at, What::Control),
        }
        escaped = true;
        at = plain_run(bytes, at);
    }
}

/// Past the escape whose backslash is at `at`.
fn escape(bytes: &[u8], at: usize) -> Scan<usize> {
    match byte(bytes, at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' if (2..6).all(|k| byte(bytes, at + k).is_ascii_hexdigit()) => Ok(at + 6),
        _ => fault(at, What::Escape),
    }
}

/// The first quote, backslash or control character from `at` on (or the end of the bytes).
#[inline(always)]
fn plain_run(bytes: &[u8], at: usize) -> usize {
    let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else {
        return plain_tail(bytes, at);
    };
    match marks(block) {
        0 => long_plain_run(bytes, at + BLOCK),
        marks => at + first_mark(marks),
    }
}

#[inline(never)]
fn long_plain_run(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        match marks(block) {
            0 => at += BLOCK,
            marks => return at + first_mark(marks),
        }
    }
    plain_tail(bytes, at)
}

#[inline(never)]
fn plain_tail(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|&b| !is_special(b)) {
        at += 1;
    }
    at
}

/// Eight bytes from `at` on, the first one lowest.
#[inline(always)]
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Past the number that starts at `start`.
#[inline(always)]
pub(crate) fn number(bytes: &[u8], start: usize) -> Scan<usize> {
    let first = if byte(bytes, start) == b'-' { start + 1 } else { start };
    let mut at = first;
    while byte(bytes, at).is_ascii_digit() {
        at += 1;
    }
    if at == first || (at > first + 1 && byte(bytes, first) == b'0') {
        return fault(start, What::Number);
    }
    if matches!(byte(bytes, at), b'.' | b'e' | b'E') { number_tail(bytes, at) } else { Ok(at) }
}

#[inline(never)]
fn number_tail(bytes: &[u8], mut at: usize) -> Scan<usize> {
    if byte(bytes, at) == b'.' {
        at = digits(bytes, at + 1)?;
    }
    if matches!(byte(bytes, at), b'e' | b'E') {
        let signed = matches!(byte(bytes, at + 1), b'+' | b'-');
        at = digits(bytes, at + 1 + usize::from(signed))?;
    }
    Ok(at)
}

fn digits(bytes: &[u8], start: usize) -> Scan<usize> {
    let mut at = start;
    while byte(bytes, at).is_ascii_digit() {
        at += 1;
    }
    if at == start { fault(at, What::Number) } else { Ok(at) }
}

/// Past the literal (`true`, `false`, `null`) at `at`.
#[inline(always)]
pub(crate) fn literal(bytes: &[u8], at: usize, literal: &'static [u8]) -> Scan<usize> {
    match bytes.get(at..at + literal.len()) {
        Some(found) if found == literal => Ok(at + literal.len()),
        _ => fault(at, What::Value),
    }
}

/// Past the value at `at`, whatever it is; `depth` containers are open around it, at most `limit` may be.
#[inline(always)]
pub(crate) fn skip_value(bytes: &[u8], at: usize, depth: u32, limit: u32) -> Scan<usize> {
    match byte(bytes, at) {
        b'"' => Ok(string(bytes, at + 1)?.quote + 1),
        b'-' | b'0'..=b'9' => number(bytes, at),
        b'{' | b'[' => skip_container(bytes, at, depth, limit),
        _ => skip_literal(bytes, at),
    }
}

/// Past `true`, `false` or `null`.
#[inline(always)]
pub(crate) fn skip_literal(bytes: &[u8], at: usize) -> Scan<usize> {
    match byte(bytes, at) {
        b't' => literal(bytes, at, b"true"),
        b'f' => literal(bytes, at, b"false"),
        b'n' => literal(bytes, at, b"null"),
        _ => fault(at, What::Value),
    }
}

/// Past the object or array that opens at `at`. Without recursion: the open containers are bits, 1 for an object.
#[inline(never)]
pub(crate) fn skip_container(bytes: &[u8], mut at: usize, depth: u32, limit: u32) -> Scan<usize> {
    let mut open: u128 = 0;
    let mut level = depth;
    loop {
        // At a value.
        let first = byte(bytes, at);
        if matches!(first, b'{' | b'[') {
            level += 1;
            if level > limit {
                return fault(at, What::TooDeep);
            }
            let object = first == b'{';
            open = (open << 1) | u128::from(object);
            at = skip_space(bytes, at + 1);
            if byte(bytes, at) != if object { b'}' } else { b']' } {
                if object {
                    at = skip_key(bytes, at)?;
                }
                continue;
            }
        } else {
            at = match first {
                b'"' => string(bytes, at + 1)?.quote + 1,
                b'-' | b'0'..=b'9' => number(bytes, at)?,
                _ => skip_literal(bytes, at)?,
            };
            at = skip_space(bytes, at);
        }
        // After a value, or at the end of an empty container.
        loop {
            let object = open & 1 == 1;
            match (byte(bytes, at), object) {
                (b'}', true) | (b']', false) => {
                    open >>= 1;
                    level -= 1;
                    at += 1;
                    if level == depth {
                        return Ok(at);
                    }
                    at = skip_space(bytes, at);
                }
                (b',', true) => {
                    at = skip_key(bytes, skip_space(bytes, at + 1))?;
                    break;
                }
                (b',', false) => {
                    at = skip_space(bytes, at + 1);
                    break;
                }
                (_, true) => return fault(at, What::CommaOrBrace),
                (_, false) => return fault(at, What::CommaOrBracket),
            }
        }
    }
}

/// From a key to its value.
#[inline(always)]
fn skip_key(bytes: &[u8], at: usize) -> Scan<usize> {
    if byte(bytes, at) != b'"' {
        return fault(at, What::Key);
    }
    colon(bytes, string(bytes, at + 1)?.quote + 1)
}

/// From behind a key to its value.
#[inline(always)]
pub(crate) fn colon(bytes: &[u8], at: usize) -> Scan<usize> {
    let at = skip_space(bytes, at);
    if byte(bytes, at) != b':' {
        return fault(at, What::Colon);
    }
    Ok(skip_space(bytes, at + 1))
}

/// Appends the text of a string's inside, whose escapes were checked before. Half a surrogate pair becomes U+FFFD.
pub(crate) fn unescape(mut inside: &[u8], out: &mut Vec<u8>) {
    while let Some(backslash) = memchr::memchr(b'\\', inside) {
        out.extend_from_slice(&inside[..backslash]);
        inside = &inside[backslash..];
        let Some(&letter) = inside.get(1) else { return };
        let plain = match letter {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                inside = unescape_unicode(inside, out);
                continue;
            }
            same => same,
        };
        out.push(plain);
        inside = &inside[2..];
    }
    out.extend_from_slice(inside);
}

/// Appends the character of the `\uXXXX` (or surrogate pair of them) that `inside` starts with; what follows it.
fn unescape_unicode<'a>(inside: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some(first) = unit(inside) else {
        return &[];
    };
    let rest = &inside[6..];
    let paired = match (first, unit(rest)) {
        (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => Some(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)),
        _ => None,
    };
    let character = char::from_u32(paired.unwrap_or(first)).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    if paired.is_some() { &rest[6..] } else { rest }
}

/// The UTF-16 unit of the `\uXXXX` that `text` starts with.
fn unit(text: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = text else {
        return None;
    };
    let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}
