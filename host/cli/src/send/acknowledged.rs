//! Sending with acknowledgements: writes ahead of the answers within a window, and with a producer's name connects
//! again and resends what is not known to be durable.

use std::time::Duration;

use anyhow::{anyhow, bail};

use super::Args;
use super::backlog::Backlog;
use super::encoding::{Encoding, write_maps};
use super::session::{End, Progress, Refused, Session, Whom};
use super::source::Source;
use super::summary::Summary;
use crate::progress::{Meter, Stopwatch};

/// Bytes that may be sent ahead of the acknowledgements, and are kept to be sent again.
const WINDOW: usize = 32 << 20;
/// First pause before connecting again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that lasted so long was no part of an outage.
const LASTING: Duration = Duration::from_secs(5);

/// A stream of lines on its way.
struct Sender<'a> {
    args: &'a Args,
    whom: &'a Whom,
    source: &'a mut Source,
    exhausted: bool,
    backlog: Backlog,
    /// Lines known to be durable.
    durable: u64,
    meter: &'a mut Meter,
    summary: &'a mut Summary,
}

/// How a connection ended when not everything was durable.
enum Broken {
    /// Another connection may do better.
    Passing(anyhow::Error),
    /// Nothing helps.
    Final(anyhow::Error),
}

/// Sends everything, or says how far it came and why no further.
pub(super) fn send(
    args: &Args,
    whom: &Whom,
    source: &mut Source,
    meter: &mut Meter,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut sender =
        Sender { args, whom, source, exhausted: false, backlog: Backlog::default(), durable: 0, meter, summary };
    let outcome = sender.insist();
    sender.summary.lines = sender.backlog.end();
    sender.summary.durable = sender.durable;
    outcome
}

impl Sender<'_> {
    /// One connection after the other until everything is durable, or nothing has moved for too long.
    fn insist(&mut self) -> anyhow::Result<()> {
        let mut outage = Stopwatch::start();
        let mut pause = FIRST_PAUSE;
        loop {
            let before = (self.durable, self.summary.connections);
            let attempt = Stopwatch::start();
            let error = match self.converse() {
                Ok(()) => return Ok(()),
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Passing(error)) => error,
            };
            if self.args.producer.is_none() {
                return Err(self.without_resuming(error));
            }
            let lasted = self.summary.connections > before.1 && attempt.elapsed() >= LASTING;
            if self.durable > before.0 || lasted {
                outage = Stopwatch::start();
                pause = FIRST_PAUSE;
            }
            if outage.elapsed() >= self.args.retry_for {
                return Err(error.context(format!(
                    "gave up after {:?} without progress; the same command continues where this one ended",
                    self.args.retry_for
                )));
            }
            self.meter.say(&format!("{error}; trying again"));
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn without_resuming(&self, error: anyhow::Error) -> anyhow::Error {
        if self.summary.connections == 0 {
            return error;
        }
        let next = self.args.from_line + self.durable;
        error.context(format!(
            "{} lines are durable; lines from {next} on may be or not (with --producer ID the daemon would know where to resume)",
            self.durable
        ))
    }

    /// One connection, from the handshake until everything is durable.
    fn converse(&mut self) -> Result<(), Broken> {
        let patience = self.args.retry_for;
        let mut session =
            Session::open(self.whom, patience).map_err(|error| match error.downcast_ref::<Refused>() {
                Some(Refused(end)) if end.is_final() => Broken::Final(anyhow!("{end}")),
                _ => Broken::Passing(error),
            })?;
        let base = match self.args.producer {
            Some(_) => session.resume,
            None => 0,
        };
        self.resume(base).map_err(Broken::Final)?;
        let outcome = self.pump(&mut session, base);
        let progress = match outcome {
            Ok(()) => session.progress(),
            Err(_) => session.last_words(),
        };
        self.durable = self.durable.max(base + progress.durable);
        self.summary.add(&progress, self.args.from_line + base);
        match outcome {
            Ok(()) => Ok(()),
            // The last words may have been that everything is durable.
            Err(Stopped::Connection(_)) if self.exhausted && self.durable >= self.backlog.end() => Ok(()),
            Err(Stopped::Connection(error)) => Err(broken(&progress, error)),
            Err(Stopped::Source(error)) => Err(Broken::Final(error)),
        }
    }

    /// Puts source and backlog to where the daemon is.
    fn resume(&mut self, resume: u64) -> anyhow::Result<()> {
        let producer = self.args.producer.as_deref().unwrap_or_default();
        if resume < self.backlog.begin() || resume < self.durable {
            bail!(
                "the daemon acknowledged {} lines of `{producer}` but now wants to resume at {resume}: it has forgotten the name, or it is another \
                 data directory; check it, then use --from-line and a new name",
                self.durable
            );
        }
        if resume > self.backlog.end() {
            let ahead = resume - self.backlog.end();
            let skipped = self.source.skip_lines(ahead)?;
            if skipped < ahead {
                bail!(
                    "the daemon has decided {resume} lines of `{producer}`, but {} has only {}: a name belongs to one stream of lines; use another \
                     --producer for this file",
                    self.args.file,
                    self.backlog.end() + skipped
                );
            }
            self.backlog.skip_to(resume);
        }
        self.durable = resume;
        self.summary.connected(resume);
        self.backlog.release(resume);
        Ok(())
    }

    /// Writes what is not durable, reads on, and waits for the last acknowledgement.
    fn pump(&mut self, session: &mut Session, base: u64) -> Result<(), Stopped> {
        let mut position = base;
        let mut maps = Vec::new();
        loop {
            let (durable, ended) = session.durable();
            self.durable = self.durable.max(base + durable);
            self.backlog.release(self.durable);
            if ended {
                return Err(Stopped::Connection(None));
            }
            let sent = position - self.summary.resumed.unwrap_or(0);
            let durable_now = self.durable;
            self.meter.show(self.source.consumed(), |seconds| {
                format!("{sent} lines, {durable_now} durable, {:.0} lines/s", sent as f64 / seconds)
            });
            if let Some((lines, next)) = self.backlog.from(position) {
                let bytes = match self.whom.encoding {
                    Encoding::Json => lines,
                    Encoding::Msgpack => {
                        maps.clear();
                        write_maps(lines, self.args.from_line + position, true, &mut maps).map_err(Stopped::Source)?;
                        &maps
                    }
                };
                session.write(bytes).map_err(|error| Stopped::Connection(Some(error)))?;
                position = next;
            } else if self.backlog.bytes() >= WINDOW {
                session.wait(durable);
            } else if !self.exhausted {
                self.read().map_err(Stopped::Source)?;
            } else if self.durable >= self.backlog.end() {
                return Ok(());
            } else {
                session.wait(durable);
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let mut block = self.backlog.buffer();
        match self.source.next(&mut block)? {
            true => self.backlog.push(block),
            false => self.exhausted = true,
        }
        Ok(())
    }
}

/// Why pumping ended early.
enum Stopped {
    Connection(Option<std::io::Error>),
    Source(anyhow::Error),
}

fn broken(progress: &Progress, error: Option<std::io::Error>) -> Broken {
    let end = match (&progress.end, error) {
        (Some(end @ (End::Error { .. } | End::Closing(_))), _) | (Some(end), None) => end.clone(),
        (_, Some(error)) => End::Lost(error.to_string()),
        (None, None) => End::Lost("no answer".to_string()),
    };
    match end.is_final() {
        true => Broken::Final(anyhow!("{end}")),
        false => Broken::Passing(anyhow!("{end}")),
    }
}
