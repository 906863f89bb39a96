//! Rot at rest: a whole data directory in which one byte is another, for every byte and ten values each. Whoever reads it either refuses,
//! naming the file and the place, or answers as if nothing had happened; it is never used in silence. Knows no file's format.
//!
//! Everything here is determined, so a flip can matter only where somebody reads: what is done with a damaged copy is done once with
//! a whole one first, and bytes that nobody asked the disk for then are counted, and left out.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tally_daemon::aggregator::Meta;
use tally_daemon::clock::{Clock, SimulatedTime};
use tally_daemon::config::Config;
use tally_daemon::context::Fatal;
use tally_daemon::life::Beginning;
use tally_daemon::plugins::overrides::{self, Held, Override, Overrides};
use tally_daemon::{LOG_FOLDER, verify};
use tally_storage::{Storage as _, StorageFile as _};
use tally_testkit::{Kind, MemStorage};
use tally_wal::{Frame, Reader};

use crate::machines::{Machines, PluginFile};
use crate::producer::{Manner, Producer};
use crate::random::Random;
use crate::runs::{Outcome, side_by_side, text_of};
use crate::world::{self, Kit};

/// Its numbers are what is compared.
const PLUGIN: &str = "video-actions";
/// The directory is made of so many requests of so many lines.
const REQUESTS: u64 = 60;
const LINES: u64 = 12;
/// Bytes that one thread takes at once.
const PIECE: usize = 64;

thread_local! {
    /// Whether panics of this thread are no news.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What must have been reached.
pub const NEEDED: &[&str] = &[
    "flips in the analytics files refused",
    "flips in the log refused",
    "flips in the log without consequence",
    "flips in the overrides refused",
    "flips in the plugins refused",
    "flips in the state store refused",
    "flips in the state store without consequence",
];

/// Flips every `stride`-th byte of a data directory, or only this one of all its files, to 0x00, to 0xFF and in each bit.
pub fn flips(kit: &Kit, stride: u64, only: Option<u64>, threads: usize) -> Outcome {
    let whole = match Whole::new(kit) {
        Ok(whole) => whole,
        Err(error) => {
            let violations = vec![format!("the directory that is to be damaged: {error:#}")];
            eprintln!("violation: {}", violations[0]);
            return Outcome { violations, ..Outcome::default() };
        }
    };
    for file in &whole.files {
        println!("  {:>12}  bytes of {}", file.bytes.len(), file.name);
    }
    say_no_panic_of_ours();
    let places: Vec<u64> = match only {
        Some(place) => vec![place],
        None => (0..whole.bytes).step_by(usize::try_from(stride.max(1)).expect("a stride")).collect(),
    };
    let pieces: Vec<&[u64]> = places.chunks(PIECE).collect();
    let mut outcome = side_by_side(0..pieces.len() as u64, threads, |piece| {
        let mut outcome = Outcome::default();
        IS_QUIET.set(only.is_none());
        for place in pieces[usize::try_from(piece).expect("an index")] {
            whole.damage(kit, *place, &mut outcome);
        }
        IS_QUIET.set(false);
        outcome
    });
    outcome.counts.add("bytes of the directory", whole.bytes);
    outcome
}

/// redb's panics are caught and become errors that name its file; the default hook would print each of them.
fn say_no_panic_of_ours() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                others(panic);
            }
        }));
    });
}

/// A data directory without damage, and what it says.
struct Whole {
    disk: MemStorage,
    bytes: u64,
    files: Vec<File>,
    /// What the disk was asked for, by file.
    read_by_life: BTreeMap<String, Ranges>,
    read_by_verify: BTreeMap<String, Ranges>,
    config: Config,
    frames: Vec<Frame>,
    said: Said,
}

struct File {
    name: String,
    bytes: Vec<u8>,
    /// The place of its first byte among those of all files.
    start: u64,
    part: Part,
}

/// A part of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Log,
    State,
    Analytics,
    Plugins,
    Overrides,
}

/// What became of a flip.
enum End {
    Refused,
    Harmless,
    NeverRead,
}

/// What a daemon on the directory answers: at once, after more events, and in the life after that.
#[derive(Debug, PartialEq)]
struct Said([Vec<u8>; 3]);

/// Parts of a file.
#[derive(Debug, Default, PartialEq)]
struct Ranges(Vec<std::ops::Range<u64>>);

impl Ranges {
    fn contain(&self, at: u64) -> bool {
        self.0.iter().any(|range| range.contains(&at))
    }
}

impl Whole {
    fn new(kit: &Kit) -> anyhow::Result<Self> {
        let mut config = world::config(&mut Random::new(0))?;
        config.log.segment_bytes = 24 << 10;
        config.log.retain_bytes = 1 << 40;
        config.log.retain_age = Duration::from_secs(1 << 33);
        config.flush.events = 400;
        config.flush.interval = Duration::from_secs(3600);
        config.queue.max_bytes = 1 << 20;
        config.analytics.max_batches = 1;
        let disk = MemStorage::new();
        make(kit, &config, &disk)?;
        let mut this = Self {
            bytes: 0,
            files: Vec::new(),
            read_by_life: BTreeMap::new(),
            read_by_verify: BTreeMap::new(),
            frames: frames(&disk)?,
            said: Said(Default::default()),
            config,
            disk,
        };
        for name in this.disk.names() {
            let bytes = this.disk.contents(&name).context("a file that is listed")?;
            let part = match name.split_once('/') {
                Some((LOG_FOLDER, _)) => Part::Log,
                Some(("plugins", _)) => Part::Plugins,
                None if name.starts_with("analytics") => Part::Analytics,
                None if name == tally_state::FILE_NAME => Part::State,
                None if name == overrides::FILE => Part::Overrides,
                _ if bytes.is_empty() => continue,
                _ => anyhow::bail!("{name} is no file that is known here"),
            };
            let start = this.bytes;
            this.bytes += bytes.len() as u64;
            this.files.push(File { name, bytes, start, part });
        }
        let copy = this.disk.duplicate();
        copy.trace(true);
        this.said = life(kit, &this.config, &copy)?;
        this.read_by_life = reads(&copy);
        let copy = this.disk.duplicate();
        copy.trace(true);
        verified(kit, &copy)?;
        this.read_by_verify = reads(&copy);
        let copy = this.disk.duplicate();
        copy.trace(true);
        let again = life(kit, &this.config, &copy)?;
        ensure!(again == this.said && reads(&copy) == this.read_by_life, "two lives from the same files differ");
        Ok(this)
    }

    /// One byte, ten times.
    fn damage(&self, kit: &Kit, place: u64, outcome: &mut Outcome) {
        let file = self.files.iter().rfind(|file| file.start <= place).expect("the first file begins at 0");
        let at = usize::try_from(place - file.start).expect("files fit into memory");
        let Some(&byte) = file.bytes.get(at) else { return };
        let mut values: Vec<u8> = (0..8).map(|bit| byte ^ 1 << bit).chain([0, 0xff]).collect();
        values.sort_unstable();
        values.dedup();
        for value in values.into_iter().filter(|value| *value != byte) {
            let end = catch_unwind(AssertUnwindSafe(|| self.flip(kit, file, at, value)))
                .unwrap_or_else(|panic| Err(anyhow::anyhow!("panic: {}", text_of(&*panic))));
            match end {
                Ok(end) => outcome.counts.one(counted(file.part, &end)),
                Err(error) => {
                    let name = &file.name;
                    outcome.violations.push(format!(
                        "cargo xtask sim --flips 1 --operation {place}   # {name}, byte {at}, {byte:#04x} made {value:#04x}: {error:#}"
                    ));
                }
            }
        }
    }

    /// The frames that must be there. A closing frame holds nothing, and proves the one before it: as a torn end it may go.
    fn promised(&self) -> &[Frame] {
        match self.frames.split_last() {
            Some((closing, others)) if closing.body.is_empty() => others,
            _ => &self.frames,
        }
    }

    /// Not an error: a right refusal, or right answers.
    fn flip(&self, kit: &Kit, file: &File, at: usize, value: u8) -> anyhow::Result<End> {
        let is_in = |read: &BTreeMap<String, Ranges>| read.get(&file.name).is_some_and(|r| r.contain(at as u64));
        let (by_life, by_verify) = (is_in(&self.read_by_life), is_in(&self.read_by_verify));
        if !by_life && !by_verify {
            return Ok(End::NeverRead);
        }
        let damaged = self.disk.duplicate();
        damaged.open(&file.name)?.write_at(&[value], at as u64)?;
        let mut refused = None;
        if file.part == Part::Log {
            // Whoever reads the log from its beginning: `verify`, and a start that has to replay.
            match frames(&damaged) {
                Ok(frames) => {
                    let is_same = frames == self.frames || frames == self.promised();
                    ensure!(is_same, "the log reads differently");
                }
                Err(error) => refused = Some(error),
            }
        }
        if file.part == Part::Analytics && by_verify {
            refused = verified(kit, &damaged.duplicate()).err();
            ensure!(refused.is_some(), "verify finds nothing");
        }
        if by_life {
            match life(kit, &self.config, &damaged) {
                Ok(said) => {
                    ensure!(said == self.said, "it begins, and answers differently");
                    // What stands in a segment that a start need not read is refused by whoever reads it.
                    if refused.is_none() {
                        let frames = frames(&damaged)?;
                        ensure!(frames.starts_with(self.promised()), "it begins, and acknowledged frames are gone");
                    }
                }
                Err(error) => refused = Some(error),
            }
        }
        let Some(error) = refused else { return Ok(End::Harmless) };
        let text = format!("{error:#}");
        ensure!(text.contains(&file.name), "the refusal does not name the file: {text}");
        let place = match file.part {
            Part::Log => text.contains("at byte ") || text.contains("has log format version"),
            Part::Analytics => text.contains("byte "),
            Part::State | Part::Plugins | Part::Overrides => true,
        };
        ensure!(place, "the refusal does not say where: {text}");
        Ok(End::Refused)
    }
}

fn counted(part: Part, end: &End) -> &'static str {
    match (part, end) {
        (Part::Log, End::Refused) => "flips in the log refused",
        (Part::Log, End::Harmless) => "flips in the log without consequence",
        (Part::Log, End::NeverRead) => "flips in the log that nobody reads",
        (Part::State, End::Refused) => "flips in the state store refused",
        (Part::State, End::Harmless) => "flips in the state store without consequence",
        (Part::State, End::NeverRead) => "flips in the state store that nobody reads",
        (Part::Analytics, End::Refused) => "flips in the analytics files refused",
        (Part::Analytics, End::Harmless) => "flips in the analytics files without consequence",
        (Part::Analytics, End::NeverRead) => "flips in the analytics files that nobody reads",
        (Part::Plugins, End::Refused) => "flips in the plugins refused",
        (Part::Plugins, End::Harmless) => "flips in the plugins without consequence",
        (Part::Plugins, End::NeverRead) => "flips in the plugins that nobody reads",
        (Part::Overrides, End::Refused) => "flips in the overrides refused",
        (Part::Overrides, End::Harmless) => "flips in the overrides without consequence",
        (Part::Overrides, End::NeverRead) => "flips in the overrides that nobody reads",
    }
}

/// What was read since the trace was begun.
fn reads(disk: &MemStorage) -> BTreeMap<String, Ranges> {
    let mut read: BTreeMap<String, Ranges> = BTreeMap::new();
    for operation in disk.take_trace().into_iter().filter(|operation| operation.kind == Kind::Read) {
        let ranges = &mut read.entry(operation.name).or_default().0;
        let range = operation.offset..operation.offset + operation.bytes;
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    read
}

fn frames(disk: &MemStorage) -> anyhow::Result<Vec<Frame>> {
    let mut reader = Reader::open_read_only(disk.duplicate().folder(LOG_FOLDER)?)?;
    reader.seek(reader.first_frame())?;
    let (mut frames, mut frame) = (Vec::new(), Frame::default());
    while reader.next(&mut frame)? {
        frames.push(frame.clone());
    }
    Ok(frames)
}

fn verified(kit: &Kit, disk: &MemStorage) -> anyhow::Result<()> {
    verify::verify_on(disk.clone(), &kit.replay, kit.replayed.clone(), None).map(drop)
}

fn begin(kit: &Kit, config: &Config, disk: &MemStorage, salt: u64) -> anyhow::Result<Machines> {
    let time = Arc::new(SimulatedTime::default());
    time.wall.store(1_769_508_000_000_000, Relaxed);
    let (failed, _) = tokio::sync::mpsc::unbounded_channel();
    Machines::begin(Beginning {
        config: config.clone(),
        clock: Clock::simulated(time),
        data: disk.clone(),
        engine: kit.engine.clone(),
        compiled: kit.compiled.clone(),
        spare_segments: 0,
        salt: Some(salt),
        fatal: Fatal(failed),
    })
}

/// Sends some requests and waits for the answers.
fn send(machines: &mut Machines, producer: &mut Producer, requests: u64) -> anyhow::Result<()> {
    let random = &mut Random::new(1);
    for _ in 0..requests {
        let sent = producer.send(LINES, &machines.producers, &machines.context.queue, &machines.counters)?;
        ensure!(sent, "the queue is full");
        machines.run_down(random, &mut || Ok(()))?;
        producer.listen()?;
    }
    ensure!(producer.is_settled(), "a request was not answered");
    Ok(())
}

/// A peaceful life from nothing.
fn make(kit: &Kit, config: &Config, disk: &MemStorage) -> anyhow::Result<()> {
    let random = &mut Random::new(1);
    let mut machines = begin(kit, config, disk, 1)?;
    let file = PluginFile { bytes: kit.plugins[PLUGIN].clone(), settings: "{}".to_owned() };
    machines.reconcile(&BTreeMap::from([(PLUGIN.to_owned(), file)]))?;
    machines.run_down(random, &mut || Ok(()))?;
    send(&mut machines, &mut Producer::new(0, Manner::Requests), REQUESTS)?;
    machines.stop(random, &mut || Ok(()))?;
    let held = Held { digest: "a".repeat(64), instead_of: "b".repeat(64), because: "rolled back".to_owned() };
    let mut overrides = Overrides::load(disk)?;
    overrides.set(disk, PLUGIN, Override { held: Some(held), ..Override::default() })?;
    overrides.set(disk, "homepage-fetch", Override { paused: true, ..Override::default() })
}

/// A life on what is there, with a few more events and a cut, and the beginning of the next: what they say.
fn life(kit: &Kit, config: &Config, disk: &MemStorage) -> anyhow::Result<Said> {
    let random = &mut Random::new(1);
    let mut machines = begin(kit, config, disk, 2)?;
    // As the controller does, which is not simulated.
    let overrides = Overrides::load(disk)?;
    machines.run_down(random, &mut || Ok(()))?;
    let first = [answer(&mut machines)?, format!("{overrides:?}").into_bytes()].concat();
    send(&mut machines, &mut Producer::new(1, Manner::Requests), 1)?;
    machines.cut(true);
    machines.run_down(random, &mut || Ok(()))?;
    let second = answer(&mut machines)?;
    machines.stop(random, &mut || Ok(()))?;
    disk.restart();
    let third = answer(&mut begin(kit, config, disk, 3)?)?;
    Ok(Said([first, second, third]))
}

fn answer(machines: &mut Machines) -> anyhow::Result<Vec<u8>> {
    let answer = machines.ask(PLUGIN)?.context("the aggregator does not run")?;
    // Frames have other numbers where a closing frame went.
    let mut bytes = Meta { frame: 0, ..answer.meta }.to_bytes();
    for table in &answer.tables {
        bytes.extend_from_slice(table.name.as_bytes());
        bytes.extend_from_slice(serde_json::to_string(&table.to_json_rows())?.as_bytes());
    }
    Ok(bytes)
}
