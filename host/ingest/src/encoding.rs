//! MessagePack to JSON, one value to one line, in one pass and without a tree in between. Pure: no I/O; knows neither frames nor what an event is.
//!
//! What cannot be said in JSON is refused rather than bent: binary data, keys that are no text, NaN and the infinities, extension types other
//! than the timestamp. Integers stay exact over all of `i64` and `u64`, floats keep every bit, a timestamp becomes RFC 3339 in UTC, and equal keys
//! of one map stay as they are (the decoder lets the last one win).
//!
//! A value that is refused still has an end, and the next value can be read; only a value that is cut off or is no MessagePack has none.

use chrono::{DateTime, Datelike, SecondsFormat};
use rmp::Marker;
use serde_json::Value;

use crate::framer::Refusal;

/// The extension type of a timestamp.
const TIMESTAMP: i8 = -1;

/// Bounds on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingLimits {
    /// The longest JSON text, in bytes, without its newline.
    pub line_bytes: usize,
    /// Deepest nesting; the outermost map or array is depth 1.
    pub depth: u32,
}

/// Why a value has no JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodingError {
    /// What is wrong, and where; of bounded length.
    pub refusal: Refusal,
    /// Where the value ends, if it has an end.
    pub consumed: Option<usize>,
}

/// Appends the JSON text of the first value of `bytes`, without a newline, to `out`, and gives how many bytes the value has. After an error
/// `out` is as it was.
pub fn msgpack_to_line(bytes: &[u8], limits: EncodingLimits, out: &mut Vec<u8>) -> Result<usize, EncodingError> {
    let begin = out.len();
    let mut transcoder = Transcoder { reader: Reader { bytes, at: 0 }, limits, begin, out, open: Vec::new() };
    match transcoder.value() {
        Ok(()) => Ok(transcoder.reader.at),
        Err(fault) => {
            let refusal = transcoder.refusal(fault);
            out.truncate(begin);
            Err(EncodingError { refusal, consumed: length(bytes) })
        }
    }
}

/// When the first value of `bytes` is an array: its number of elements, and where the first of them begins.
pub fn msgpack_array(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    match reader.token() {
        Ok(Token::Array(elements)) => Some((elements, reader.at)),
        _ => None,
    }
}

/// How many bytes the first value has: counts what is still to come, so that no nesting costs memory.
fn length(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes, at: 0 };
    let mut left: u64 = 1;
    while left > 0 {
        left -= 1;
        match reader.token().ok()? {
            Token::Array(elements) => left += u64::from(elements),
            Token::Map(entries) => left += 2 * u64::from(entries),
            _ => {}
        }
    }
    Some(reader.at)
}

/// What is wrong with a value.
enum Fault {
    /// At this byte.
    Wrong(usize, String),
    /// Its text is too long.
    TooLong,
}

/// A value, or the beginning of an array or a map.
enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Single(f32),
    Double(f64),
    Text(&'a [u8]),
    Binary,
    Extension(i8, &'a [u8]),
    Array(u32),
    Map(u32),
}

impl Token<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Token::Nil => "nil",
            Token::Bool(_) => "a boolean",
            Token::Unsigned(_) | Token::Signed(_) => "an integer",
            Token::Single(_) | Token::Double(_) => "a float",
            Token::Text(_) => "text",
            Token::Binary => "binary data",
            Token::Extension(..) => "an extension",
            Token::Array(_) => "an array",
            Token::Map(_) => "a map",
        }
    }
}

/// Why there is no token.
#[derive(Debug)]
enum NoToken {
    CutOff,
    Reserved,
}

impl NoToken {
    fn what(&self) -> &'static str {
        match self {
            Self::CutOff => "the data ends within a value",
            Self::Reserved => "0xc1 begins no MessagePack value",
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn token(&mut self) -> Result<Token<'a>, NoToken> {
        Ok(match Marker::from_u8(self.number::<1>()?[0]) {
            Marker::Null => Token::Nil,
            Marker::False => Token::Bool(false),
            Marker::True => Token::Bool(true),
            Marker::FixPos(value) => Token::Unsigned(value.into()),
            Marker::U8 => Token::Unsigned(u8::from_be_bytes(self.number()?).into()),
            Marker::U16 => Token::Unsigned(u16::from_be_bytes(self.number()?).into()),
            Marker::U32 => Token::Unsigned(u32::from_be_bytes(self.number()?).into()),
            Marker::U64 => Token::Unsigned(u64::from_be_bytes(self.number()?)),
            Marker::FixNeg(value) => Token::Signed(value.into()),
            Marker::I8 => Token::Signed(i8::from_be_bytes(self.number()?).into()),
            Marker::I16 => Token::Signed(i16::from_be_bytes(self.number()?).into()),
            Marker::I32 => Token::Signed(i32::from_be_bytes(self.number()?).into()),
            Marker::I64 => Token::Signed(i64::from_be_bytes(self.number()?)),
            Marker::F32 => Token::Single(f32::from_be_bytes(self.number()?)),
            Marker::F64 => Token::Double(f64::from_be_bytes(self.number()?)),
            Marker::FixStr(length) => Token::Text(self.take(length.into())?),
            Marker::Str8 => Token::Text(self.long::<1>()?),
            Marker::Str16 => Token::Text(self.long::<2>()?),
            Marker::Str32 => Token::Text(self.long::<4>()?),
            Marker::Bin8 => self.long::<1>().map(|_| Token::Binary)?,
            Marker::Bin16 => self.long::<2>().map(|_| Token::Binary)?,
            Marker::Bin32 => self.long::<4>().map(|_| Token::Binary)?,
            Marker::FixArray(elements) => Token::Array(elements.into()),
            Marker::Array16 => Token::Array(self.size::<2>()?),
            Marker::Array32 => Token::Array(self.size::<4>()?),
            Marker::FixMap(entries) => Token::Map(entries.into()),
            Marker::Map16 => Token::Map(self.size::<2>()?),
            Marker::Map32 => Token::Map(self.size::<4>()?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.long_extension::<1>()?,
            Marker::Ext16 => self.long_extension::<2>()?,
            Marker::Ext32 => self.long_extension::<4>()?,
            Marker::Reserved => return Err(NoToken::Reserved),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], NoToken> {
        let taken = self.bytes[self.at..].get(..count).ok_or(NoToken::CutOff)?;
        self.at += count;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], NoToken> {
        self.take(N)?.try_into().map_err(|_| NoToken::CutOff)
    }

    /// A size of `N` bytes.
    fn size<const N: usize>(&mut self) -> Result<u32, NoToken> {
        Ok(self.number::<N>()?.iter().fold(0, |size, byte| size << 8 | u32::from(*byte)))
    }

    fn long<const N: usize>(&mut self) -> Result<&'a [u8], NoToken> {
        let size = self.size::<N>()?;
        self.take(size as usize)
    }

    fn extension(&mut self, size: usize) -> Result<Token<'a>, NoToken> {
        let kind = i8::from_be_bytes(self.number()?);
        Ok(Token::Extension(kind, self.take(size)?))
    }

    fn long_extension<const N: usize>(&mut self) -> Result<Token<'a>, NoToken> {
        let size = self.size::<N>()?;
        self.extension(size as usize)
    }
}

/// An array or map that is being written.
struct Open<'a> {
    /// Values to come; for a map two for each entry.
    left: u64,
    /// Values that came.
    done: u64,
    /// The last key of a map.
    key: Option<&'a [u8]>,
    is_map: bool,
}

struct Transcoder<'a, 'o> {
    reader: Reader<'a>,
    limits: EncodingLimits,
    /// Where the line begins in `out`.
    begin: usize,
    out: &'o mut Vec<u8>,
    open: Vec<Open<'a>>,
}

impl<'a> Transcoder<'a, '_> {
    /// Writes one value with everything in it.
    fn value(&mut self) -> Result<(), Fault> {
        loop {
            let at = self.reader.at;
            let token = self.reader.token().map_err(|error| Fault::Wrong(at, error.what().into()))?;
            let wants_key = self.open.last().is_some_and(|open| open.is_map && open.done % 2 == 0);
            let written = if wants_key { self.key(&token) } else { self.write(&token) };
            written.map_err(|what| Fault::Wrong(at, what))?;
            if !matches!(token, Token::Array(_) | Token::Map(_)) {
                self.count_value();
            }
            self.close_finished();
            if self.out.len() - self.begin > self.limits.line_bytes {
                return Err(Fault::TooLong);
            }
            match self.open.last() {
                None => return Ok(()),
                Some(open) => match (open.is_map, open.done) {
                    (_, 0) => {}
                    (true, done) if done % 2 == 1 => self.out.push(b':'),
                    _ => self.out.push(b','),
                },
            }
        }
    }

    fn key(&mut self, token: &Token<'a>) -> Result<(), String> {
        let Token::Text(key) = token else {
            return Err(format!("a key must be text, not {}", token.kind()));
        };
        if let Some(open) = self.open.last_mut() {
            open.key = Some(key);
        }
        self.text(key)
    }

    fn write(&mut self, token: &Token<'a>) -> Result<(), String> {
        match token {
            Token::Nil => self.out.extend_from_slice(b"null"),
            Token::Bool(value) => self.push(value),
            Token::Unsigned(value) => self.push(value),
            Token::Signed(value) => self.push(value),
            // The shortest text that reads back as the same number, of its own width.
            Token::Single(value) if value.is_finite() => self.push(&format_args!("{value:?}")),
            Token::Double(value) if value.is_finite() => self.push(&format_args!("{value:?}")),
            Token::Single(_) | Token::Double(_) => return Err("JSON has no NaN and no infinity".into()),
            Token::Text(text) => return self.text(text),
            Token::Binary => return Err("JSON has no binary data; send text instead, for example base64".into()),
            Token::Extension(TIMESTAMP, data) => self.timestamp(data)?,
            Token::Extension(kind, _) => {
                return Err(format!("JSON has nothing for extension type {kind}; only the timestamp (-1) is read"));
            }
            Token::Array(elements) => self.begin(u64::from(*elements), false)?,
            Token::Map(entries) => self.begin(2 * u64::from(*entries), true)?,
        }
        Ok(())
    }

    fn begin(&mut self, left: u64, is_map: bool) -> Result<(), String> {
        let depth = self.limits.depth;
        if self.open.len() >= depth as usize {
            return Err(format!("nested more than {depth} deep"));
        }
        self.open.push(Open { left, done: 0, key: None, is_map });
        self.out.push(if is_map { b'{' } else { b'[' });
        Ok(())
    }

    /// A value of the innermost array or map is complete.
    fn count_value(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.left -= 1;
            open.done += 1;
        }
    }

    fn close_finished(&mut self) {
        while self.open.last().is_some_and(|open| open.left == 0) {
            let is_map = self.open.pop().is_some_and(|open| open.is_map);
            self.out.push(if is_map { b'}' } else { b']' });
            self.count_value();
        }
    }

    fn push(&mut self, value: &impl ToString) {
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    fn text(&mut self, text: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(text).map_err(|_| "the text is not UTF-8")?;
        serde_json::to_writer(&mut *self.out, text).map_err(|error| error.to_string())
    }

    fn timestamp(&mut self, data: &[u8]) -> Result<(), String> {
        let (seconds, nanos) =
            instant(data).ok_or_else(|| format!("a timestamp of {} bytes is none of the three forms", data.len()))?;
        let time = DateTime::from_timestamp(seconds, nanos).filter(|time| (1..=9999).contains(&time.year()));
        let time = time.ok_or("the timestamp lies outside of the years 1 to 9999")?;
        self.push(&format_args!("\"{}\"", time.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
        Ok(())
    }

    fn refusal(&self, fault: Fault) -> Refusal {
        match fault {
            Fault::Wrong(at, what) => Refusal::Encoding { detail: format!("byte {}{}: {what}", at + 1, self.place()) },
            Fault::TooLong => Refusal::TooLong { length: (self.out.len() - self.begin) as u64 },
        }
    }

    /// Where the reader is, as a JSON pointer of bounded length.
    fn place(&self) -> String {
        const LONGEST: usize = 120;
        let mut place = String::new();
        for open in &self.open {
            match (open.is_map, open.key) {
                (true, Some(key)) if open.done % 2 == 1 => {
                    let key = String::from_utf8_lossy(&key[..key.len().min(LONGEST)]);
                    place.push('/');
                    place.push_str(&key.replace('~', "~0").replace('/', "~1"));
                }
                (true, _) => {}
                (false, _) => place.push_str(&format!("/{}", open.done)),
            }
        }
        if place.is_empty() {
            return place;
        }
        let short: String = place.chars().take(LONGEST).collect();
        let dots = if short.len() < place.len() { "..." } else { "" };
        format!(" at {}{dots}", Value::from(short))
    }
}

/// Seconds and nanoseconds of the three forms of a timestamp.
fn instant(data: &[u8]) -> Option<(i64, u32)> {
    if let Ok(seconds) = <[u8; 4]>::try_from(data) {
        return Some((u32::from_be_bytes(seconds).into(), 0));
    }
    if let Ok(both) = <[u8; 8]>::try_from(data) {
        let both = u64::from_be_bytes(both);
        return Some(((both & 0x3_ffff_ffff).cast_signed(), u32::try_from(both >> 34).ok()?));
    }
    let (nanos, seconds) = data.split_at_checked(4)?;
    Some((i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(nanos.try_into().ok()?)))
}
