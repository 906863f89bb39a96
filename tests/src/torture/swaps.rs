//! Plugin versions exchanged back to back under load: most are good, some bad in every way, some have another state version. After each
//! the daemon says what runs, what is wanted and why they differ; SIGKILL comes in between, and at the end every event was counted once.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::life::Life;
use super::load::Load;
use super::random::Random;
use super::report::Report;
use super::site::{Shape, Site};
use super::versions::{Version, Versions};
use crate::{wait_until, wire};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Exchanges in all.
    pub swaps: u64,
    /// What decides everything that is random.
    pub seed: u64,
}

/// One of so many versions is bad.
const BAD: u64 = 10;
/// One of so many has another state version than the one before.
const OTHER_STATE: u64 = 20;
/// About so many SIGKILLs, spread over the first quarter of the exchanges; memory is compared over the second half.
const KILLS: u64 = 4;
/// So many exchanges show whether memory grows with them.
const ENOUGH: u64 = 500;
/// What memory may grow by between the middle and the end, MiB: what is counted grows too.
const GROWTH: u64 = 32;

/// Who is exchanged. The state version of the second is a setting.
const NAMES: [&str; 2] = ["video-actions", "probe"];

/// Runs it.
pub fn run(plan: Plan, report: &Report) {
    let site = Site::new(Shape::default(), plan.seed);
    let (random, versions) = (Random::new(plan.seed), Versions::of_what_is_built());
    let what = format!("swaps (seed {})", plan.seed);
    let mut swaps = Swaps { site, random, versions, report, good: Default::default(), state_version: 1 };
    if report.attempt(&what, || swaps.all(plan.swaps)).is_none() {
        eprintln!("{what}: its files stay in {}; see `log` there", swaps.site.work.keep().display());
        return;
    }
    let logged = swaps.site.work.log();
    if logged.contains("panicked") {
        report.violation(format!("{what}: the daemon panicked: {}", swaps.site.tail_of_log()));
    }
    if plan.swaps >= 40 {
        report.must_have_reached(&["good versions", "other state versions", "kills between swaps", "versions removed"]);
    }
}

struct Swaps<'a> {
    site: Site,
    random: Random,
    versions: Versions,
    report: &'a Report,
    /// Digests of the last good versions.
    good: [String; 2],
    state_version: u64,
}

impl Swaps<'_> {
    fn all(&mut self, swaps: u64) {
        let mut life = self.site.start();
        self.good = NAMES.map(|name| listed(&self.site, name)["running_digest"].as_str().expect("a digest").to_owned());
        let mut load = self.site.load(&life);
        // Something is saved that a bad version can fail to load.
        wait_until("state is saved", || self.site.ask("/v1/status")["records_written"].as_u64() > Some(2));
        let between_kills = (swaps / 4 / KILLS).max(1);
        let mut memory = 0;
        for number in 1..=swaps {
            if number % OTHER_STATE == 5 {
                self.other_state(&life);
            } else if number % BAD == 0 {
                self.bad((number / BAD - 1) as usize);
            } else {
                self.good(number as usize % 2);
            }
            if number % between_kills == 0 && number <= swaps / 4 {
                (life, load) = self.kill(life, load);
            }
            if number == swaps / 2 {
                memory = resident_mib(&life);
            }
            if number % 50 == 0 {
                eprintln!("{number} swaps, {} MiB", resident_mib(&life));
            }
        }
        self.good(0);
        let at_the_end = resident_mib(&life);
        self.report.count("MiB of memory behind half of them", memory);
        self.report.count("MiB of memory at the end", at_the_end);
        assert!(swaps < ENOUGH || at_the_end <= memory + GROWTH, "memory grows from {memory} to {at_the_end} MiB");
        load.finish();
        self.counts_are_exact(&life);
        self.only_named_ones_are_stored();
        life.stop();
        self.site.verify();
        let life = self.site.start();
        self.counts_are_exact(&life);
        life.stop();
        self.report.count("events counted", self.site.books.accepted());
    }

    /// A version that runs from then on.
    fn good(&mut self, which: usize) {
        let version = self.versions.good(NAMES[which]);
        self.site.work.put_plugin(NAMES[which], &version.bytes);
        self.runs(which, &version);
        self.report.count("good versions", 1);
    }

    fn runs(&mut self, which: usize, version: &Version) {
        let plugin = self.reloaded(NAMES[which]);
        assert!(plugin["reason"].is_null() && plugin["state"] == "running", "{plugin}");
        assert_eq!([&plugin["wanted_digest"], &plugin["running_digest"]], [&version.digest; 2], "{plugin}");
        self.good[which].clone_from(&version.digest);
    }

    /// A version that is refused with the reason, while the one before runs on.
    fn bad(&mut self, number: usize) {
        let bad = self.versions.bad(number);
        let path = self.site.work.path(&format!("plugins/{}.wasm", NAMES[0]));
        if bad.is_in_place {
            std::fs::write(&path, &bad.version.bytes).expect("writing a part of a plugin");
        } else {
            self.site.work.put_plugin(NAMES[0], &bad.version.bytes);
        }
        let plugin = self.reloaded(NAMES[0]);
        assert_eq!(plugin["state"], "running", "{}: {plugin}", bad.name);
        assert!(plugin["reason"].as_str().is_some_and(|reason| reason.contains(bad.says)), "{}: {plugin}", bad.name);
        assert_eq!(plugin["wanted_digest"], *bad.version.digest, "{}: {plugin}", bad.name);
        assert_eq!(plugin["running_digest"], *self.good[0], "{}: {plugin}", bad.name);
        if let Some(whole) = bad.then {
            std::fs::write(&path, &whole.bytes).expect("writing all of a plugin");
            self.runs(0, &whole);
        }
        self.report.count(&format!("bad versions: {}", bad.name), 1);
    }

    /// Another state version, which loads what was saved.
    fn other_state(&mut self, life: &Life) {
        self.state_version = self.state_version % 9 + 1;
        let activated = |site: &Site| site.work.log().matches("activated").count();
        let before = activated(&self.site);
        self.site.set_probe_state_version(self.state_version);
        life.signal("HUP");
        wait_until("the other state version runs", || activated(&self.site) > before);
        let plugin = self.reloaded(NAMES[1]);
        assert!(plugin["reason"].is_null() && plugin["state"] == "running", "{plugin}");
        self.report.count("other state versions", 1);
    }

    /// SIGKILL somewhere in an exchange; what was put in last runs afterwards.
    fn kill(&mut self, mut life: Life, load: Load) -> (Life, Load) {
        let version = self.versions.good(NAMES[0]);
        self.site.work.put_plugin(NAMES[0], &version.bytes);
        std::thread::sleep(self.random.millis(50, 250));
        life.kill();
        load.stop();
        let life = self.site.start();
        self.runs(0, &version);
        self.counts_are_exact(&life);
        self.report.count("kills between swaps", 1);
        let load = self.site.load(&life);
        (life, load)
    }

    /// How a plugin is listed behind a look at the plugins directory.
    fn reloaded(&self, name: &str) -> Value {
        let admin = wire::unix(&self.site.work.path("t.sock.admin"));
        let reply = wire::request(admin, "POST /v1/plugins/reload", &[], "");
        assert_eq!(reply.status, 200, "{reply:?}");
        of(&reply.json(), name)
    }

    /// Everything is as the producers' books say, in both that were exchanged. Nobody may be sending.
    fn counts_are_exact(&mut self, life: &Life) {
        self.site.check(life);
        let sequence = self.site.ask("/v1/status")["sequence"].as_u64().expect("a sequence");
        let probe = self.site.ask(&format!("/v1/aggregators/probe?min_sequence={sequence}&wait=30s"));
        let rows: u64 = ["actions", "homepage_fetches", "others"]
            .iter()
            .map(|name| probe["summary"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {probe}")))
            .sum();
        assert_eq!(rows, self.site.books.accepted(), "rows that the probe counted: {probe}");
    }

    /// Of all versions that ever ran those are stored that the log or saved state still needs, and what is wanted now.
    fn only_named_ones_are_stored(&self) {
        // The second look comes behind what the first one cleared away.
        NAMES.iter().for_each(|name| assert!(self.reloaded(name)["reason"].is_null(), "{name}"));
        let data = self.site.data();
        let mut named: BTreeSet<String> = self.good.iter().cloned().collect();
        for segment in files(&data.join("wal"), "seg") {
            named.extend(digests(&data.join("wal").join(segment)));
        }
        named.extend(digests(&data.join("state.redb")));
        let stored = files(&data.join("plugins"), "wasm");
        let stored: Vec<_> = stored.iter().map(|name| name.trim_end_matches(".wasm").to_owned()).collect();
        let unnamed: Vec<_> = stored.iter().filter(|digest| !named.contains(*digest)).collect();
        assert!(unnamed.is_empty(), "nothing names {unnamed:?}");
        self.report.count("versions stored at the end", stored.len() as u64);
        self.report.count("versions removed", self.versions.made().saturating_sub(stored.len() as u64));
    }
}

fn listed(site: &Site, name: &str) -> Value {
    of(&site.ask("/v1/plugins"), name)
}

fn of(list: &Value, name: &str) -> Value {
    let plugins = list["plugins"].as_array().unwrap_or_else(|| panic!("no list of plugins: {list}"));
    plugins.iter().find(|plugin| plugin["name"] == name).unwrap_or_else(|| panic!("no {name}: {list}")).clone()
}

fn files(folder: &Path, ending: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name of text"));
    names.filter(|name| name.ends_with(&format!(".{ending}"))).collect()
}

/// Everything in a file that a version's digest is named by.
fn digests(path: &Path) -> Vec<String> {
    // The log may let a segment go meanwhile.
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split("\"digest\":\"").skip(1).filter_map(|rest| Some(rest.get(..64)?.to_owned())).collect()
}

fn resident_mib(life: &Life) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", life.pid())).expect("the daemon's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
}
