//! A data directory under torture: what runs on it, what was sent to it, and the check of everything against the oracle.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::books::{Answers, Books, Lane, Seen};
use super::life::{Life, Started};
use super::load::Load;
use super::random::Random;
use super::records::Records;
use crate::wire::{self, Lines};
use crate::{Work, component, now, plugin, tally};

/// What a site is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// `log.durability`.
    pub durability: &'static str,
    /// `log.retain_bytes`.
    pub retain: &'static str,
    /// `flush.interval`.
    pub flush_interval: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self { durability: "fsync", retain: "1MiB", flush_interval: "150ms" }
    }
}

/// See the module.
pub struct Site {
    /// Its folder.
    pub work: Work,
    /// Its producers.
    pub lanes: Arc<Vec<Lane>>,
    /// What must be there.
    pub books: Books,
    /// Its analytics files.
    pub records: Records,
    builds: [Vec<u8>; 2],
    build: usize,
    probe: Vec<u8>,
    seeds: Random,
    shape: Shape,
}

impl Site {
    /// A new one, with a daemon configured but not started.
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"), shape, seed)
    }

    /// The same in a folder that was made for it.
    pub fn in_folder(folder: tempfile::TempDir, shape: Shape, seed: u64) -> Self {
        let probe = component("TALLY_FIXTURES_DIR", "fixtures", "probe");
        let actions = plugin("video-actions");
        let work = Work::in_folder(folder, &[actions.clone(), plugin("homepage-fetch"), probe.clone()]);
        work.configure(&configuration(shape));
        let read = |path: &Path| std::fs::read(path).expect("a component");
        let other = component("TALLY_FIXTURES_DIR", "fixtures", "video-actions-alt");
        Self {
            builds: [read(&actions), read(&other)],
            build: 0,
            probe: read(&probe),
            work,
            lanes: Arc::new(Books::lanes()),
            books: Books::default(),
            records: Records::default(),
            seeds: Random::new(seed),
            shape,
        }
    }

    /// Another one that has been through the same, as it stands on the disk.
    pub fn copy(&self) -> Self {
        let copy = self.fresh_copy();
        copy_folder(&self.data(), &copy.data());
        Self { lanes: Arc::new(self.lanes.to_vec()), books: self.books.clone(), records: self.records.clone(), ..copy }
    }

    /// A new one that need not compile the plugins anew.
    pub fn fresh_copy(&self) -> Self {
        let copy = Self::new(self.shape, self.seeds.clone().number());
        copy_folder(&self.data().join("cache"), &copy.data().join("cache"));
        copy
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.work.path("data")
    }

    /// The command that runs its daemon.
    pub fn command(&self) -> Command {
        let mut command = tally();
        command.args(self.work.run_arguments("")).arg("--config").arg(self.work.path("tally.toml"));
        command
    }

    /// Starts its daemon.
    pub fn spawn(&self) -> Life {
        self.spawn_as(self.command())
    }

    /// Starts its daemon by this command.
    pub fn spawn_as(&self, command: Command) -> Life {
        Life::start(command, &self.work.path("log"))
    }

    /// Starts its daemon and insists that it becomes ready.
    pub fn start(&self) -> Life {
        self.start_as(self.command())
    }

    /// The same by this command.
    pub fn start_as(&self, command: Command) -> Life {
        let mut life = self.spawn_as(command);
        match life.wait_ready() {
            Started::Ready => life,
            Started::Ended(status) => panic!("the daemon does not start: {status}\n{}", self.tail_of_log()),
        }
    }

    /// Lets all producers send.
    pub fn load(&mut self, life: &Life) -> Load {
        Load::start(&self.lanes, &life.doors(), self.seeds.number(), false)
    }

    /// Lets those producers send that know by themselves where to go on.
    pub fn load_unchecked(&mut self, life: &Life) -> Load {
        Load::start(&self.lanes, &life.doors(), self.seeds.number(), true)
    }

    /// Compares everything that the daemon answers, and its analytics files, with the books. Nobody may be sending.
    pub fn check(&mut self, life: &Life) -> Seen {
        let named = self.lanes.iter().filter(|lane| lane.kind.is_named());
        let resumes = named.map(|lane| (lane.number, self.resume_of(life, lane))).collect();
        let status = self.settled_status();
        let sequence = status["sequence"].as_u64().expect("a sequence");
        let question =
            |name: &str| self.ask(&format!("/v1/aggregators/{name}?rows=1000&min_sequence={sequence}&wait=30s"));
        let (actions, homepage) = (question("video-actions"), question("homepage-fetch"));
        let answers = Answers { status, actions, homepage, resumes };
        let seen = self.books.check(&self.lanes, &answers);
        self.records.check(&self.data(), false);
        seen
    }

    fn resume_of(&self, life: &Life, lane: &Lane) -> u64 {
        let hello = format!("{{\"tally\":\"ack\",\"producer\":\"{}\"}}", lane.name());
        let answer = Lines::begin(wire::tcp(life.door("tcp")), &hello).answer();
        answer["resume"].as_u64().unwrap_or_else(|| panic!("no place to resume: {answer}"))
    }

    /// The status once nothing is on its way any more: producers that broke off may have left lines in the queue.
    fn settled_status(&self) -> Value {
        let settled = |status: &Value| {
            (status["queue"]["chunks"].clone(), status["frame"].clone(), status["connections"]["now"].clone())
        };
        let until = now() + super::life::PATIENCE;
        let mut before = Value::Null;
        loop {
            let status = self.ask("/v1/status");
            let idle = status["queue"]["chunks"] == 0 && status["connections"]["now"] == 0;
            if idle && settled(&before) == settled(&status) {
                return status;
            }
            assert!(now() < until, "it does not come to rest: {status}");
            before = status;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// GET on the socket for questions, insisting on 200.
    pub fn ask(&self, path: &str) -> Value {
        let reply = self.work.get(path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    /// Proves everything from the log, with no daemon running.
    pub fn verify(&mut self) {
        self.records.check(&self.data(), true);
        self.work.verified(&[]);
    }

    /// Lets the load finish, checks, stops cleanly and proves everything: how a site ends.
    pub fn end(mut self, life: Life) -> u64 {
        self.lanes_done(life);
        self.books.accepted()
    }

    /// The same for one that is still needed.
    pub fn lanes_done(&mut self, life: Life) {
        let load = self.load(&life);
        std::thread::sleep(Duration::from_millis(50));
        load.finish();
        self.check(&life);
        life.stop();
        self.verify();
        assert_eq!(self.records.last_sequence(), self.books.accepted(), "after a clean end everything is in a record");
    }

    /// Puts the other build of a plugin in.
    pub fn swap(&mut self) {
        self.build = 1 - self.build;
        self.work.put_plugin("video-actions", &self.builds[self.build]);
    }

    /// Has the probe save its state under another version from the next SIGHUP or start on.
    pub fn set_probe_state_version(&self, version: u64) {
        let settings = format!("settings = {{ state_version = \"{version}\" }}");
        let probe = format!("[[aggregator]]\nname = \"probe\"\nplugin = \"probe\"\n{settings}\n");
        self.work.configure(&(configuration(self.shape) + &probe));
    }

    /// Takes a plugin away, or puts it back.
    pub fn toggle_probe(&self) {
        let path = self.work.path("plugins/probe.wasm");
        match path.exists() {
            true => std::fs::remove_file(path).expect("removing a plugin"),
            false => self.work.put_plugin("probe", &self.probe),
        }
    }

    /// Puts half a plugin in, as a careless operator would.
    pub fn break_plugin(&self) {
        self.work.put_plugin("video-actions", &self.builds[0][..self.builds[0].len() / 2]);
    }

    /// The last lines of what was logged.
    pub fn tail_of_log(&self) -> String {
        let log = self.work.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

fn configuration(shape: Shape) -> String {
    let Shape { durability, retain, flush_interval } = shape;
    format!(
        "[tcp]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[limits]\nline_bytes = \"4KiB\"\n\
         rejected_bytes = \"256KiB\"\n[queue]\nmax_bytes = \"1MiB\"\n\
         [log]\nsegment_bytes = \"640KiB\"\nretain_bytes = \"{retain}\"\ndurability = \"{durability}\"\n\
         [flush]\nevents = 1500\ninterval = \"{flush_interval}\"\n[analytics]\nmax_batches = 40\ntable_rows = 10\n\
         [query]\nmax_staleness = \"0ms\"\n[shutdown]\ngrace = \"30s\"\n"
    )
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_folder(&path, &to),
            false => drop(std::fs::copy(&path, &to).expect("copying a file")),
        }
    }
}
