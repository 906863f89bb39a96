//! The lines that producers send. A line follows from its producer and its number, so that whoever finds it in the log knows whose it
//! is, and whether it is an event.

use tally_ingest::{Framed, Framer, FramerLimits};

use crate::random::mixed;

/// Names a line: its producer and its place among that producer's lines, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The producer.
    pub producer: u32,
    /// The line.
    pub line: u64,
}

const ACTIONS: [&str; 6] = ["view", "play", "pause", "unmute", "carousel_left", "carousel_right"];

impl Key {
    fn chance(self) -> u64 {
        mixed(u64::from(self.producer) << 40 ^ self.line ^ 0x0065_7665_6e74)
    }

    /// Whether it is an event.
    pub fn is_valid(self) -> bool {
        self.chance() % 32 > 1
    }

    /// What was done, as far as `video-actions` counts it.
    pub fn action(self) -> Option<&'static str> {
        let chance = self.chance() / 64;
        (self.is_valid() && !chance.is_multiple_of(16)).then(|| ACTIONS[(chance / 16 % 6) as usize])
    }

    /// Its text, without a newline; with an event id if `ids`.
    pub fn text(self, ids: bool) -> String {
        let Key { producer, line } = self;
        let chance = self.chance();
        match chance % 32 {
            0 => return format!("{{\"key\":\"{producer}.{line}\",\"type\":\"action"),
            1 => return format!("{{\"key\":\"{producer}.{line}\",\"type\":\"action\",\"timestamp\":\"soon\"}}"),
            _ => {}
        }
        let id = if ids { format!(",\"event_id\":\"{producer}.{line}\"") } else { String::new() };
        let (user, post) = (chance >> 20 & 15, chance >> 24 & 7);
        match self.action() {
            Some(action) => format!(
                "{{\"key\":\"{producer}.{line}\",\"type\":\"action\",\"timestamp\":\"2026-01-27T10:00:{:02}Z\",\
                 \"user_id\":\"u_{user}\",\"resource_type\":\"posts:{post}\",\"action\":\"{action}\"{id}}}",
                chance >> 30 & 31
            ),
            None => format!("{{\"key\":\"{producer}.{line}\",\"type\":\"other\"{id}}}"),
        }
    }

    /// Whose line this is.
    pub fn of(text: &[u8]) -> Option<Key> {
        let rest = std::str::from_utf8(text).ok()?.strip_prefix("{\"key\":\"")?;
        let (producer, line) = rest.split_once('"')?.0.split_once('.')?;
        Some(Key { producer: producer.parse().ok()?, line: line.parse().ok()? })
    }
}

/// Lines of a producer as a source frames them.
pub fn framed(producer: u32, lines: std::ops::Range<u64>, ids: bool) -> Framed {
    let mut framer = Framer::new(FramerLimits { read_bytes: 1 << 20, line_bytes: 1 << 16 });
    for line in lines {
        framer.push(Key { producer, line }.text(ids).as_bytes());
        framer.push(b"\n");
    }
    framer.take().expect("whole lines")
}
