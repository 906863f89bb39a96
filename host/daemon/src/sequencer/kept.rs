//! The bytes of a job that go into the log, taken off event by event. Must not know: decisions.

use crate::parse::DecodedChunk;

/// The kept lines of a job, taken off in order.
pub(super) struct KeptLines<'a> {
    spans: Vec<&'a [u8]>,
    next: usize,
}

impl<'a> KeptLines<'a> {
    pub fn new(chunks: &'a [DecodedChunk]) -> Self {
        Self { spans: chunks.iter().flat_map(|chunk| chunk.kept()).collect(), next: 0 }
    }

    /// The next `count` lines as slices; all that are left when `rest`.
    pub fn take(&mut self, count: u32, rest: bool) -> Vec<&'a [u8]> {
        if rest {
            let from = std::mem::replace(&mut self.next, self.spans.len());
            return self.spans[from..].to_vec();
        }
        let mut wanted = count as usize;
        let mut taken = Vec::new();
        while wanted > 0 {
            let span = self.spans[self.next];
            match memchr::memchr_iter(b'\n', span).nth(wanted - 1) {
                Some(end) => {
                    taken.push(&span[..=end]);
                    self.spans[self.next] = &span[end + 1..];
                    wanted = 0;
                }
                None => {
                    // A last line may lack its newline.
                    wanted -= memchr::memchr_iter(b'\n', span).count()
                        + usize::from(!span.is_empty() && !span.ends_with(b"\n"));
                    taken.push(span);
                    self.next += 1;
                }
            }
        }
        taken
    }
}
