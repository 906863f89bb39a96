//! A sequence of calls on a log, what they promised, and the check that a log keeps those promises.

use std::time::Duration;

use proptest::prelude::*;
use tally_storage::Storage;
use tally_testkit::MemStorage;
use tally_wal::{AppendError, Durability, Frame, Log, Options, Reader, Recovered};

/// One call (or a few that belong together).
#[derive(Clone, Debug)]
pub enum Step {
    /// Append a frame of that many events with a body of that length; rolls first if need be.
    Append {
        count: u32,
        len: usize,
    },
    Roll {
        len: usize,
    },
    Sync,
    /// Delete what is older than the last so many frames.
    DeleteAllBut(u64),
    Reopen,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![3 => 0..200_usize, 2 => 400..1500_usize, 1 => 3000..6000_usize];
    let step = prop_oneof![
        12 => (0..5_u32, len.clone()).prop_map(|(count, len)| Step::Append { count, len }),
        2 => len.prop_map(|len| Step::Roll { len }),
        2 => Just(Step::Sync),
        2 => (0..8_u64).prop_map(Step::DeleteAllBut),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

pub fn options(spare_segments: usize) -> Options {
    Options { segment_bytes: 8192, spare_segments, max_frame_bytes: 1 << 20, ..Options::default() }
}

/// Every way to keep a log, for a log that reads no clock.
pub const DURABILITIES: [Durability; 3] =
    [Durability::Fsync, Durability::Interval(Duration::from_millis(100)), Durability::Os];

/// What was asked of a log over its life, and what it promised.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// Frame n stands at n - 1. The last may have been attempted only.
    pub frames: Vec<Frame>,
    /// So many frames were written.
    pub written: u64,
    /// So many of them were said to be durable.
    pub durable: u64,
    /// Frames before this number may be gone.
    pub deletable_before: u64,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    Done,
    /// The log could not be opened.
    Unopened,
    /// A frame was not written, or not for certain.
    Stopped,
}

impl Promises {
    /// Performs the steps until one fails. A failed deletion is no failure: the log goes on.
    pub fn run(&mut self, storage: &MemStorage, steps: &[Step], options: &Options) -> End {
        let mut log = match Log::open(storage.clone(), options.clone()) {
            Ok((log, recovered)) => {
                self.settle(&recovered);
                log
            }
            Err(_) => return End::Unopened,
        };
        for step in steps {
            let done = match step {
                Step::Append { count, len } => self.append(&mut log, options, *count, *len),
                Step::Roll { len } => self.roll(&mut log, *len),
                Step::Sync => log.sync().map(|()| self.durable = self.written),
                Step::DeleteAllBut(kept) => {
                    let before = log.next_frame().saturating_sub(*kept);
                    self.deletable_before = self.deletable_before.max(before);
                    match log.delete_before(before) {
                        Ok(deleted) if deleted.is_empty() => Ok(()),
                        Ok(_) => {
                            self.durable = self.written;
                            Ok(())
                        }
                        // It syncs first, and a failed sync ends the log, which may have lost what was written only.
                        Err(error) if error.doing == "sync the log before removing" => {
                            Err(log.sync().expect_err("poisoned"))
                        }
                        Err(_) => Ok(()),
                    }
                }
                Step::Reopen => {
                    drop(log);
                    match Log::open(storage.clone(), options.clone()) {
                        Ok((opened, recovered)) => {
                            assert!(
                                recovered.next_frame > self.written,
                                "no power was lost, but frames: {recovered:?}"
                            );
                            self.settle(&recovered);
                            log = opened;
                        }
                        Err(_) => return End::Unopened,
                    }
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.check_stopped(&mut log, &error);
                return End::Stopped;
            }
            assert!(log.durable_frame() >= self.durable && log.next_frame() == self.written + 1);
            assert_eq!(log.unsynced(), log.durable_frame() < self.written);
        }
        End::Done
    }

    fn append(
        &mut self,
        log: &mut Log<MemStorage>,
        options: &Options,
        count: u32,
        len: usize,
    ) -> Result<(), AppendError> {
        if log.needs_roll(len) {
            self.roll(log, 30)?;
        }
        let body = self.attempt(log, count, len, false);
        // Both ways write the same.
        let appended = if len.is_multiple_of(2) {
            log.append(count, &body)?
        } else {
            let mut bytes = vec![7; 5000];
            log.begin(&mut bytes);
            let body_at = bytes.len();
            bytes.extend_from_slice(&body);
            let appended = log.append_enclosed(count, &mut bytes, body_at);
            assert_eq!(bytes[body_at..], body);
            appended?
        };
        self.acknowledge(appended);
        if options.durability == Durability::Fsync {
            self.durable = self.written;
        }
        Ok(())
    }

    fn roll(&mut self, log: &mut Log<MemStorage>, len: usize) -> Result<(), AppendError> {
        let body = self.attempt(log, 0, len, true);
        let appended = log.roll(&body)?;
        self.acknowledge(appended);
        self.durable = self.written;
        Ok(())
    }

    fn attempt(&mut self, log: &Log<MemStorage>, count: u32, len: usize, opening: bool) -> Vec<u8> {
        let number = log.next_frame();
        assert_eq!(number, self.written + 1);
        self.frames.truncate(self.written as usize);
        let body = body(number, len);
        self.frames.push(Frame { number, first_sequence: log.next_sequence(), count, opening, body: body.clone() });
        body
    }

    fn acknowledge(&mut self, appended: tally_wal::Appended) {
        let frame = self.frames.last().expect("attempted before");
        assert_eq!(
            (appended.frame, appended.first_sequence, appended.count),
            (frame.number, frame.first_sequence, frame.count)
        );
        self.written = appended.frame;
    }

    /// After a recovery: an attempted frame is there for good, or it is not.
    fn settle(&mut self, recovered: &Recovered) {
        assert!(recovered.next_frame > self.durable, "durable frames are missing: {recovered:?}, {}", self.durable);
        assert!(recovered.next_frame <= self.frames.len() as u64 + 1, "frames nobody wrote: {recovered:?}");
        self.written = recovered.next_frame - 1;
        self.durable = self.written;
        self.frames.truncate(self.written as usize);
        let next_sequence = self.frames.last().map_or(1, |frame| frame.first_sequence + u64::from(frame.count));
        assert_eq!(recovered.next_sequence, next_sequence);
    }

    /// A failure poisons the log for good, unless it says that nothing was touched.
    fn check_stopped(&self, log: &mut Log<MemStorage>, error: &AppendError) {
        if matches!(error, AppendError::DiskFull { .. }) {
            return;
        }
        // A deletion syncs first, and its failure to do so is the log's.
        assert!(matches!(error, AppendError::Io { .. } | AppendError::Poisoned { .. }), "{error:?}");
        assert!(matches!(log.append(1, b"more"), Err(AppendError::Poisoned { .. })));
        assert!(matches!(log.roll(b"more"), Err(AppendError::Poisoned { .. })));
    }

    /// Opens the log and checks that it holds what was promised and nothing that was not written; goes on writing to it a little.
    pub fn check(&mut self, storage: &MemStorage, options: &Options) {
        let mut reader = Reader::open_read_only(storage.clone()).expect("a crash is no corruption");
        let seen_before = read_all(&mut reader);
        let (mut log, recovered) = Log::open(storage.clone(), options.clone()).expect("a crash is no corruption");
        self.settle(&recovered);
        assert!(recovered.first_frame <= self.deletable_before.max(1), "deleted too much: {recovered:?}");
        let expected = &self.frames[recovered.first_frame as usize - 1..];
        assert_eq!(read_all(&mut log.reader()), expected);
        assert_eq!(seen_before, expected, "reading changes nothing and sees the same");
        let opening = expected.iter().rev().find(|frame| frame.opening);
        assert_eq!(recovered.last_opening.as_deref(), opening.map(|frame| &frame.body[..]));
        assert_eq!(recovered.last_opening_frame, opening.map_or(0, |frame| frame.number));

        self.append(&mut log, options, 3, 100).expect("appends after recovery");
        self.append(&mut log, options, 1, 700).expect("appends after recovery");
        drop(log);
        let (log, again) = Log::open(storage.clone(), options.clone()).expect("opens again");
        assert_eq!((again.torn_bytes, again.next_frame), (0, self.written + 1), "a torn tail is cut once");
        assert_eq!(read_all(&mut log.reader()), self.frames[again.first_frame as usize - 1..]);
    }
}

pub fn read_all<S: Storage>(reader: &mut Reader<S>) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut frame = Frame::default();
    while reader.next(&mut frame).expect("readable") {
        frames.push(frame.clone());
    }
    frames
}

/// Bytes that differ from frame to frame, with stretches of zeros.
pub fn body(number: u64, len: usize) -> Vec<u8> {
    let byte = |at: usize| {
        let mixed = (number << 20 | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37;
        if mixed & 0x300 == 0 { 0 } else { mixed as u8 }
    };
    (0..len).map(byte).collect()
}

/// A short life that meets everything: rolls, an oversized frame, deletions, a restart.
pub fn example() -> Vec<Step> {
    let append = |count, len| Step::Append { count, len };
    vec![
        append(2, 40),
        append(0, 0),
        append(5, 3000),
        Step::Sync,
        append(1, 2000),
        append(1, 12_000),
        append(3, 10),
        Step::Roll { len: 500 },
        append(1, 100),
        Step::DeleteAllBut(4),
        append(4, 600),
        append(1, 900),
        Step::Reopen,
        append(1, 1),
        Step::Sync,
        append(3, 1500),
        Step::Roll { len: 0 },
        Step::DeleteAllBut(1),
        append(2, 77),
    ]
}
