//! One world: a disk, some clients, and the daemon's lives one after the other, each with its end. Everything follows from the seed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tally_daemon::clock::{Clock, SimulatedTime};
use tally_daemon::config::{Aggregator, Begins, Config, Durability, Sources};
use tally_daemon::context::Fatal;
use tally_daemon::life::Beginning;
use tally_daemon::plugins::Compiled;
use tally_daemon::{recovery, verify};
use tally_plugin::{Engine, Limits};
use tally_testkit::{Fault, MemStorage, Reached};

use crate::changes::file;
use crate::counts::Counts;
use crate::machines::{Done, Machines, PluginFile};
use crate::oracle::{Oracle, check_records};
use crate::producer::{Manner, Producer};
use crate::random::{Random, mixed};

/// The aggregator that runs all the time and whose numbers are known from outside.
pub(crate) const ALWAYS: &str = "video-actions";

/// One in so many ends of a life is verified before anybody recovers from it.
const VERIFIED: u64 = 8;

/// After one in so many ends the wall clock steps forward.
const STEPPED: u64 = 4;
/// By so much, microseconds.
const HOUR_MICROS: i64 = 3_600_000_000;

/// Shards of it, at most.
const MOST_SHARDS: u64 = 3;

/// What all worlds share: compiled plugins. Cheap to clone.
#[derive(Clone)]
pub struct Kit {
    pub(crate) engine: Engine,
    pub(crate) replay: Engine,
    pub(crate) compiled: Compiled,
    pub(crate) replayed: Compiled,
    pub(crate) plugins: Arc<BTreeMap<&'static str, Arc<Vec<u8>>>>,
}

impl Kit {
    /// Reads components by name.
    pub fn new(plugins: BTreeMap<&'static str, Vec<u8>>) -> anyhow::Result<Self> {
        // A backstop that never bites: how busy the machine is must not decide anything.
        // Batches are small here, and shards share them all the same.
        let limits = Limits { backstop: Duration::from_secs(600), dealt_rows: 1, ..Limits::default() };
        Ok(Self {
            engine: Engine::new(limits, None)?,
            replay: verify::replay_engine()?,
            compiled: Compiled::default(),
            replayed: Compiled::default(),
            plugins: Arc::new(plugins.into_iter().map(|(name, bytes)| (name, Arc::new(bytes))).collect()),
        })
    }
}

/// A fault that an operation of a life meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Counted from the beginning of the life, from 1.
    pub operation: u64,
    /// What happens to it.
    pub fault: Fault,
}

/// What a world was asked to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Lives before the last one, which ends in peace.
    pub lives: u64,
    /// Steps of a life, at most.
    pub steps: u64,
    /// The fault of the first life behind its beginning, instead of one by chance; with a number no operation has, none.
    pub first: Option<Planned>,
    /// The fault while the second life recovers.
    pub second: Option<Planned>,
}

/// What a world was.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often things were reached.
    pub counts: Counts,
    /// Operations of the first life, behind its beginning.
    pub first_operations: u64,
    /// Operations until the second life had recovered.
    pub second_operations: u64,
    /// What the last disk holds and how often chance was asked: the same for the same seed.
    pub digest: u64,
}

/// See the module.
pub struct World {
    pub(crate) kit: Kit,
    pub(crate) random: Random,
    disk: MemStorage,
    pub(crate) time: Arc<SimulatedTime>,
    config: Config,
    /// In how many shards the aggregator runs that always does: others in each life. Comes from the seed without a draw, so that all
    /// else in a world is as it would be without.
    shards: u64,
    producers: Vec<Producer>,
    pub(crate) oracle: Oracle,
    pub(crate) files: BTreeMap<String, PluginFile>,
    shape: Shape,
    pub(crate) report: Report,
    /// A fault is planned, and may have been met.
    is_armed: bool,
    /// Misfortunes before this life.
    reached: Reached,
    /// Operations of the disk that the last end took away.
    ended_operations: u64,
}

impl World {
    /// The world of this seed.
    pub fn new(kit: &Kit, seed: u64, shape: Shape) -> anyhow::Result<Self> {
        let mut random = Random::new(seed);
        let config = config(&mut random)?;
        // Who forgets what was acknowledged sends it again, and ids are not remembered for so long.
        let all = [Manner::Named, Manner::Requests, Manner::Plain, Manner::Ids];
        let manners = if config.log.durability == Durability::Fsync { &all[..] } else { &all[..3] };
        let producers =
            (0..2 + u32::try_from(random.below(4))?).map(|number| Producer::new(number, *random.pick(manners)));
        let producers = producers.collect();
        let files = BTreeMap::from([(ALWAYS.to_owned(), file(kit, "video-actions", "{}"))]);
        let disk = MemStorage::new();
        disk.seed(random.bits());
        let time = Arc::new(SimulatedTime::default());
        time.wall.store(1_769_508_000_000_000, Relaxed);
        Ok(Self {
            kit: kit.clone(),
            random,
            disk,
            time,
            oracle: Oracle::new(&config),
            config,
            shards: seed % MOST_SHARDS,
            producers,
            files,
            shape,
            report: Report::default(),
            is_armed: false,
            reached: Reached::default(),
            ended_operations: 0,
        })
    }

    /// Lives all lives. An error is a violation.
    pub fn run(mut self) -> anyhow::Result<Report> {
        let mut machines = self.begin().context("the first start of all")?;
        machines.reconcile(&self.files)?;
        self.run_down(&mut machines)?;
        for life in 0..self.shape.lives {
            let already = self.disk.operations();
            let planned = match (life, self.shape.first) {
                (0, Some(planned)) => Some(planned),
                _ => self.some_fault(),
            };
            if let Some(Planned { operation, fault }) = planned {
                self.disk.inject(already + operation, fault);
                self.is_armed = true;
            }
            let lived = self.live(machines);
            if life == 0 {
                self.report.first_operations = self.ended_operations.saturating_sub(already);
            }
            lived.with_context(|| format!("life {} ({planned:?})", life + 1))?;
            machines = self.begin_again(life).with_context(|| format!("the beginning of life {}", life + 2))?;
        }
        self.finish(machines).context("the last life")
    }

    fn some_fault(&mut self) -> Option<Planned> {
        let operation = 1 + self.random.below(300);
        let fault = *self.random.pick(&Fault::ALL);
        (!self.random.once_in(3)).then_some(Planned { operation, fault })
    }

    fn begin(&mut self) -> anyhow::Result<Machines> {
        self.shards = self.shards % MOST_SHARDS + 1;
        self.config.aggregators = vec![Aggregator {
            name: ALWAYS.to_owned(),
            plugin: ALWAYS.to_owned(),
            settings: "{}".to_owned(),
            shards: usize::try_from(self.shards)?,
            start: Begins::Now,
        }];
        let (failed, _) = tokio::sync::mpsc::unbounded_channel();
        Machines::begin(Beginning {
            config: self.config.clone(),
            clock: Clock::simulated(self.time.clone()),
            data: self.disk.clone(),
            engine: self.kit.engine.clone(),
            compiled: self.kit.compiled.clone(),
            spare_segments: 0,
            salt: Some(self.random.bits()),
            fatal: Fatal(failed),
        })
    }

    /// Recovers, and again if the recovery meets a fault.
    fn begin_again(&mut self, life: u64) -> anyhow::Result<Machines> {
        let planned = match (life, self.shape.second) {
            (0, Some(planned)) => Some(planned),
            _ if self.shape.first.is_some() || !self.random.once_in(3) => None,
            _ => Some(Planned { operation: 1 + self.random.below(60), fault: *self.random.pick(&Fault::ALL) }),
        };
        let before = self.disk.operations();
        if let Some(Planned { operation, fault }) = planned {
            self.disk.inject(before + operation, fault);
            self.is_armed = true;
        }
        self.reached = self.disk.reached();
        loop {
            match self.begin() {
                Ok(machines) => {
                    if life == 0 {
                        self.report.second_operations = self.disk.operations().saturating_sub(before);
                    }
                    self.recovered(&machines)?;
                    return Ok(machines);
                }
                Err(error) if !self.fault_was_met() => return Err(error),
                Err(_) => {
                    self.report.counts.one("faults while recovering");
                    self.next_disk();
                    self.verify_some()?;
                }
            }
        }
    }

    /// What must hold once a life has begun, before anything new happens.
    fn recovered(&mut self, machines: &Machines) -> anyhow::Result<()> {
        self.report.counts.one("recoveries");
        self.look()?;
        let counts = &machines.context.recovered.counts;
        ensure!(counts.balances(), "the ledger does not balance: {counts:?}");
        ensure!(
            counts.accepted == self.oracle.events(),
            "{} events are counted, {} are there",
            counts.accepted,
            self.oracle.events()
        );
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<()> {
        look(&mut self.oracle, &self.disk, &mut self.producers)
    }

    fn run_down(&mut self, machines: &mut Machines) -> anyhow::Result<()> {
        let Self { random, oracle, disk, producers, .. } = self;
        machines.run_down(random, &mut || look(oracle, disk, producers))
    }

    fn stop(&mut self, machines: Machines) -> anyhow::Result<Done> {
        let Self { random, oracle, disk, producers, .. } = self;
        machines.stop(random, &mut || look(oracle, disk, producers))
    }

    /// One life, until its end. The disk is the next life's afterwards.
    fn live(&mut self, mut machines: Machines) -> anyhow::Result<()> {
        let steps = self.shape.steps / 2 + self.random.below(self.shape.steps / 2 + 1);
        let mut seen = 0;
        for _ in 0..steps {
            // Between two lines it is not in the plan: the daemon sees to that before anything else is wanted of it, also in its next life.
            let done = match machines.leaves_out(ALWAYS) && self.random.once_in(2) {
                true => machines.reconcile(&self.files).map(|_| ()),
                false => self.step(&mut machines),
            };
            for producer in &mut self.producers {
                producer.listen()?;
            }
            if let Err(error) = done {
                ensure!(self.fault_was_met(), "a life ended by itself: {error:#}");
                self.report.counts.one("errors that ended a life");
                // A process that fails may still put things in order, or not come to it.
                if self.random.once_in(2) {
                    self.disk.kill();
                }
                drop(machines);
                self.next_disk();
                return self.verify_some();
            }
            // Segments may go only behind later frames: until then their events have been seen.
            let last = machines.context.tail.last();
            if last > seen {
                self.look()?;
            }
            seen = last;
        }
        if self.random.once_in(4) {
            self.free_disk();
            match self.stop(machines) {
                Ok(done) => self.count(done),
                Err(error) => ensure!(self.fault_was_met(), "a stop failed: {error:#}"),
            }
            for producer in &mut self.producers {
                producer.listen()?;
            }
            self.report.counts.one("stops");
        } else {
            self.count(machines.done);
            self.disk.kill();
            drop(machines);
        }
        self.next_disk();
        self.verify_some()
    }

    /// Verifies what some ends left, as whoever finds it so would. Which ones takes no draw, so that all else is as it would be without.
    fn verify_some(&mut self) -> anyhow::Result<()> {
        if !mixed(self.ended_operations).is_multiple_of(VERIFIED) {
            return Ok(());
        }
        self.report.counts.one("replays right after an end");
        self.verify(None).context("verify right after an end")
    }

    fn verify(&self, rows: Option<usize>) -> anyhow::Result<()> {
        let kit = &self.kit;
        verify::verify_on(self.disk.duplicate(), &kit.replay, kit.replayed.clone(), rows).map(drop)
    }

    fn count(&mut self, done: Done) {
        let counts = &mut self.report.counts;
        counts.add("plans activated", done.activations);
        counts.add("questions answered", done.answers);
        counts.add("lines of a state begun", done.lines);
        counts.add("states carried over to another version", done.migrations);
        counts.add("stored versions removed", done.removed);
        counts.add("cuts asked for", done.cuts);
        counts.add("flush records", done.records);
        counts.add("jobs parsed ahead", done.parsed_ahead);
        counts.add("calls shared by shards", done.shared_calls);
        counts.add("waits for a full disk", done.disk_full);
    }

    /// A full disk is no excuse: that is waited out.
    fn fault_was_met(&self) -> bool {
        self.is_armed && (self.disk.is_dead() || self.disk.reached().since(&self.reached) != Reached::default())
    }

    /// The disk as the next life finds it: as the process left it, or as a power loss did.
    fn next_disk(&mut self) {
        for producer in &mut self.producers {
            producer.disconnect();
        }
        self.ended_operations = self.disk.operations();
        if self.disk.is_without_power() || self.random.once_in(2) {
            self.disk = self.disk.crash(self.random.bits());
            self.may_forget();
            // The machine begins anew: its monotonic clock does, too.
            self.time.elapsed.store(0, Relaxed);
        } else {
            // A sync that fails may leave nothing of what it was for.
            if self.disk.reached().since(&self.reached).failed_syncs > 0 {
                self.may_forget();
            }
            self.disk.restart();
        }
        self.free_disk();
        self.is_armed = false;
        self.reached = self.disk.reached();
        // As a machine's is that is set only once it is up. Without a draw, too.
        if mixed(self.ended_operations + 1).is_multiple_of(STEPPED) {
            self.report.counts.one("steps of the wall clock between lives");
            self.time.wall.fetch_add(HOUR_MICROS, Relaxed);
            self.producers.iter_mut().for_each(Producer::repeat);
        }
    }

    /// Where not every frame is synced, what was acknowledged may be gone now.
    fn may_forget(&mut self) {
        if self.config.log.durability != Durability::Fsync {
            self.report.counts.one("losses that may take what was acknowledged");
            self.producers.iter_mut().for_each(Producer::forget);
        }
    }

    fn step(&mut self, machines: &mut Machines) -> anyhow::Result<()> {
        match self.random.below(100) {
            0..=11 => self.send(machines)?,
            12..=17 => self.pass_time(),
            18 => self.change_plugins(machines)?,
            19 => machines.cut(self.random.once_in(2)),
            20 => {
                let running = machines.running();
                if !running.is_empty() {
                    let name = self.random.pick(&running);
                    // Others may have settings by which they fail.
                    let answer = machines.ask(name);
                    if name == ALWAYS {
                        answer?;
                    }
                }
            }
            21 if self.random.once_in(8) => self.fill_disk(),
            22 if self.random.once_in(2) => self.free_disk(),
            _ => {
                machines.step(&mut self.random)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, machines: &Machines) -> anyhow::Result<()> {
        let any = usize::try_from(self.random.below(self.producers.len() as u64))?;
        let lines = 1 + self.random.below(12);
        let producer = &mut self.producers[any];
        let sent = producer.send(lines, &machines.producers, &machines.context.queue, &machines.counters)?;
        self.report.counts.one(if sent { "chunks sent" } else { "chunks that found no room" });
        Ok(())
    }

    fn pass_time(&mut self) {
        let micros = self.random.below(400_000);
        self.time.elapsed.fetch_add(micros, Relaxed);
        let jump = match self.random.below(40) {
            0 => HOUR_MICROS,
            1 => -HOUR_MICROS,
            2 => 315_576_000_000_000,
            3 => -315_576_000_000_000,
            _ => 0,
        };
        if jump != 0 {
            self.report.counts.one("jumps of the wall clock");
        }
        self.time.wall.fetch_add(i64::try_from(micros).expect("less than a second") + jump, Relaxed);
    }

    fn fill_disk(&mut self) {
        let used: u64 =
            self.disk.names().iter().filter_map(|name| self.disk.contents(name)).map(|bytes| bytes.len() as u64).sum();
        self.disk.set_capacity(Some(used + self.random.below(1 << 15)));
        self.report.counts.one("disks filled");
    }

    fn free_disk(&mut self) {
        self.disk.set_capacity(None);
    }

    /// Drains everything, in peace, and compares all that there is.
    fn finish(mut self, mut machines: Machines) -> anyhow::Result<Report> {
        self.disk.disarm();
        while !machines.reconcile(&self.files)? {
            self.run_down(&mut machines)?;
        }
        self.run_down(&mut machines)?;
        for any in 0..self.producers.len() {
            while !self.producers[any].send(5, &machines.producers, &machines.context.queue, &machines.counters)? {
                self.run_down(&mut machines)?;
            }
        }
        machines.cut(false);
        self.run_down(&mut machines)?;
        for producer in &mut self.producers {
            producer.listen()?;
            ensure!(producer.is_settled(), "lines of producer {} were never decided", producer.number);
        }
        self.look()?;
        let answer = machines
            .ask(ALWAYS)?
            .with_context(|| format!("the aggregator that always runs does not: {:?}", machines.failures))?;
        let events = self.oracle.events();
        ensure!(answer.meta.ledger.accepted == events, "it saw {} of {events} events", answer.meta.ledger.accepted);
        let actions = answer.tables.iter().find(|table| table.name == "actions").context("no table of actions")?;
        let expected = self.oracle.actions();
        for row in actions.to_json_rows() {
            let (action, count) = (row["action"].as_str().unwrap_or_default(), row["count"].as_u64());
            let wanted = expected.get(action).copied().unwrap_or(0);
            ensure!(count == Some(wanted), "{action} is counted {count:?} times, and is {wanted} times in the log");
        }
        if machines.context.reader().first_frame() > 1 {
            self.report.counts.one("logs that let segments go");
        }
        check_published(&machines, events)?;
        check_anchor(&machines)?;
        let done = self.stop(machines)?;
        self.count(done);
        self.report.counts.add("events", events);
        let records = check_records(&self.disk)?;
        self.report.counts.add("records checked", records);
        let rows = 1 + usize::try_from(self.random.below(64))?;
        self.verify(Some(rows)).context("verify")?;
        self.report.counts.one("replays that gave the same bytes");
        for (what, count) in self.disk.reached().counts() {
            self.report.counts.add(what, count);
        }
        self.report.counts.one("worlds");
        self.report.digest = digest(&self.disk, self.random.bits());
        Ok(self.report)
    }
}

/// Reads answers, then the log, and holds the one against the other.
fn look(oracle: &mut Oracle, disk: &MemStorage, producers: &mut [Producer]) -> anyhow::Result<()> {
    for producer in &mut *producers {
        producer.listen()?;
    }
    let settled = producers.iter().map(|producer| producer.told_sequence).max().unwrap_or(0);
    oracle.read(disk, settled)?;
    oracle.check(producers)
}

/// What others are told of the log's end, in questions and metrics, is where it ends.
fn check_published(machines: &Machines, events: u64) -> anyhow::Result<()> {
    let context = &machines.context;
    let published = context.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let last = context.tail.last();
    ensure!(published.frame == last, "the last durable frame is {last}, published is {}", published.frame);
    let control = recovery::control_at(&mut context.reader(), None, last)?;
    let told = (published.last_sequence, published.cut, published.cut_sequence, published.batch_id, &published.counts);
    let logged = (events, control.cut, control.cut_sequence, control.batch_id, &control.counts);
    ensure!(told == logged, "published is {told:?}, and the log says {logged:?}");
    Ok(())
}

/// Whoever an anchor waits for has come to it, since everybody came as far as possible: else the log would grow for good.
fn check_anchor(machines: &Machines) -> anyhow::Result<()> {
    let context = &machines.context;
    let control = recovery::control_at(&mut context.reader(), None, context.tail.last())?;
    let Some(asked) = &control.asked_anchor else { return Ok(()) };
    let facts = context.progress.facts();
    let left = control.detached.iter().filter(|(name, _)| !facts.quarantined.contains_key(*name));
    for (name, detached) in left.clone() {
        let saved = facts.saved.get(name).map(|meta| meta.cut);
        ensure!(
            saved >= Some(detached.at),
            "the anchor at cut {} waits for {name}, which was detached at cut {} and saved {saved:?}",
            asked.cut,
            detached.at
        );
    }
    let there = control.plan.aggregators.iter().filter(|(name, _)| !facts.quarantined.contains_key(*name));
    let there: BTreeMap<_, _> = there.chain(left.map(|(name, detached)| (name, &detached.attached))).collect();
    for name in asked.expected.iter().filter(|name| there.get(name).is_some_and(|one| one.attached_at < asked.cut)) {
        let pinned = facts.pinned.get(name).map(|(cut, ..)| *cut);
        ensure!(
            pinned == Some(asked.cut),
            "the anchor at cut {} waits for {name}, which saved that of {pinned:?}",
            asked.cut
        );
    }
    Ok(())
}

fn digest(disk: &MemStorage, chance: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (disk.operations(), chance).hash(&mut hasher);
    for name in disk.names() {
        (disk.contents(&name), name).hash(&mut hasher);
    }
    hasher.finish()
}

/// A configuration in which everything happens often.
pub(crate) fn config(random: &mut Random) -> anyhow::Result<Config> {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let environment = vec![
        set("TALLY_DATA_DIR", "/simulated"),
        set("TALLY_PLUGINS_DIR", "/simulated"),
        set("TALLY_UNIX_PATH", "/simulated.sock"),
    ];
    let mut config = Sources { environment, ..Sources::default() }.load()?.config;
    config.data_dir = PathBuf::from("/simulated");
    config.log.segment_bytes = 8192 << random.below(3);
    config.log.retain_bytes = random.below(4) * 8192;
    config.log.retain_age = Duration::from_secs(random.below(3) * 3600 * 24 * 365);
    config.log.tail_bytes = 1 << (8 + random.below(12));
    config.log.durability = match random.below(8) {
        0 => Durability::Interval(Duration::from_millis(1 + random.below(500))),
        1 => Durability::Os,
        _ => Durability::Fsync,
    };
    config.flush.events = 5 + random.below(100);
    config.flush.interval = Duration::from_millis(50 + random.below(3000));
    config.queue.max_bytes = 1 << (12 + random.below(5));
    // More than really passes in a world, and less than what its wall clock jumps.
    config.dedupe.window = Duration::from_secs(10 * 60);
    config.analytics.max_batches = 1 + random.below(20);
    config.limits.rejected_bytes = 0;
    config.limits.batch_rows = 1 + usize::try_from(random.below(40))?;
    Ok(config)
}
