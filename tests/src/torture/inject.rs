//! Faults of single system calls (`strace`): an error, a full disk or SIGKILL at the n-th write, sync, rename, removal or opening of
//! one kind of file, wherever that falls: at the start, under load, at the roll of a segment, in a flush, in a commit of the
//! state store. Whatever the daemon does then, it says why, acknowledges nothing that is not durable, and the next start is whole.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::life::{Life, Started};
use super::random::{Random, mix};
use super::report::Report;
use super::site::{Shape, Site};
use crate::{now, tally};

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Error(&'static str),
    Kill,
}
use Effect::{Error, Kill};

/// Which files' calls count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Segments of the log.
    Log,
    /// Files prepared to be one.
    Spares,
    /// The state store.
    State,
    /// Analytics files.
    Records,
    /// Whatever it is.
    Any,
}
use Target::{Any, Log, Records, Spares, State};

/// One kind of fault, and how many calls of its kind there are about to choose from.
#[derive(Clone, Copy, Debug)]
struct Kind {
    call: &'static str,
    effect: Effect,
    target: Target,
    /// The calls of one thread are counted from 1 to this.
    calls: u64,
    /// What the daemon must do; none where it depends on which call it was.
    must: Option<Must>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// End by itself, saying why.
    End,
    /// Go on by itself.
    GoOn,
}

const fn kind(call: &'static str, effect: Effect, target: Target, calls: u64, must: Option<Must>) -> Kind {
    Kind { call, effect, target, calls, must }
}

const END: Option<Must> = Some(Must::End);
const GO_ON: Option<Must> = Some(Must::GoOn);

const KINDS: &[Kind] = &[
    kind("fdatasync", Error("EIO"), Log, 40, END),
    kind("fdatasync", Error("EIO"), State, 8, END),
    kind("fdatasync", Error("EIO"), Records, 4, END),
    kind("fdatasync", Error("EIO"), Spares, 3, None),
    kind("pwrite", Error("EIO"), Log, 40, END),
    kind("pwrite", Error("EIO"), State, 30, END),
    kind("pwrite", Error("EIO"), Records, 4, END),
    kind("pwrite", Error("EIO"), Spares, 3, None),
    kind("pwrite", Error("ENOSPC"), Log, 40, END),
    kind("pwrite", Error("ENOSPC"), State, 30, GO_ON),
    kind("pwrite", Error("ENOSPC"), Records, 4, GO_ON),
    kind("pwrite", Error("ENOSPC"), Spares, 3, GO_ON),
    kind("fallocate", Error("ENOSPC"), Spares, 2, GO_ON),
    kind("fsync", Error("EIO"), Any, 6, None),
    kind("rename", Error("EIO"), Any, 3, None),
    kind("unlink", Error("EIO"), Any, 2, None),
    kind("openat", Error("EIO"), Log, 4, None),
    kind("openat", Error("EIO"), State, 1, END),
    kind("openat", Error("EIO"), Records, 1, END),
    kind("ftruncate", Error("ENOSPC"), State, 1, None),
    kind("pwrite", Kill, Log, 60, None),
    kind("fdatasync", Kill, Log, 60, None),
    kind("pwrite", Kill, State, 40, None),
    kind("fdatasync", Kill, State, 12, None),
    kind("pwrite", Kill, Records, 6, None),
    kind("fdatasync", Kill, Records, 6, None),
    kind("pwrite", Kill, Spares, 3, None),
    kind("fsync", Kill, Any, 6, None),
    kind("rename", Kill, Any, 3, None),
    kind("unlink", Kill, Any, 2, None),
];

/// Tries every kind so many times; twice as many on data directories that are there already as on new ones.
pub fn run(each: u64, jobs: u64, seed: u64, only: &str, report: &Report) {
    if Command::new("strace").arg("-V").output().is_err() {
        return report.missing("strace", "strace is not installed (`.ci/run packages` does that)");
    }
    let Some(template) = report.attempt("a site to copy", || template(seed)) else { return };
    let kinds: Vec<Kind> = KINDS.iter().filter(|kind| kind.name().contains(only)).copied().collect();
    let cases: Vec<(Kind, u64)> = (0..each).flat_map(|turn| kinds.iter().map(move |kind| (*kind, turn))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((kind, turn)) = cases.get(next.fetch_add(1, SeqCst)) {
                    one_case(*kind, *turn, seed, &template, report);
                }
            });
        }
    });
    let names: Vec<String> = kinds.iter().map(Kind::name).collect();
    report.must_have_reached(&names.iter().map(String::as_str).collect::<Vec<_>>());
}

/// A data directory of some size, left behind by SIGKILL.
fn template(seed: u64) -> Site {
    let mut site = Site::new(Shape::default(), seed);
    let mut life = site.start();
    let load = site.load(&life);
    std::thread::sleep(Duration::from_millis(700));
    load.finish();
    site.check(&life);
    life.kill();
    site
}

impl Kind {
    fn name(&self) -> String {
        let Kind { call, target, .. } = self;
        let target = match target {
            Log => " of a log segment",
            Spares => " of a spare segment",
            State => " of the state store",
            Records => " of an analytics file",
            Any => "",
        };
        match self.effect {
            Error(error) => format!("{call}{target} fails with {error}"),
            Kill => format!("{call}{target} meets SIGKILL"),
        }
    }

    /// The command that runs the daemon of a site with this fault at call number `when` of each thread.
    fn command(&self, site: &Site, when: u64, trace: &Path) -> Command {
        let data = site.data();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qqq", "-y", "-s", "24", "-e", "signal=none", "-o"]).arg(trace);
        let paths: Vec<String> = match self.target {
            Log => (1..60).map(|n| format!("wal/wal_{n:010}.seg")).collect(),
            Spares => (1..60).map(|n| format!("wal/spare_{n:010}.tmp")).collect(),
            State => vec!["state.redb".into(), "state.redb.new".into()],
            Records => (1..9).map(|n| format!("analytics_{n:05}.log")).collect(),
            Any => Vec::new(),
        };
        paths.iter().for_each(|path| {
            strace.arg("-P").arg(data.join(path));
        });
        match self.call {
            // A segment is made on the spot only where none could be made ahead.
            "fallocate" => strace.args(["-e", "trace=fallocate,fsync", "-e", "inject=fsync:error=EIO"]),
            "fdatasync" => strace.args(["-e", "trace=fdatasync,pwrite64,pwritev"]),
            _ => strace.arg("-e").arg(format!("trace={}", self.system_calls())),
        };
        let effect = match self.effect {
            Error(error) => format!("error={error}"),
            Kill => "signal=SIGKILL".to_owned(),
        };
        strace.arg("-e").arg(format!("inject={}:{effect}:when={when}", self.system_calls()));
        let daemon = site.command();
        strace.arg(tally().get_program()).args(daemon.get_args());
        strace
    }

    /// As the system names them. Each is counted for itself.
    fn system_calls(&self) -> &'static str {
        match self.call {
            "pwrite" => "pwrite64,pwritev",
            call => call,
        }
    }

    /// A sync that failed in the middle of the log, and was not executed: the disk never saw what was to be synced.
    fn loses_a_frame(&self) -> bool {
        self.call == "fdatasync" && self.target == Log && self.effect != Kill
    }
}

/// Takes away the frame that was written right before the sync that failed, as a disk would. Nothing in it may have been acknowledged.
fn lose_unsynced(data: &Path, trace: &Path) {
    let trace = std::fs::read_to_string(trace).expect("the trace");
    let mut written = None;
    for line in trace.lines() {
        if line.contains("fdatasync") && line.ends_with("(INJECTED)") {
            break;
        }
        // 4711 pwrite64(9</tmp/x/data/wal/wal_0000000004.seg>, "\0"..., 4096, 8192) = 4096
        // 4711 pwritev(9</…>, [{iov_base="\0"..., iov_len=4096}, {iov_base="\1"..., iov_len=32768}], 2, 8192) = 36864
        let Some((_, call)) = line.split_once("pwrite64(").or(line.split_once("pwritev(")) else { continue };
        let segment = call.split(['<', '>']).nth(1).and_then(|path| path.rsplit('/').next()).expect("a path");
        let end = call.split_once(") = ").or(call.split_once(" <unfinished")).expect("the end of a call").0;
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let (rest, offset) = end.rsplit_once(", ").expect("an offset");
        let length = if call.contains("iov_len=") {
            rest.split("iov_len=").skip(1).map(|part| number(part.split_once('}').expect("a length").0)).sum()
        } else {
            number(rest.rsplit_once(", ").expect("a length").1)
        };
        let offset = number(offset);
        written = Some((segment.to_owned(), offset..offset + length));
    }
    let (segment, written) = written.expect("a frame is written before it is synced");
    let path = data.join("wal").join(segment);
    // It was written in whole blocks, of which the first may begin with frames from before.
    let lost = last_frame(&std::fs::read(&path).expect("the segment"));
    assert!(written.contains(&(lost.end - 1)), "{written:?} was written last, but the last frame is at {lost:?}");
    let file = std::fs::File::options().write(true).open(path).expect("the segment");
    file.write_all_at(&vec![0; (lost.end - lost.start) as usize], lost.start).expect("taking the frame away");
}

/// Where the last frame of a segment is.
fn last_frame(segment: &[u8]) -> Range<u64> {
    let mut last = 4096..4096;
    loop {
        let at = last.end as usize;
        if segment.get(at..at + 4) != Some(b"\xF5TF\xF8") {
            return last;
        }
        let body = u32::from_le_bytes(segment[at + 4..at + 8].try_into().expect("four bytes"));
        last = last.end..last.end + (40 + u64::from(body) + 4).next_multiple_of(8);
    }
}

fn one_case(kind: Kind, turn: u64, seed: u64, template: &Site, report: &Report) {
    let name = kind.name();
    let mut random = Random::new(mix(seed ^ turn << 20) ^ mix(name.len() as u64 * 31 + kind.calls));
    // The first time early enough to be met however slow the machine is.
    let when = if turn == 0 { 1 + kind.calls / 4 } else { 1 + random.below(kind.calls) };
    // A plugin that could not be stored does not run until somebody looks at the plugins directory again: nothing to count there.
    let may_lack_plugins = kind.target == Any && kind.effect != Kill;
    let fresh = turn % 3 == 1 && !may_lack_plugins;
    let what = format!("{name}, call {when} of a thread, {}", if fresh { "new directory" } else { "old directory" });
    let mut site = if fresh { template.fresh_copy() } else { template.copy() };
    eprintln!("{what}");
    let done = report.attempt(&what, || {
        let trace = site.work.path("trace");
        let mut life = site.spawn_as(kind.command(&site, when, &trace));
        let mut outcome = under_load(&mut site, &mut life);
        if let Outcome::Serves = outcome {
            outcome = checked(&mut site, &mut life);
        }
        let hit = injected(&kind, &trace, &outcome);
        match &outcome {
            Outcome::Serves => {}
            Outcome::Ended(code) => assert_eq!(*code, 1, "it ends with a code for errors: {}", site.tail_of_log()),
            Outcome::Killed => {}
        }
        let was_ready = life.was_ready();
        drop(life);
        let log = site.work.log();
        assert!(!log.contains("panicked"), "it panics: {}", site.tail_of_log());
        report.count(&name, u64::from(!hit.is_empty()));
        if hit.is_empty() {
            assert!(matches!(outcome, Outcome::Serves), "{outcome:?} without a fault: {}", site.tail_of_log());
            return report.count("faults that came too late to be reached", 1);
        }
        report.count(&format!("after a fault: {}", outcome.name()), 1);
        if let Outcome::Ended(_) = outcome {
            let last = log.lines().rev().take(3).collect::<String>();
            // Of a spare it says which segment was to be made of it.
            let is_named =
                last.contains("/wal_") && kind.target == Spares || hit.iter().any(|file| last.contains(file.as_str()));
            assert!(is_named, "its last words name none of {hit:?}: {}", site.tail_of_log());
        }
        if kind.loses_a_frame() {
            lose_unsynced(&site.data(), &trace);
            report.count("frames lost by a failed sync", 1);
        }
        match kind.must {
            Some(Must::End) => assert!(matches!(outcome, Outcome::Ended(_)), "it goes on: {}", site.tail_of_log()),
            // A start for which there is no room is no start.
            Some(Must::GoOn) if !was_ready => {}
            Some(Must::GoOn) => assert!(matches!(outcome, Outcome::Serves), "{outcome:?}: {}", site.tail_of_log()),
            None => {}
        }
        let life = site.start();
        site.check(&life);
        if turn.is_multiple_of(4) {
            site.lanes_done(life);
        } else {
            life.stop();
            site.records.check(&site.data(), true);
        }
    });
    if done.is_none() {
        eprintln!("{what}: its files stay in {}", site.work.keep().display());
    }
}

#[derive(Debug)]
enum Outcome {
    /// It is there, and events flow.
    Serves,
    /// It ended by itself, with this code.
    Ended(i32),
    /// The fault was its end.
    Killed,
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Outcome::Serves => "it goes on",
            Outcome::Ended(_) => "it ends and says why",
            Outcome::Killed => "killed",
        }
    }
}

/// Lets producers send until the fault has had its chance.
fn under_load(site: &mut Site, life: &mut Life) -> Outcome {
    if let Started::Ended(status) = life.wait_ready() {
        return outcome(status);
    }
    let acked = |site: &Site| site.lanes.iter().map(|lane| lane.acked()).sum::<u64>();
    let enough = acked(site) + 6000;
    let load = site.load(life);
    let until = now() + Duration::from_secs(20);
    while life.ended().is_none() && acked(site) < enough && now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    match life.ended() {
        Some(status) => {
            load.stop();
            outcome(status)
        }
        None => {
            load.finish();
            // A last flush may meet the fault.
            std::thread::sleep(Duration::from_millis(300));
            life.ended().map_or(Outcome::Serves, outcome)
        }
    }
}

/// Checks and ends a daemon that serves. The fault may still come, in a flush or a cut meanwhile.
fn checked(site: &mut Site, life: &mut Life) -> Outcome {
    let result = catch_unwind(AssertUnwindSafe(|| site.check(life)));
    if result.is_err() {
        // What was begun to be asked fails a moment before the process is gone.
        std::thread::sleep(Duration::from_millis(300));
    }
    match (life.ended(), result) {
        (Some(status), _) => outcome(status),
        (None, Ok(_)) => {
            life.kill();
            Outcome::Serves
        }
        (None, Err(panic)) => resume_unwind(panic),
    }
}

fn outcome(status: std::process::ExitStatus) -> Outcome {
    match (status.signal(), status.code()) {
        (Some(9), _) | (_, Some(137)) => Outcome::Killed,
        (_, Some(code)) => Outcome::Ended(code),
        _ => panic!("it ended with {status}"),
    }
}

/// The names of the files whose calls were made to fail; of a kill only that it came.
fn injected(kind: &Kind, trace: &Path, outcome: &Outcome) -> BTreeSet<String> {
    let trace = std::fs::read_to_string(trace).expect("the trace");
    let mut files = BTreeSet::new();
    for line in trace.lines().filter(|line| line.ends_with("(INJECTED)") && line.contains(kind.call)) {
        let paths = line.split(['<', '>', '"']).filter(|part| part.starts_with('/'));
        files.extend(paths.filter_map(|path| path.rsplit('/').next().map(str::to_owned)));
    }
    if kind.effect == Kill && matches!(outcome, Outcome::Killed) {
        files.insert("SIGKILL".to_owned());
    }
    files
}
