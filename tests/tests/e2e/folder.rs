//! The plugins directory as people and tools treat it: whatever lies in the place of a plugin, the one before serves on until a right one
//! is there, and `plugin list` says what is wanted, what runs, and why they differ.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tally_tests::torture::versions::{Version, Versions};
use tally_tests::{Daemon, Work, plugin, succeed, tally, text, wait_until};

const NAME: &str = "video-actions";

/// A daemon that runs one plugin, and events that it has to count.
struct Site {
    work: Work,
    daemon: Daemon,
    versions: Versions,
    /// Digest of what has to run.
    runs: String,
    events: PathBuf,
    sent: u64,
}

impl Site {
    fn new() -> Self {
        let work = Work::new(&[]);
        let mut versions = Versions::of_what_is_built();
        let first = versions.good(NAME);
        work.put_plugin(NAME, &first.bytes);
        let events = work.generate("events", "--events 500 --seed 3");
        let daemon = work.start("--flush-events 300");
        let mut site = Self { work, daemon, versions, runs: first.digest, events, sent: 0 };
        site.serves();
        site
    }

    fn file(&self) -> PathBuf {
        self.work.path("plugins").join(format!("{NAME}.wasm"))
    }

    /// A place in the plugins directory that nobody looks at, to prepare something.
    fn hidden(&self) -> PathBuf {
        self.work.path("plugins/.next")
    }

    /// What was prepared takes the plugin's place.
    fn put(&self) {
        fs::rename(self.hidden(), self.file()).expect("renaming");
    }

    fn reload(&self) -> bool {
        let mut reload = tally();
        reload.args(["plugin", "reload", "--to"]).arg(self.work.path("t.sock.admin"));
        let output = reload.output().expect("tally plugin reload");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", text(&output));
        output.status.success()
    }

    fn listed(&self, name: &str) -> Value {
        let list = self.work.ask(&["plugin", "list"]);
        let plugins = list["plugins"].as_array().expect("a list");
        plugins.iter().find(|plugin| plugin["name"] == name).unwrap_or_else(|| panic!("no {name}: {list}")).clone()
    }

    /// Events are counted, each once.
    fn serves(&mut self) {
        succeed(self.work.send(&["--ack"]).arg(&self.events));
        self.sent += 500;
        let query = ["query", NAME, "--min-sequence", &self.sent.to_string()];
        assert_eq!(self.work.ask(&query)["summary"]["total_events"], self.sent);
    }

    /// The one before runs on, for this reason.
    fn refuses(&mut self, says: &str, wanted: Option<&Version>) {
        assert!(!self.reload(), "not everything runs that is wanted");
        let plugin = self.listed(NAME);
        assert_eq!([&plugin["state"], &plugin["running_digest"]], ["running", self.runs.as_str()], "{says}: {plugin}");
        assert!(plugin["reason"].as_str().is_some_and(|reason| reason.contains(says)), "{says}: {plugin}");
        let wanted = wanted.map_or(Value::Null, |wanted| wanted.digest.as_str().into());
        assert_eq!(plugin["wanted_digest"], wanted, "{says}: {plugin}");
        self.serves();
    }

    fn is_running(&self, version: &Version) -> bool {
        let plugin = self.listed(NAME);
        plugin["running_digest"] == *version.digest && plugin["reason"].is_null() && plugin["state"] == "running"
    }

    /// This one runs at the latest when somebody asks for it.
    fn takes(&mut self, version: &Version) {
        assert!(self.reload(), "{}", self.listed(NAME));
        assert!(self.is_running(version), "{}", self.listed(NAME));
        self.runs.clone_from(&version.digest);
        self.serves();
    }

    /// This one runs soon, although nobody asks for it.
    fn notices(&mut self, version: &Version) {
        wait_until("it is noticed", || self.is_running(version));
        self.runs.clone_from(&version.digest);
        self.serves();
    }

    fn end(self) {
        self.daemon.stop();
        self.work.verified(&[]);
    }
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

#[test]
fn whatever_takes_a_plugins_place_the_one_before_serves_on() {
    let mut site = Site::new();
    let place = |site: &Site, prepare: &dyn Fn(&Path)| {
        prepare(&site.hidden());
        site.put();
    };
    place(&site, &|path| pipe(path));
    site.refuses("is neither a file nor a link to one", None);
    place(&site, &|path| symlink("nowhere/at-all.wasm", path).expect("a link"));
    site.refuses("is a link to nowhere/at-all.wasm, which is not there", None);
    place(&site, &|path| symlink("/dev/zero", path).expect("a link"));
    site.refuses("is neither a file nor a link to one", None);
    place(&site, &|path| symlink(".", path).expect("a link"));
    site.refuses("is a directory; a plugin is a file", None);
    place(&site, &|path| File::create(path).and_then(|file| file.set_len((64 << 20) + 1)).expect("a long file"));
    site.refuses("has 67108865 bytes; a plugin may have 67108864", None);
    for number in 1..8 {
        let bad = site.versions.bad(number);
        place(&site, &|path| fs::write(path, &bad.version.bytes).expect("a file"));
        site.refuses(bad.says, Some(&bad.version));
    }
    let good = site.versions.good(NAME);
    place(&site, &|path| fs::write(path, &good.bytes).expect("a file"));
    site.notices(&good);
    site.end();
}

#[test]
fn a_file_that_is_written_slowly_runs_when_it_is_whole() {
    let mut site = Site::new();
    let next = site.versions.good(NAME);
    let mut file = File::create(site.file()).expect("the plugin's file");
    for piece in next.bytes.chunks(next.bytes.len() / 4 + 1) {
        file.write_all(piece).expect("writing");
        // Long enough that it looks finished.
        std::thread::sleep(Duration::from_millis(150));
        if file.metadata().expect("its length").len() < next.bytes.len() as u64 {
            wait_until("the reason is listed", || site.listed(NAME)["reason"].is_string());
            assert_eq!(site.listed(NAME)["running_digest"], *site.runs);
            site.serves();
        }
    }
    drop(file);
    site.notices(&next);
    site.end();
}

#[test]
fn other_bytes_are_other_bytes_whatever_length_and_time_say() {
    let mut site = Site::new();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for number in 0..6 {
        let next = site.versions.good(NAME);
        assert_eq!(next.bytes.len() as u64, fs::metadata(site.file()).expect("the plugin's file").len());
        let path = if number % 2 == 0 { site.file() } else { site.hidden() };
        fs::write(&path, &next.bytes).expect("writing");
        File::options().write(true).open(&path).and_then(|file| file.set_modified(then)).expect("setting the time");
        if number % 2 == 1 {
            site.put();
        }
        site.takes(&next);
    }
    // Twice within a moment, and nobody asks.
    site.work.put_plugin(NAME, &site.versions.good(NAME).bytes);
    let last = site.versions.good(NAME);
    site.work.put_plugin(NAME, &last.bytes);
    site.notices(&last);
    site.end();
}

#[test]
fn links_are_followed_also_when_a_folder_behind_them_is_exchanged() {
    let mut site = Site::new();
    let plugins = site.work.path("plugins");
    let linked = site.versions.good(NAME);
    fs::write(site.work.path("elsewhere.wasm"), &linked.bytes).expect("writing");
    symlink("../elsewhere.wasm", site.hidden()).expect("a link");
    site.put();
    site.notices(&linked);

    // As a cluster mounts its configuration: name -> ..data/name, ..data -> ..N, of which one is exchanged by renaming.
    let mount = |number: u32, version: &Version| {
        let folder = format!("..{number}");
        fs::create_dir(plugins.join(&folder)).expect("a folder");
        fs::write(plugins.join(&folder).join(format!("{NAME}.wasm")), &version.bytes).expect("writing");
        symlink(&folder, plugins.join("..data_tmp")).expect("a link");
        fs::rename(plugins.join("..data_tmp"), plugins.join("..data")).expect("renaming");
    };
    let first = site.versions.good(NAME);
    mount(1, &first);
    symlink(format!("..data/{NAME}.wasm"), site.hidden()).expect("a link");
    site.put();
    site.notices(&first);
    for number in 2..5 {
        let next = site.versions.good(NAME);
        mount(number, &next);
        fs::remove_dir_all(plugins.join(format!("..{}", number - 1))).expect("removing the old folder");
        site.notices(&next);
    }
    // What a link outside leads to is not watched, and taken when somebody asks.
    symlink("../elsewhere.wasm", site.hidden()).expect("a link");
    site.put();
    let outside = site.versions.good(NAME);
    fs::write(site.work.path("elsewhere.wasm"), &outside.bytes).expect("writing");
    site.takes(&outside);
    site.end();
}

#[test]
fn names_are_told_apart_or_refused() {
    let mut site = Site::new();
    let plugins = site.work.path("plugins");
    let bytes = fs::read(plugin("homepage-fetch")).expect("a plugin");
    for passed_over in [".new.wasm", "new.wasm.tmp", "new", ".wasm", "new.WASM"] {
        fs::write(plugins.join(passed_over), &bytes).expect("writing");
    }
    fs::write(plugins.join(OsStr::from_bytes(b"caf\xe9.wasm")), &bytes).expect("writing");
    fs::create_dir(plugins.join("folder.wasm")).expect("a folder");
    let other = site.versions.good(NAME);
    fs::write(plugins.join("Video-Actions.wasm"), &other.bytes).expect("writing");
    assert!(!site.reload());
    let list = site.work.ask(&["plugin", "list"]);
    let plugins = list["plugins"].as_array().expect("a list");
    let states: Vec<_> = plugins.iter().map(|one| (one["name"].as_str(), one["state"].as_str())).collect();
    let expected = [("Video-Actions", "running"), ("caf\u{fffd}", "failed"), ("folder", "failed"), (NAME, "running")];
    assert_eq!(states, expected.map(|(name, state)| (Some(name), Some(state))), "{list}");
    assert!(site.listed("caf\u{fffd}")["reason"].as_str().is_some_and(|reason| reason.contains("is not UTF-8")));
    assert!(site.listed("folder")["reason"].as_str().is_some_and(|reason| reason.contains("is a directory")));
    site.serves();
    let both = site.work.ask(&["query", "Video-Actions", "--min-sequence", &site.sent.to_string()]);
    assert_eq!(both["summary"]["total_events"], 500, "it counts from when it came");
    site.end();
}

#[test]
fn a_folder_that_cannot_be_read_takes_nothing_away() {
    let mut site = Site::new();
    let (plugins, away) = (site.work.path("plugins"), site.work.path("away"));
    fs::rename(&plugins, &away).expect("renaming the folder");
    assert!(!site.reload());
    let plugin = site.listed(NAME);
    assert_eq!([&plugin["state"], &plugin["running_digest"]], ["running", site.runs.as_str()]);
    let reason = plugin["reason"].as_str().expect("a reason");
    assert!(reason.contains("the plugins directory could not be taken over"), "{reason}");
    site.serves();
    fs::rename(&away, &plugins).expect("renaming the folder");
    let next = site.versions.good(NAME);
    site.work.put_plugin(NAME, &next.bytes);
    site.takes(&next);
    site.end();
}
