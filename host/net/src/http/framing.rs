//! Where a request ends, read strictly, ahead of the HTTP library: bytes about whose framing two readers could disagree are not passed on to it.
//!
//! The library reads leniently where RFC 9112 lets it, and what is lenient here and strict in a proxy in front (or the other way round) hides
//! one request in another. So: lines of a head end with CR LF, nothing is folded, no white space stands before a colon, there is one
//! `Content-Length` of digits alone or one `Transfer-Encoding: chunked`, never both, one `Host`, and chunks are as RFC 9112 writes them.
//!
//! Pure: no I/O. Bounds: one line of a head, and what a head may have in all. Must not know: what a request asks.

use super::{MAX_HEAD, MAX_HEADERS};

/// Blank lines before a request.
const MAX_BLANK_LINES: usize = 4;
/// Most trailers, and most bytes of them; nobody reads them.
const MAX_TRAILERS: usize = 16;
const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// The longest line before a chunk: its size, and extensions that nobody reads.
const MAX_CHUNK_LINE: usize = 256;
/// Most hexadecimal digits of a chunk's size, so that it fits with room to spare.
const MAX_SIZE_DIGITS: usize = 15;
/// Most decimal digits of a body's length, for the same reason.
const MAX_LENGTH_DIGITS: usize = 18;

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// In a head; says what is wrong.
    Head(&'static str),
    /// A head has too many bytes or headers.
    HeadTooLarge,
    /// In the chunks of a body.
    Body,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The line at hand, as far as it has come.
    line: Vec<u8>,
    /// Bytes and lines of the head (or of the trailers) so far.
    head_bytes: usize,
    headers: usize,
    length: Option<u64>,
    chunked: bool,
    host: bool,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RequestLine,
    Header,
    /// So many bytes of a body are still to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// CR LF behind a chunk.
    ChunkEnd,
    Trailer,
}

impl Framing {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self {
            state: State::RequestLine,
            line: Vec::new(),
            head_bytes: 0,
            headers: 0,
            length: None,
            chunked: false,
            host: false,
            fault: None,
        }
    }

    /// What was found wrong; nothing is read after that.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Reads on; how many of the bytes may be passed on. Fewer than all when there is a fault.
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.fault.is_none() {
            let rest = &bytes[at..];
            match self.step(rest) {
                Ok(count) => at += count,
                Err(fault) => self.fault = Some(fault),
            }
        }
        at
    }

    /// Reads up to the end of a line or of a run of body bytes; how many bytes that was.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if let State::Body(left) | State::Chunk(left) = self.state {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let left = left - count as u64;
            self.state = match self.state {
                State::Chunk(_) if left == 0 => State::ChunkEnd,
                State::Chunk(_) => State::Chunk(left),
                _ if left == 0 => self.next_request(),
                _ => State::Body(left),
            };
            return Ok(count);
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let count = newline.map_or(bytes.len(), |at| at + 1);
        self.line.extend_from_slice(&bytes[..count]);
        self.within_bounds(count)?;
        if newline.is_none() {
            // Whoever speaks another protocol may never send a newline.
            return if self.state == State::RequestLine { checked_text(&self.line).map(|()| count) } else { Ok(count) };
        }
        let mut line = std::mem::take(&mut self.line);
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(self.wrong("a line does not end with CR LF"));
        };
        self.state = self.line(text)?;
        line.clear();
        self.line = line;
        Ok(count)
    }

    fn within_bounds(&mut self, more: usize) -> Result<(), Fault> {
        match self.state {
            State::ChunkSize | State::ChunkEnd if self.line.len() > MAX_CHUNK_LINE => Err(Fault::Body),
            State::ChunkSize | State::ChunkEnd => Ok(()),
            _ => {
                self.head_bytes += more;
                match self.state {
                    State::Trailer if self.head_bytes > MAX_TRAILER_BYTES => Err(Fault::Body),
                    State::RequestLine | State::Header if self.head_bytes > MAX_HEAD => Err(Fault::HeadTooLarge),
                    _ => Ok(()),
                }
            }
        }
    }

    fn wrong(&self, what: &'static str) -> Fault {
        match self.state {
            State::RequestLine | State::Header => Fault::Head(what),
            _ => Fault::Body,
        }
    }

    /// What a line, without its end, leads to.
    fn line(&mut self, text: &[u8]) -> Result<State, Fault> {
        match self.state {
            // Blank lines before a request are let pass, as RFC 9112 (2.2) wants it.
            State::RequestLine if text.is_empty() && self.headers < MAX_BLANK_LINES => {
                self.headers += 1;
                Ok(State::RequestLine)
            }
            State::RequestLine => {
                self.headers = 0;
                request_line(text).map(|()| State::Header)
            }
            State::Header if text.is_empty() => self.end_of_head(),
            State::Header => self.header(text).map(|()| State::Header),
            State::ChunkSize => match chunk_size(text)? {
                0 => {
                    (self.head_bytes, self.headers) = (0, 0);
                    Ok(State::Trailer)
                }
                size => Ok(State::Chunk(size)),
            },
            State::ChunkEnd if text.is_empty() => Ok(State::ChunkSize),
            State::Trailer if text.is_empty() => Ok(self.next_request()),
            State::Trailer => {
                self.headers += 1;
                let fine = self.headers <= MAX_TRAILERS && member(text).is_ok();
                if fine { Ok(State::Trailer) } else { Err(Fault::Body) }
            }
            State::ChunkEnd | State::Body(_) | State::Chunk(_) => Err(Fault::Body),
        }
    }

    fn header(&mut self, text: &[u8]) -> Result<(), Fault> {
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(Fault::HeadTooLarge);
        }
        let (name, value) = member(text)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if !value.iter().all(u8::is_ascii_digit) || !(1..=MAX_LENGTH_DIGITS).contains(&value.len()) {
                return Err(Fault::Head("Content-Length is no number of at most 18 digits"));
            }
            let length = value.iter().fold(0, |length: u64, digit| length * 10 + u64::from(digit - b'0'));
            if self.length.replace(length).is_some() {
                return Err(Fault::Head("Content-Length is there twice"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if std::mem::replace(&mut self.chunked, true) {
                return Err(Fault::Head("Transfer-Encoding is there twice"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Head("the only Transfer-Encoding that is taken is chunked"));
            }
        } else if name.eq_ignore_ascii_case(b"host") && std::mem::replace(&mut self.host, true) {
            return Err(Fault::Head("Host is there twice"));
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<State, Fault> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::Head("both Content-Length and Transfer-Encoding are there")),
            (_, true) => Ok(State::ChunkSize),
            (Some(length @ 1..), false) => Ok(State::Body(length)),
            _ => Ok(self.next_request()),
        }
    }

    fn next_request(&mut self) -> State {
        (self.head_bytes, self.headers, self.length) = (0, 0, None);
        (self.chunked, self.host) = (false, false);
        State::RequestLine
    }
}

/// `METHOD target HTTP/1.1`, one space each.
fn request_line(text: &[u8]) -> Result<(), Fault> {
    checked_text(text)?;
    let mut words = text.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_request = method.is_some_and(is_token)
        && target.is_some_and(|target| !target.is_empty())
        && matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0"))
        && words.next().is_none();
    if is_request { Ok(()) } else { Err(Fault::Head("the first line is not METHOD TARGET HTTP/1.1")) }
}

/// No control characters: of a line that is not whole yet, its CR aside.
fn checked_text(text: &[u8]) -> Result<(), Fault> {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.iter().any(u8::is_ascii_control) {
        return Err(Fault::Head("there are control characters in the first line"));
    }
    Ok(())
}

/// A header's name, and its value without the white space around it.
fn member(text: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(text.first(), Some(b' ' | b'\t')) {
        return Err(Fault::Head("a header is folded over several lines"));
    }
    let Some(colon) = text.iter().position(|byte| *byte == b':') else {
        return Err(Fault::Head("a header has no colon"));
    };
    let (name, value) = (&text[..colon], &text[colon + 1..]);
    if !is_token(name) {
        return Err(Fault::Head("a header's name is none, or white space stands before its colon"));
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Fault::Head("there are control characters in a header"));
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(begin, |last| last + 1);
    Ok((name, &value[begin..end]))
}

/// A size in hexadecimal; extensions are let pass.
fn chunk_size(text: &[u8]) -> Result<u64, Fault> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extension) = text.split_at(digits);
    let is_extension = extension.is_empty() || extension.trim_ascii_start().starts_with(b";");
    let has_controls = extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
    if !(1..=MAX_SIZE_DIGITS).contains(&digits) || !is_extension || has_controls {
        return Err(Fault::Body);
    }
    let text = std::str::from_utf8(size).map_err(|_| Fault::Body)?;
    u64::from_str_radix(text, 16).map_err(|_| Fault::Body)
}

/// A token as RFC 9110 (5.6.2) has it.
fn is_token(text: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes pass, and the fault, in pieces of every size.
    fn read(bytes: &[u8]) -> (usize, Option<Fault>) {
        let in_pieces = |size: usize| {
            let mut framing = Framing::new();
            let passed = bytes.chunks(size).map_while(|piece| {
                let fine = framing.fault().is_none();
                fine.then(|| framing.read(piece))
            });
            let passed: usize = passed.sum();
            (passed, framing.fault())
        };
        let (whole, fault) = in_pieces(bytes.len());
        for size in [1, 2, 3, 7] {
            let (passed, found) = in_pieces(size);
            assert_eq!(found, fault, "pieces of {size}: {:?}", String::from_utf8_lossy(bytes));
            // In pieces more of the line at fault may pass, but never its end.
            assert!(passed >= whole && (fault.is_some() || passed == whole));
        }
        (whole, fault)
    }

    const HEAD: &str = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\n";

    #[test]
    fn requests_pass_one_after_another() {
        let one = format!("{HEAD}Content-Length: 5\r\n\r\nabc\n\n");
        let other = format!(
            "{HEAD}transfer-encoding:\tChunked \r\n\r\n3\r\nabc\r\n1f;x=\"y\"\r\n{}\r\n0\r\nx: y\r\n\r\n",
            "z".repeat(31)
        );
        let third = format!("\r\n{HEAD}\r\n");
        let all = [one, other, third].concat().repeat(3);
        assert_eq!(read(all.as_bytes()), (all.len(), None));
    }

    #[test]
    fn what_two_readers_could_read_differently_does_not_pass() {
        let chunk = "\r\n3\r\nabc\r\n0\r\n\r\n";
        let heads = [
            format!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n{chunk}"),
            format!("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n{chunk}"),
            "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc".into(),
            "Content-Length: 3\r\ncontent-length: 4\r\n\r\nabc".into(),
            "Content-Length: 3, 3\r\n\r\nabc".into(),
            "Content-Length: +3\r\n\r\nabc".into(),
            "Content-Length: -3\r\n\r\nabc".into(),
            "Content-Length: 0x3\r\n\r\nabc".into(),
            "Content-Length:\r\n\r\nabc".into(),
            "Content-Length: 18446744073709551615\r\n\r\nabc".into(),
            "Content-Length : 3\r\n\r\nabc".into(),
            "Content-Length: 3\r\n 4\r\n\r\nabc".into(),
            format!("Transfer-Encoding : chunked\r\n{chunk}"),
            format!("Transfer-Encoding: xchunked\r\n{chunk}"),
            format!("Transfer-Encoding: chunked, identity\r\n{chunk}"),
            format!("Transfer-Encoding: identity, chunked\r\n{chunk}"),
            format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n{chunk}"),
            format!("Transfer-Encoding: \u{b}chunked\r\n{chunk}"),
            format!("X: a\nTransfer-Encoding: chunked\r\n{chunk}"),
            format!("X: a\rTransfer-Encoding: chunked\r\n{chunk}"),
            "X: a\u{0}b\r\n\r\n".into(),
            "X\u{e9}: a\r\n\r\n".into(),
            ": a\r\n\r\n".into(),
            "no colon\r\n\r\n".into(),
            "Host: evil.example\r\n\r\n".into(),
            "X: a\n\n".into(),
        ];
        for head in heads {
            let all = format!("{HEAD}{head}");
            let (passed, fault) = read(all.as_bytes());
            assert!(matches!(fault, Some(Fault::Head(_))), "{head:?}: {fault:?}");
            assert!(
                !all.as_bytes()[..passed].windows(4).any(|four| four == b"\r\n\r\n"),
                "{head:?}: no whole head passes"
            );
        }
        for first in [
            "GET /\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET / HTTP/1.2\r\n",
            "PRI * HTTP/2.0\r\n",
            "GET / a HTTP/1.1\r\n",
            "\u{16}\u{3}",
            "G\u{0}",
        ] {
            assert!(matches!(read(first.as_bytes()).1, Some(Fault::Head(_))), "{first:?}");
        }
    }

    #[test]
    fn chunks_are_exact() {
        let chunks = [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "-3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "\r\nabc",
            "3 3\r\nabc\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nabc",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "3;a\u{0}b\r\nabc\r\n0\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nx: y\n\r\n",
        ];
        for body in chunks {
            let all = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{body}");
            assert_eq!(read(all.as_bytes()).1, Some(Fault::Body), "{body:?}");
        }
        let long = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n3;{}", "x".repeat(MAX_CHUNK_LINE));
        assert_eq!(read(long.as_bytes()).1, Some(Fault::Body));
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("{HEAD}X: {}", "a".repeat(MAX_HEAD));
        assert_eq!(read(long.as_bytes()).1, Some(Fault::HeadTooLarge));
        let many = format!("{HEAD}{}\r\n", "X: a\r\n".repeat(MAX_HEADERS));
        assert_eq!(read(many.as_bytes()).1, Some(Fault::HeadTooLarge));
        let just = format!("{HEAD}{}\r\n", "X: a\r\n".repeat(MAX_HEADERS - 1));
        assert_eq!(read(just.as_bytes()), (just.len(), None));
        let blank = "\r\n".repeat(MAX_BLANK_LINES + 1);
        assert!(matches!(read(blank.as_bytes()).1, Some(Fault::Head(_))));
        for trailers in ["X: y\r\n".repeat(MAX_TRAILERS + 1), format!("X: {}", "y".repeat(MAX_TRAILER_BYTES))] {
            let request = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n{trailers}");
            assert_eq!(read(request.as_bytes()).1, Some(Fault::Body));
        }
    }
}
