//! One life of the daemon: the machines that its threads would run, stepped one by one in whatever order chance has it. Knows nothing of
//! clients, faults or what must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, mpsc};

use anyhow::{Context as _, ensure};
use tally_aggregate::Attached;
use tally_daemon::aggregator::line::Saved;
use tally_daemon::aggregator::thread::WAITING_DELTAS;
use tally_daemon::aggregator::{Answer, Follower, Keeper, Moved, Start, TotalMessage};
use tally_daemon::config::Begins;
use tally_daemon::context::{Context, Token};
use tally_daemon::feed::Position;
use tally_daemon::life::{self, Beginning, Life};
use tally_daemon::parse::{self, Intake, Parser};
use tally_daemon::plugins::Retired;
use tally_daemon::plugins::planner::{Failed, NewLine, Planner, Proposal, Version, Wanted};
use tally_daemon::records::{RecordWriter, Wrote};
use tally_daemon::recovery;
use tally_daemon::sequencer::{Sequencer, Settled};
use tally_event::table::Question;
use tally_ingest::{Closed, Counters, Producers};
use tally_testkit::MemStorage;
use tokio::sync::oneshot;

use crate::random::Random;

/// How many parsers there are.
const PARSERS: usize = 3;

/// A plugin file as it lies in the plugins directory.
#[derive(Clone)]
pub struct PluginFile {
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
    /// Settings of the aggregator.
    pub settings: String,
}

/// How an aggregator begins a new line.
#[derive(Clone, Copy, Debug)]
pub enum NextLine {
    /// With nothing, where it stands.
    Reset,
    /// With nothing, behind the last cut up to this time, microseconds since the Unix epoch; or, if that is said, behind the first one that
    /// the log still has.
    Rebuild(i64, bool),
    /// With what it had before its last change.
    Rollback,
}

/// See the module.
pub struct Machines {
    /// What the machines share.
    pub context: Arc<Context<MemStorage>>,
    /// How far each named stream is.
    pub producers: Arc<Producers>,
    /// What the doors count.
    pub counters: Arc<Counters>,
    sequencer: Sequencer<MemStorage>,
    /// None once it has ended.
    intake: Option<Intake>,
    disk_full: bool,
    /// Those that have not ended.
    parsers: Vec<Parser>,
    /// Jobs that they handed over and that the sequencer did not look at: one more than these, and a thread would wait.
    handed_over: usize,
    aggregators: BTreeMap<String, Aggregator>,
    records: RecordWriter<MemStorage>,
    records_ended: bool,
    planner: Planner<MemStorage>,
    retired: Retired,
    activating: Option<(Proposal, mpsc::Receiver<(Position, u64)>)>,
    /// Digests of the files that were wanted last.
    wanted: BTreeSet<String>,
    cuts: Vec<oneshot::Receiver<u64>>,
    /// Why what runs is not what was wanted last, by aggregator.
    pub failures: BTreeMap<String, String>,
    /// What `wait` and `verify` may count on.
    pub done: Done,
}

/// How often things were done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Plans that were activated.
    pub activations: u64,
    /// Lines of a state that began.
    pub lines: u64,
    /// Aggregators that went on under another state version.
    pub migrations: u64,
    /// Stored versions that were removed.
    pub removed: u64,
    /// Questions answered.
    pub answers: u64,
    /// Cuts that somebody asked for.
    pub cuts: u64,
    /// Tries to make a segment on a full disk.
    pub disk_full: u64,
    /// Flush records written.
    pub records: u64,
    /// Jobs that parsers decoded, not the sequencer.
    pub parsed_ahead: u64,
    /// Calls that several shards of an aggregator shared.
    pub shared_calls: u64,
}

struct Aggregator {
    follower: Option<Follower<MemStorage>>,
    keeper: Keeper<MemStorage>,
    inbox: VecDeque<TotalMessage>,
}

impl Machines {
    /// Recovers from what is on the disk.
    pub fn begin(beginning: Beginning<MemStorage>) -> anyhow::Result<Self> {
        let Life { context, sequencer, producers, decoding, plan, starts } = life::begin(beginning)?;
        let (intake, parsers) = parse::begin(&context.queue, decoding, PARSERS);
        let mut this = Self {
            producers,
            counters: Arc::default(),
            sequencer,
            intake: Some(intake),
            disk_full: false,
            parsers,
            handed_over: 0,
            aggregators: BTreeMap::new(),
            records: RecordWriter::new(context.clone())?,
            records_ended: false,
            retired: Retired::new(&context, &plan)?,
            planner: Planner::new(context.clone(), plan),
            activating: None,
            cuts: Vec::new(),
            wanted: BTreeSet::new(),
            failures: BTreeMap::new(),
            done: Done::default(),
            context,
        };
        this.settle()?;
        for start in starts {
            this.start(start)?;
        }
        Ok(this)
    }

    fn start(&mut self, start: Start) -> anyhow::Result<()> {
        let name = start.name.clone();
        let keeper = Keeper::new(self.context.clone(), start.clone())?;
        let mut inbox = VecDeque::new();
        let follower = match Follower::new(self.context.clone(), start) {
            Ok(follower) => Some(follower),
            Err(error) => {
                inbox.push_back(TotalMessage::Quarantine(format!("{error:#}")));
                None
            }
        };
        self.aggregators.insert(name, Aggregator { follower, keeper, inbox });
        Ok(())
    }

    /// Whether the last try to make a segment found the disk full.
    pub fn waits_for_disk(&self) -> bool {
        self.disk_full
    }

    /// Takes some step. False when the one that was chosen had nothing to do.
    pub fn step(&mut self, random: &mut Random) -> anyhow::Result<bool> {
        match random.below(10) {
            0 | 1 => {
                let any = random.below(PARSERS as u64);
                Ok(self.parse(usize::try_from(any).expect("an index")))
            }
            2 | 3 => self.decide(random),
            4 => self.activated(),
            5 => self.write_record(),
            6 | 7 => self.follow(random),
            _ => self.keep(random),
        }
    }

    /// Takes every machine as far as it comes, and calls `look` whenever the log has grown.
    pub fn run_down(
        &mut self,
        random: &mut Random,
        look: &mut impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut idle = 0;
        while idle < 4 {
            let last = self.context.tail.last();
            let mut moved = (0..PARSERS).rev().fold(false, |moved, any| moved | self.parse(any));
            moved |= self.decide(random)? | self.activated()?;
            if self.context.tail.last() > last {
                look()?;
            }
            moved |= self.write_record()?;
            let names: Vec<String> = self.aggregators.keys().cloned().collect();
            for name in names {
                moved |= self.follow_one(&name)? | self.keep_one(&name)?;
            }
            idle = if moved { 0 } else { idle + 1 };
        }
        Ok(())
    }

    /// A parser takes a job, or hands over the one that it has.
    fn parse(&mut self, which: usize) -> bool {
        let Some(parser) = self.parsers.get_mut(which) else { return false };
        let had_job = parser.has_job();
        match parser.take() {
            Ok(true) if !had_job => true,
            Ok(true) if self.handed_over < PARSERS => {
                self.handed_over += 1;
                self.done.parsed_ahead += 1;
                parser.hand_over()
            }
            Ok(_) => false,
            Err(Closed) => {
                self.parsers.swap_remove(which);
                true
            }
        }
    }

    /// The sequencer's turn: takes some of the work that is there, and settles.
    fn decide(&mut self, random: &mut Random) -> anyhow::Result<bool> {
        let Some(intake) = &mut self.intake else { return Ok(false) };
        let mut moved = false;
        let mut reserved = Settled::Done;
        if !self.disk_full {
            self.handed_over = 0;
            for _ in 0..=random.below(3) {
                let Some(work) = intake.peek().filter(|_| !self.sequencer.is_full()) else { break };
                reserved = self.sequencer.reserve(work)?;
                if reserved == Settled::DiskFull {
                    break;
                }
                let Some(work) = intake.pop() else { break };
                self.sequencer.add(work);
                moved = true;
            }
        }
        let before = self.context.tail.last();
        self.settle()?;
        if reserved == Settled::DiskFull {
            self.disk_full = true;
            self.done.disk_full += 1;
        }
        let over = !self.disk_full && self.intake.as_mut().is_some_and(Intake::is_over);
        if over && self.sequencer.finish()? == Settled::Done {
            self.intake = None;
            moved = true;
        }
        Ok(moved || self.context.tail.last() != before)
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.disk_full = self.sequencer.settle()? == Settled::DiskFull;
        self.done.disk_full += u64::from(self.disk_full);
        Ok(())
    }

    fn write_record(&mut self) -> anyhow::Result<bool> {
        if self.records_ended {
            return Ok(false);
        }
        let before = self.context.progress.facts().records_written;
        let wrote = self.records.step()?;
        self.done.records += self.context.progress.facts().records_written - before;
        self.records_ended = wrote == Wrote::Ended;
        Ok(wrote == Wrote::On || self.records_ended)
    }

    fn some_aggregator(&self, random: &mut Random) -> Option<String> {
        if self.aggregators.is_empty() {
            return None;
        }
        let any = usize::try_from(random.below(self.aggregators.len() as u64)).expect("an index");
        self.aggregators.keys().nth(any).cloned()
    }

    fn follow(&mut self, random: &mut Random) -> anyhow::Result<bool> {
        self.some_aggregator(random).map_or(Ok(false), |name| self.follow_one(&name))
    }

    fn follow_one(&mut self, name: &str) -> anyhow::Result<bool> {
        let Some(aggregator) = self.aggregators.get_mut(name) else { return Ok(false) };
        if aggregator.inbox.len() >= WAITING_DELTAS {
            return Ok(false);
        }
        let Some(follower) = &mut aggregator.follower else { return Ok(false) };
        let shared = follower.shared_calls();
        let moved = follower.step()?;
        self.done.shared_calls += follower.shared_calls().saturating_sub(shared);
        match moved {
            Moved::Waiting => return Ok(false),
            Moved::On => {}
            Moved::Cut(saved) => aggregator.inbox.push_back(TotalMessage::Cut(saved)),
            Moved::Failed(reason) => {
                aggregator.inbox.push_back(TotalMessage::Quarantine(reason));
                aggregator.follower = None;
            }
            Moved::Ended => aggregator.follower = None,
        }
        Ok(true)
    }

    fn keep(&mut self, random: &mut Random) -> anyhow::Result<bool> {
        self.some_aggregator(random).map_or(Ok(false), |name| self.keep_one(&name))
    }

    fn keep_one(&mut self, name: &str) -> anyhow::Result<bool> {
        let Some(aggregator) = self.aggregators.get_mut(name) else { return Ok(false) };
        if aggregator.keeper.waiting().is_some() {
            aggregator.keeper.go_on()?;
            if aggregator.keeper.waiting().is_some() {
                return Ok(false);
            }
        }
        if let Some(message) = aggregator.inbox.pop_front() {
            if !aggregator.keeper.take(message)? {
                aggregator.follower = None;
                aggregator.inbox.clear();
            }
            return Ok(true);
        }
        if aggregator.follower.is_none() {
            self.aggregators.remove(name);
            if self.intake.is_none() {
                self.context.progress.update(|facts| facts.ended.insert(name.to_owned()));
            }
            return Ok(true);
        }
        Ok(false)
    }

    // ------------------------------------------------------------------------------------------- what is asked of it

    /// Wants these aggregators to run, as a look at the plugins directory would. False when that has to wait.
    pub fn reconcile(&mut self, files: &BTreeMap<String, PluginFile>) -> anyhow::Result<bool> {
        if self.activating.is_some() {
            return Ok(false);
        }
        let mut wanted = BTreeMap::new();
        self.wanted = files.values().map(|file| tally_plugin::Digest::of(&file.bytes).to_string()).collect();
        for (name, file) in files {
            // All of them are sound, so it is the disk. The daemon would say that this version does not run; as long as it is so, the log
            // may let go of what an aggregator needs that is out of the plan.
            match self.context.registry.keep(&file.bytes) {
                Ok(_) => {}
                Err(error) if is_without_space(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
            wanted.insert(name.clone(), self.wanted(name, file));
        }
        let no_room =
            |wanted: &Wanted| wanted.version.as_ref().is_err_and(|failed| failed.reason.contains("(injected)"));
        if wanted.values().any(no_room) {
            return Ok(false);
        }
        if self.planner.awaited(&wanted).iter().any(|name| self.aggregators.contains_key(name)) {
            return Ok(false);
        }
        if self.planner.awaits_records() {
            return Ok(false);
        }
        let proposal = self.planner.propose(&wanted)?;
        self.failures.clone_from(&proposal.failures);
        // As above.
        if let Some(reason) = self.failures.values().find(|reason| reason.contains("(injected)")) {
            ensure!(reason.contains("no space left"), "a version could not be tried: {reason}");
            self.planner.forget_wishes();
            return Ok(false);
        }
        if self.planner.beginning().any(|name| proposal.failures.contains_key(name) || !files.contains_key(name)) {
            self.planner.forget_wishes();
            return Ok(false);
        }
        if let Some((activation, durable)) = self.planner.activation(&proposal)? {
            self.context.queue.push_control(Token::Activate(Box::new(activation)));
            self.activating = Some((proposal, durable));
        }
        Ok(self.planner.beginning().next().is_none())
    }

    /// Has an aggregator begin a new line: behind the last cut until then, or where it stands; with nothing and the version of this file, or
    /// with the version and the state before its last change. Gives whether it can; what follows is done by [`Machines::reconcile`].
    pub fn begin_line(&mut self, name: &str, file: &PluginFile, line: NextLine) -> anyhow::Result<bool> {
        if self.activating.is_some() || !self.planner.plan().aggregators.contains_key(name) {
            return Ok(false);
        }
        let mut wanted = self.wanted(name, file);
        let new = match line {
            NextLine::Reset => NewLine { behind: None, with: None },
            NextLine::Rebuild(since, or_later) => {
                let mut reader = self.context.reader();
                let begins = recovery::last_cut_until(&mut reader, since, self.context.tail.last())?;
                if begins.position.cut > 0 && !or_later {
                    return Ok(false);
                }
                NewLine { behind: Some(begins.position), with: None }
            }
            NextLine::Rollback => {
                let snapshot = self.context.store.snapshot()?;
                let Some(previous) = Saved::previous(&snapshot, name)? else { return Ok(false) };
                let (position, from) = (previous.meta.position(), previous.meta.attached.line.since);
                if position.frame.max(1) < self.context.reader().first_frame() {
                    return Ok(false);
                }
                let (digest, settings) =
                    (previous.meta.attached.digest.clone(), previous.meta.attached.settings.clone());
                let Ok(configured) = self.context.registry.configured(&digest, &settings) else { return Ok(false) };
                wanted = Wanted { settings, version: Ok(Version { digest, configured }), ..wanted };
                NewLine { behind: Some(position), with: Some((previous.copy(&snapshot)?, Some(from))) }
            }
        };
        match self.planner.begin_line(name, wanted, new) {
            Ok(()) => Ok(true),
            // The disk is full.
            Err(error) if error.to_string().contains("(injected)") => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn wanted(&self, name: &str, file: &PluginFile) -> Wanted {
        let registry = &self.context.registry;
        let configured =
            registry.keep(&file.bytes).and_then(|component| registry.configure(&component, &file.settings));
        let digest = tally_plugin::Digest::of(&file.bytes).to_string();
        let version = match configured {
            Ok(configured) => Ok(Version { digest, configured }),
            Err(error) => Err(Failed { digest: Some(digest), reason: format!("{error:#}") }),
        };
        let shards = self.context.config().shards(name);
        Wanted { plugin: name.to_owned(), settings: file.settings.clone(), shards, start: Begins::Now, version }
    }

    fn activated(&mut self) -> anyhow::Result<bool> {
        let Some((_, durable)) = &self.activating else { return Ok(false) };
        let Ok((position, sequence)) = durable.try_recv() else { return Ok(false) };
        let (proposal, _) = self.activating.take().expect("looked at above");
        self.done.activations += 1;
        let before = self.planner.plan().clone();
        let starts = self.planner.activated(proposal, position, sequence)?;
        let migrated = self.planner.plan().aggregators.iter().filter(|(name, now)| {
            before.aggregators.get(*name).is_some_and(|before| before.state_version != now.state_version)
        });
        self.done.migrations += migrated.count() as u64;
        let begun = |attached: &&Attached| !attached.line.is_first() && attached.line.since == position.cut;
        self.done.lines += self.planner.plan().aggregators.values().filter(begun).count() as u64;
        self.retired.replaced(&before, self.planner.plan(), position.frame);
        for start in starts {
            self.start(start)?;
        }
        self.clear_away();
        Ok(true)
    }

    /// Whether an aggregator is not in the plan, and does not get there by itself.
    pub fn leaves_out(&self, name: &str) -> bool {
        self.activating.is_none() && !self.planner.plan().aggregators.contains_key(name)
    }

    /// Removes stored versions that nothing names any more; where that fails they stay until the next time.
    fn clear_away(&mut self) {
        let stored = |this: &Self| this.context.registry.stored().map_or(0, |stored| stored.len() as u64);
        let before = stored(self);
        let running = self.planner.plan().aggregators.values().map(|running| running.digest.clone());
        let in_use = running.chain(self.wanted.iter().cloned()).chain(self.planner.versions_beginning()).collect();
        if self.retired.clear_away(&self.context, in_use).is_ok() {
            self.done.removed += before.saturating_sub(stored(self));
        }
    }

    /// Whether an activation is under way.
    pub fn is_activating(&self) -> bool {
        self.activating.is_some()
    }

    /// Asks for a cut.
    pub fn cut(&mut self, flush: bool) {
        let (done, cut) = oneshot::channel();
        self.context.queue.push_control(Token::Cut { reason: "question", flush, done });
        self.cuts.push(cut);
        self.done.cuts += 1;
    }

    /// Asks an aggregator, and waits for its answer; none where it doesn't run.
    pub fn ask(&mut self, name: &str) -> anyhow::Result<Option<Answer>> {
        let Some(aggregator) = self.aggregators.get_mut(name) else { return Ok(None) };
        let (reply, mut answer) = oneshot::channel();
        if !aggregator.keeper.works() {
            return Ok(None);
        }
        aggregator.keeper.take(TotalMessage::Ask(Question::default(), reply))?;
        let answer = answer.try_recv().context("a question was not answered")?;
        self.done.answers += 1;
        Ok(Some(answer.map_err(|error| anyhow::anyhow!("aggregator {name} does not report: {error}"))?))
    }

    /// The aggregators that run.
    pub fn running(&self) -> Vec<String> {
        self.aggregators.keys().cloned().collect()
    }

    /// Stops as SIGTERM would: a last cut, then everybody behind it, then the closing frame.
    pub fn stop(mut self, random: &mut Random, look: &mut impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Done> {
        self.cut(true);
        self.run_down(random, look)?;
        self.context.queue.close();
        self.run_down(random, look)?;
        ensure!(!self.disk_full, "the disk is full at the end of a life");
        ensure!(self.intake.is_none(), "the sequencer did not come to an end");
        ensure!(self.aggregators.is_empty(), "{:?} did not come to an end", self.running());
        ensure!(
            self.records_ended,
            "the record writer did not come to an end: {:?}, {:?}",
            self.records.step(),
            self.context.progress.facts()
        );
        for mut cut in self.cuts.drain(..) {
            ensure!(cut.try_recv().is_ok(), "a cut that was asked for was never taken");
        }
        Ok(self.done)
    }
}

fn is_without_space(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| kind == std::io::ErrorKind::StorageFull)
}
