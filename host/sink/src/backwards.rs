//! The lines of a file from its end, in memory for one line and one block. Knows nothing of what they say.

use std::io;

use tally_storage::StorageFile;

/// How much is read at once, bytes.
const BLOCK: u64 = 64 << 10;

/// Gives whole lines, the last one first.
#[derive(Debug)]
pub(crate) struct Backwards<F> {
    file: F,
    /// What stands before this is still to be read.
    start: u64,
    /// What was read and not given: from `start` on, and once `whole`, up to the end of a line.
    read: Vec<u8>,
    /// What stands behind the last newline has been dropped.
    whole: bool,
}

impl<F: StorageFile> Backwards<F> {
    /// The lines of the first `length` bytes; a last one without its end is left out.
    pub(crate) fn new(file: F, length: u64) -> Self {
        Self { file, start: length, read: Vec::new(), whole: false }
    }

    /// The line before the last one given, without its newline.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let searched = self.read.len() - usize::from(self.whole && !self.read.is_empty());
            match self.read[..searched].iter().rposition(|&byte| byte == b'\n') {
                Some(end) if !self.whole => {
                    self.read.truncate(end + 1);
                    self.whole = true;
                }
                Some(end) => return Ok(Some(self.give(end + 1))),
                None if self.start > 0 => self.read_block()?,
                None if self.whole && !self.read.is_empty() => return Ok(Some(self.give(0))),
                None => return Ok(None),
            }
        }
    }

    /// Takes the line that begins at `from` off the end.
    fn give(&mut self, from: usize) -> Vec<u8> {
        let mut line = self.read.split_off(from);
        line.pop();
        line
    }

    fn read_block(&mut self) -> io::Result<()> {
        let length = self.start.min(BLOCK);
        let mut block = vec![0; length as usize];
        if self.file.read_full_at(&mut block, self.start - length)? < block.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        block.append(&mut self.read);
        self.read = block;
        self.start -= length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tally_storage::Storage;
    use tally_testkit::MemStorage;

    use super::*;

    fn lines(text: &[u8], length: u64) -> Vec<String> {
        let file = MemStorage::new().create("file").unwrap();
        file.write_at(text, 0).unwrap();
        let mut backwards = Backwards::new(file, length);
        let mut lines = Vec::new();
        while let Some(line) = backwards.next_line().unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        lines
    }

    #[test]
    fn whole_lines_come_from_the_end() {
        for (text, expected) in [
            ("", &[][..]),
            ("unfinished", &[]),
            ("\n", &[""]),
            ("a\n", &["a"]),
            ("a\nb\n", &["b", "a"]),
            ("a\n\nb\nunfin", &["b", "", "a"]),
        ] {
            assert_eq!(lines(text.as_bytes(), text.len() as u64), expected, "{text:?}");
        }
        assert_eq!(lines(b"a\nb\nc\n", 4), ["b", "a"], "no further than asked");
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        let file = MemStorage::new().create("file").unwrap();
        file.write_at(b"a\nb\n", 0).unwrap();
        assert_eq!(Backwards::new(file, 6).next_line().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn lines_may_be_longer_than_a_block() {
        let block = BLOCK as usize;
        for length in [block - 2, block - 1, block, block + 1, 3 * block] {
            let long = "x".repeat(length);
            let text = format!("first\n{long}\nlast\n{long}");
            assert_eq!(lines(text.as_bytes(), text.len() as u64), ["last", &long, "first"], "{length}");
        }
    }
}
