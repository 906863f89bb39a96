//! What a disk keeps of the writes to one file: surely those that were synced, and of the others whatever a power loss leaves.

use std::sync::Arc;

use crate::content::Content;
use crate::fault::Reached;
use crate::random::Random;

const SECTOR: u64 = 512;

/// A file, whatever it is called.
#[derive(Clone, Default)]
pub(crate) struct Inode {
    /// The last name it was given, for traces.
    pub(crate) name: Arc<str>,
    /// What reads show.
    pub(crate) seen: Content,
    /// What a power loss leaves for certain, but for what is pending.
    pub(crate) durable: Content,
    pub(crate) pending: Vec<Change>,
    /// When it was last written to, in microseconds since 1970 UTC.
    pub(crate) modified: u64,
}

#[derive(Clone)]
pub(crate) enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Length(u64),
    Allocate(u64),
}

/// What becomes of the changes that are pending.
#[derive(Clone, Copy)]
enum Mood {
    /// All of them reach the disk, or none: the extremes are frequent in life and rare by chance.
    All,
    Nothing,
    /// The first ones in order, up to some byte.
    Prefix {
        bytes: u64,
    },
    /// All but some sectors.
    Most,
    /// Sector by sector.
    Pieces,
}

/// What becomes of the part of a write that lies in one sector.
#[derive(Clone, Copy)]
enum Piece {
    Kept,
    /// The old bytes.
    Lost,
    /// Some of the bytes.
    Torn,
    Zeros,
    Garbage,
}

impl Inode {
    pub(crate) fn new(name: &str) -> Inode {
        Inode { name: name.into(), ..Inode::default() }
    }

    /// A file of these bytes, all of them durable.
    pub(crate) fn durable(name: &str, content: Content) -> Inode {
        Inode { seen: content.clone(), durable: content, ..Inode::new(name) }
    }

    /// Does a change as far as reads can tell; nothing of it is durable.
    pub(crate) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// What an earlier failed sync lost stays lost: its pages count as clean.
    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails: an arbitrary part of what is pending reaches the disk, the rest never will, and reads show it until the kernel
    /// needs the memory.
    pub(crate) fn fail_sync(&mut self, random: &mut Random, reached: &mut Reached) {
        self.settle(random, reached);
        if random.one_in(4) {
            reached.forgotten_writes += 1;
            let length = self.seen.len();
            self.seen = self.durable.clone();
            self.seen.set_len(length);
        }
    }

    /// The file after a power loss.
    pub(crate) fn survivor(&self, random: &mut Random, reached: &mut Reached) -> Inode {
        let mut inode = self.clone();
        inode.settle(random, reached);
        inode.seen = inode.durable.clone();
        inode
    }

    fn settle(&mut self, random: &mut Random, reached: &mut Reached) {
        if self.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let total: u64 = pending.iter().map(Change::weight).sum();
        let mut mood = match random.below(8) {
            0 | 1 => Mood::All,
            2 | 3 => Mood::Nothing,
            4 => Mood::Prefix { bytes: random.below(total + 1) },
            5 => Mood::Most,
            _ => Mood::Pieces,
        };
        for change in pending {
            match (&change, &mut mood) {
                (_, Mood::All) => {
                    reached.kept_changes += 1;
                    change.apply(&mut self.durable);
                }
                (_, Mood::Nothing) => change.lose(reached),
                (_, Mood::Prefix { bytes }) if change.weight() <= *bytes => {
                    *bytes -= change.weight();
                    reached.kept_changes += 1;
                    change.apply(&mut self.durable);
                }
                (Change::Write { offset, bytes }, Mood::Prefix { bytes: left }) => {
                    let kept = *left as usize;
                    self.durable.write(*offset, &bytes[..kept]);
                    reached.torn_sectors += u64::from(kept > 0);
                    reached.lost_sectors += ((bytes.len() - kept) as u64).div_ceil(SECTOR);
                    *left = 0;
                }
                (_, Mood::Prefix { bytes }) => {
                    *bytes = 0;
                    change.lose(reached);
                }
                (Change::Write { offset, bytes }, Mood::Most | Mood::Pieces) => {
                    self.settle_write(*offset, bytes, matches!(mood, Mood::Most), random, reached);
                }
                (_, Mood::Most) => change.apply(&mut self.durable),
                (_, Mood::Pieces) => match random.one_in(2) {
                    true => change.apply(&mut self.durable),
                    false => change.lose(reached),
                },
            }
        }
    }

    fn settle_write(&mut self, offset: u64, bytes: &[u8], most: bool, random: &mut Random, reached: &mut Reached) {
        let mut at = 0;
        while at < bytes.len() {
            let start = offset + at as u64;
            let in_sector = (SECTOR - start % SECTOR) as usize;
            let piece = &bytes[at..bytes.len().min(at + in_sector)];
            at += piece.len();
            let fate = match random.below(if most { 40 } else { 8 }) {
                0 => Piece::Lost,
                1 => Piece::Torn,
                2 => Piece::Zeros,
                3 => Piece::Garbage,
                4 if !most => Piece::Lost,
                _ => Piece::Kept,
            };
            self.settle_piece(start, piece, fate, random, reached);
        }
    }

    /// Bytes that the write does not change stay as they are: the log trusts a disk that far.
    fn settle_piece(&mut self, start: u64, piece: &[u8], fate: Piece, random: &mut Random, reached: &mut Reached) {
        if let Piece::Kept = fate {
            return self.durable.write(start, piece);
        }
        let mut old = vec![0; piece.len()];
        let there = self.durable.read(start, &mut old);
        let changes = |at: usize| at >= there || old[at] != piece[at];
        let changed = (0..piece.len()).filter(|&at| changes(at)).count();
        let mut left = piece.to_vec();
        match fate {
            Piece::Zeros | Piece::Garbage if changed > 0 => {
                let zeros = matches!(fate, Piece::Zeros);
                *(if zeros { &mut reached.zeroed_sectors } else { &mut reached.garbage_sectors }) += 1;
                for (_, byte) in left.iter_mut().enumerate().filter(|(at, _)| changes(*at)) {
                    *byte = if zeros { 0 } else { (random.number() >> 32) as u8 };
                }
            }
            // Up to some byte, or any bytes at all: no disk is as bad, and nothing may rely on that.
            Piece::Torn => {
                reached.torn_sectors += 1;
                if random.one_in(2) {
                    left.truncate(random.below(piece.len() as u64 + 1) as usize);
                } else {
                    for at in 0..piece.len() {
                        if random.one_in(2) {
                            left[at] = old[at];
                        }
                    }
                }
            }
            _ => {
                reached.lost_sectors += 1;
                return;
            }
        }
        self.durable.write(start, &left);
    }
}

impl Change {
    pub(crate) fn apply(&self, content: &mut Content) {
        match self {
            Change::Write { offset, bytes } => content.write(*offset, bytes),
            Change::Length(length) => content.set_len(*length),
            Change::Allocate(length) => content.allocate(*length),
        }
    }

    /// Its part in all that is pending.
    fn weight(&self) -> u64 {
        match self {
            Change::Write { bytes, .. } => bytes.len() as u64,
            Change::Length(_) | Change::Allocate(_) => SECTOR,
        }
    }

    fn lose(&self, reached: &mut Reached) {
        match self {
            Change::Write { bytes, .. } => reached.lost_sectors += (bytes.len() as u64).div_ceil(SECTOR),
            Change::Length(_) | Change::Allocate(_) => reached.lost_lengths += 1,
        }
    }
}
