//! Where lines come from: a file or stdin, plain or gzip (told by its first bytes), in blocks of whole lines. A pipe's
//! lines are passed on as they come. Knows no socket.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::rc::Rc;

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;

/// What is read at once.
const BLOCK: usize = 256 * 1024;
/// Longest line read, bytes: the daemon takes far less, but it is the one who says so.
const MAX_LINE: usize = 256 * 1024 * 1024;

/// Reads blocks of whole lines.
pub struct Source {
    name: String,
    reader: Box<dyn Read>,
    /// Whole lines that were read but not wanted yet.
    held: Vec<u8>,
    /// The beginning of a line whose end has not been read.
    tail: Vec<u8>,
    consumed: Rc<Cell<u64>>,
    size: Option<u64>,
    blanks: bool,
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    passed: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.passed.set(self.passed.get() + n as u64);
        Ok(n)
    }
}

impl Source {
    /// Opens a file, or stdin for `-`.
    pub fn open(name: &str) -> anyhow::Result<Source> {
        if name == "-" {
            return Source::new("stdin", io::stdin().lock(), None);
        }
        let file = File::open(name).with_context(|| format!("cannot open {name}"))?;
        let metadata = file.metadata().with_context(|| format!("cannot open {name}"))?;
        if metadata.is_dir() {
            bail!("{name} is a folder; give a file, or - for stdin");
        }
        let size = metadata.is_file().then_some(metadata.len());
        Source::new(name, file, size)
    }

    fn new(name: &str, reader: impl Read + 'static, size: Option<u64>) -> anyhow::Result<Source> {
        let consumed = Rc::new(Cell::new(0));
        let passed = Rc::clone(&consumed);
        let mut reader = Counted { inner: reader, passed };
        let mut magic = [0; 2];
        let n = read_up_to(&mut reader, &mut magic).with_context(|| format!("cannot read {name}"))?;
        let reader = Cursor::new(magic[..n].to_vec()).chain(reader);
        let reader: Box<dyn Read> = match magic {
            [0x1f, 0x8b] => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BLOCK, reader))),
            _ => Box::new(reader),
        };
        Ok(Source { name: name.to_string(), reader, held: Vec::new(), tail: Vec::new(), consumed, size, blanks: true })
    }

    /// Bytes of the file (compressed, if it is), where that is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Bytes read of [`Source::size`].
    pub fn consumed(&self) -> u64 {
        self.consumed.get()
    }

    /// From here on blank lines are left out, and not counted.
    pub fn leave_out_blank_lines(&mut self) {
        self.blanks = false;
        remove_blank_lines(&mut self.held);
    }

    /// Replaces `block` with the next whole lines; false at the end. A last line without a newline gets one.
    pub fn next(&mut self, block: &mut Vec<u8>) -> anyhow::Result<bool> {
        while self.read(block)? {
            if !self.blanks {
                remove_blank_lines(block);
            }
            if !block.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(&mut self, block: &mut Vec<u8>) -> anyhow::Result<bool> {
        block.clear();
        if !self.held.is_empty() {
            std::mem::swap(block, &mut self.held);
            return Ok(true);
        }
        block.append(&mut self.tail);
        loop {
            let begin = block.len();
            if begin > MAX_LINE {
                bail!("{} has a line of more than {MAX_LINE} bytes; is it a file of lines?", self.name);
            }
            block.resize(begin + BLOCK, 0);
            let n = read_once(&mut self.reader, &mut block[begin..])
                .with_context(|| format!("cannot read {}", self.name))?;
            block.truncate(begin + n);
            if n == 0 {
                if !block.is_empty() {
                    block.push(b'\n');
                }
                return Ok(!block.is_empty());
            }
            if let Some(newline) = memchr::memrchr(b'\n', &block[begin..]) {
                let end = begin + newline + 1;
                self.tail.extend_from_slice(&block[end..]);
                block.truncate(end);
                return Ok(true);
            }
        }
    }

    /// Leaves out the next `lines` lines; says how many there were.
    pub fn skip_lines(&mut self, lines: u64) -> anyhow::Result<u64> {
        let mut skipped = 0;
        let mut block = Vec::new();
        while skipped < lines && self.next(&mut block)? {
            let wanted = lines - skipped;
            match nth_line(&block, wanted) {
                Some(begin) => {
                    self.held = block.split_off(begin);
                    skipped = lines;
                }
                None => skipped += count_lines(&block),
            }
        }
        Ok(skipped)
    }
}

fn remove_blank_lines(block: &mut Vec<u8>) {
    if !lines(block).any(is_blank) {
        return;
    }
    *block = lines(block).filter(|line| !is_blank(line)).collect::<Vec<_>>().concat();
}

fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

/// The lines of a block of whole lines, with their newlines.
pub fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split_inclusive(|byte| *byte == b'\n')
}

/// Lines of a block of whole lines.
pub fn count_lines(block: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', block).count() as u64
}

/// Where line `n` (from 0) of a block of whole lines begins; `None` when it has fewer lines.
pub fn nth_line(block: &[u8], n: u64) -> Option<usize> {
    if n == 0 {
        return Some(0);
    }
    let index = usize::try_from(n - 1).ok()?;
    memchr::memchr_iter(b'\n', block).nth(index).map(|newline| newline + 1)
}

fn read_once(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_once(reader, &mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Gives a few bytes at a time, as a pipe may.
    struct Drip(Cursor<Vec<u8>>, usize);

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(self.1);
            self.0.read(&mut buffer[..n])
        }
    }

    fn source(bytes: &[u8], step: usize) -> Source {
        Source::new("test", Drip(Cursor::new(bytes.to_vec()), step), None).unwrap()
    }

    fn rest(source: &mut Source) -> String {
        let mut block = Vec::new();
        let mut all = Vec::new();
        while source.next(&mut block).unwrap() {
            assert_eq!(block.last(), Some(&b'\n'), "a block ends within a line");
            all.extend_from_slice(&block);
        }
        String::from_utf8(all).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lines_come_whole_whatever_the_reads() {
        for (text, lines) in [("", ""), ("a", "a\n"), ("\n", "\n"), ("a\n\nbc\n", "a\n\nbc\n"), ("ab\ncd", "ab\ncd\n")]
        {
            for step in 1..8 {
                assert_eq!(rest(&mut source(text.as_bytes(), step)), lines, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes_and_may_have_several_members() {
        let mut bytes = gzip(b"one\ntw");
        bytes.extend(gzip(b"o\nthree"));
        assert_eq!(rest(&mut source(&bytes, 3)), "one\ntwo\nthree\n");
        let torn = source(&bytes[..bytes.len() - 9], 1000).skip_lines(9).unwrap_err();
        assert!(format!("{torn:#}").starts_with("cannot read test"), "{torn:#}");
    }

    #[test]
    fn skipped_lines_are_left_out_and_counted() {
        let text = "a\n\nb\nc";
        for skip in 0..6 {
            let mut source = source(text.as_bytes(), 100);
            assert_eq!(source.skip_lines(skip).unwrap(), skip.min(4));
            let expected: Vec<&str> = ["a\n", "\n", "b\n", "c\n"].into_iter().skip(skip as usize).collect();
            assert_eq!(rest(&mut source), expected.concat());
        }
    }

    #[test]
    fn blank_lines_can_be_left_out() {
        for step in [1, 2, 100] {
            let mut source = source(b"a\n\n \t\r\n\nb\n\n\nc\n\n", step);
            assert_eq!(source.skip_lines(2).unwrap(), 2);
            source.leave_out_blank_lines();
            assert_eq!(source.skip_lines(1).unwrap(), 1);
            assert_eq!(rest(&mut source), "c\n");
        }
    }

    #[test]
    fn a_line_longer_than_a_block_stays_whole() {
        let text = format!("{}\nend\n", "x".repeat(3 * BLOCK + 1));
        assert_eq!(rest(&mut source(text.as_bytes(), usize::MAX)), text);
    }
}
