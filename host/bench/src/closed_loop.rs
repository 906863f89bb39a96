//! Load that goes as fast as it is acknowledged: a few pieces are on their way, and each time the oldest is durable the next one is sent.
//! Full load that shows pauses: were more on its way, waiting in line would hide them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::client::Connection;
use crate::count::Count;
use crate::lines::Lines;

/// Lines of a piece.
const PIECE: u64 = 1000;
/// Pieces on their way.
const ON_THEIR_WAY: usize = 2;

/// What came of it.
pub struct Heard {
    /// From before a piece is sent until its acknowledgement was read, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// Lines that were sent and acknowledged.
    pub sent: u64,
}

impl Heard {
    /// Adds what was sent to a count.
    pub fn count(&self, lines: &Lines, count: &mut Count) -> Result<()> {
        let all = lines.all();
        count.add(all, self.sent / all.count)?;
        let rest = lines.first(self.sent % all.count);
        count.add(rest, u64::from(rest.count > 0))
    }
}

/// Sends lines from the first to the last, and again, over one connection until told to stop, and hears all of them acknowledged.
pub fn run(socket: &Path, lines: &Lines, stop: &AtomicBool) -> Result<Heard> {
    let mut connection = Connection::open(socket)?;
    let mut heard = Heard { latencies: Histogram::new(3)?, sent: 0 };
    let mut on_their_way: VecDeque<(u64, Instant)> = VecDeque::new();
    let all = lines.all().count;
    loop {
        let stops = stop.load(Ordering::Relaxed);
        if stops && on_their_way.is_empty() {
            return Ok(heard);
        }
        if stops || on_their_way.len() == ON_THEIR_WAY {
            if let Some((until, begun)) = on_their_way.pop_front() {
                let took = connection.heard(until)?.saturating_duration_since(begun);
                heard.latencies.record(took.as_nanos() as u64)?;
            }
            continue;
        }
        let from = heard.sent % all;
        let piece = lines.between(from as usize, (from + PIECE).min(all) as usize);
        let begun = Instant::now();
        connection.send(piece)?;
        heard.sent += piece.count;
        on_their_way.push_back((heard.sent, begun));
    }
}
