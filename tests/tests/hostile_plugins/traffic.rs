//! What flows while plugins misbehave: acknowledged events on a connection of their own, for a plugin that does not, and what
//! that one must have counted in the end.

use std::fmt::Write as _;

use serde_json::Value;
use tally_tests::wire::{self, Lines};
use tally_tests::{Daemon, Work, component, plugin, succeed, tally, wait_until};

/// A daemon with `video-actions` and hostile plugins.
pub struct World {
    pub work: Work,
    daemon: Option<Daemon>,
    arguments: String,
    sent: u64,
}

/// Limits that make what is endless end soon, and flushes that come often.
pub const LIMITS: &str = "[flush]\nevents = 100\ninterval = \"1h\"\n\
    [plugin]\nmemory = \"24MiB\"\nbackstop = \"60s\"\nfuel_base = 50000000\nfuel_per_row = 10000\n";

impl World {
    /// With these aggregators of the probe: name and settings.
    pub fn new(limits: &str, aggregators: &[(&str, &str)]) -> Self {
        let work = Work::new(&[plugin("video-actions"), component("TALLY_FIXTURES_DIR", "fixtures", "probe")]);
        let mut config = limits.to_owned();
        for (name, settings) in aggregators {
            writeln!(config, "[[aggregator]]\nname = \"{name}\"\nplugin = \"probe\"\nsettings = {settings}").unwrap();
        }
        writeln!(config, "[[aggregator]]\nplugin = \"video-actions\"").unwrap();
        let arguments = work.configure(&config);
        let daemon = Some(work.start(&arguments));
        Self { work, daemon, arguments, sent: 0 }
    }

    /// Sends so many views, of which the first says what `do` is to be done; all are accepted.
    pub fn send(&mut self, views: u64, what: Option<&str>) {
        let mut client = Lines::begin(wire::unix(&self.work.path("t.sock")), r#"{"tally":"ack"}"#);
        let told = |nth| what.filter(|_| nth == 0);
        client.write((0..views).map(|nth| view(self.sent + nth, told(nth))).collect::<String>());
        let answer = client.durable(views);
        assert_eq!(answer["rejected"], 0, "{answer}");
        self.sent += views;
    }

    /// How many events were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Counts events that something else sent.
    pub fn also_sent(&mut self, views: u64) {
        self.sent += views;
    }

    /// What `plugin list` says of one.
    pub fn listed(&self, name: &str) -> Value {
        let list = self.work.ask(&["plugin", "list"]);
        let plugins = list["plugins"].as_array().expect("a list");
        plugins.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} is not in {list}")).clone()
    }

    /// Waits until one is in quarantine, and gives the reason.
    pub fn quarantined(&self, name: &str) -> String {
        let mut listed = Value::Null;
        wait_until(&format!("{name} is in quarantine"), || {
            listed = self.listed(name);
            listed["state"] == "quarantined"
        });
        listed["reason"].as_str().expect("a reason").to_owned()
    }

    /// Waits until one has saved everything that was sent, and gives its ledger.
    pub fn caught_up(&self, name: &str) -> Value {
        self.work.ask(&["query", name, "--min-sequence", &self.sent.to_string()]);
        let mut state = Value::Null;
        wait_until(&format!("{name} has saved everything"), || {
            state = self.work.status()["aggregators"][name].clone();
            state["sequence"] == self.sent
        });
        assert_eq!(state["complete"], true, "{state}");
        state["ledger"].clone()
    }

    /// `video-actions` has counted everything.
    pub fn is_unharmed(&self) {
        let good = self.work.ask(&["query", "video-actions", "--min-sequence", &self.sent.to_string()]);
        assert_eq!(good["complete"], true, "{good}");
        assert_eq!(good["summary"]["total_events"], self.sent, "{good}");
        assert_eq!(self.listed("video-actions")["state"], "running");
    }

    /// The admin socket, asked for something.
    pub fn admin(&self, arguments: &[&str]) -> std::process::Output {
        let mut ask = tally();
        ask.args(arguments).arg("--to").arg(self.work.path("t.sock.admin"));
        ask.output().expect("tally")
    }

    /// The most memory that the daemon ever had, in mebibytes.
    pub fn peak_memory(&self) -> u64 {
        let pid = self.daemon.as_ref().expect("it runs").pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// SIGKILL, and another daemon.
    pub fn kill(&mut self) {
        self.daemon.take().expect("it runs").kill();
        self.start();
    }

    /// A clean end, and another daemon.
    pub fn restart(&mut self) {
        self.daemon.take().expect("it runs").stop();
        self.start();
    }

    /// A clean end, and a daemon with other limits.
    pub fn restart_with(&mut self, from: &str, to: &str) {
        let path = self.work.path("tally.toml");
        let config = std::fs::read_to_string(&path).expect("the configuration");
        assert!(config.contains(from), "{config}");
        std::fs::write(path, config.replace(from, to)).expect("writing the configuration");
        self.restart();
    }

    fn start(&mut self) {
        self.daemon = Some(self.work.start(&self.arguments));
    }

    /// A clean end where records may still wait for somebody, and everything that is saved can be rebuilt from the log.
    pub fn stop(mut self) {
        self.daemon.take().expect("it runs").stop();
        self.work.verified(&[]);
    }

    /// The end: `video-actions` is unharmed to the last record, and everything can be rebuilt from the log.
    pub fn end(mut self) -> Work {
        self.is_unharmed();
        self.daemon.take().expect("it runs").stop();
        let calm = Self::calm(self.sent);
        let of = |work: &Work| work.records().last().expect("a record")["totals"]["video-actions"].clone();
        assert_eq!(of(&self.work), of(&calm), "as if it had been alone");
        self.work.verified(&["--batch-rows", "17"]);
        self.work
    }

    /// What the same events come to without anybody hostile.
    fn calm(sent: u64) -> Work {
        let work = Work::new(&[plugin("video-actions")]);
        let events = work.path("events");
        std::fs::write(&events, (0..sent).map(|nth| view(nth, None)).collect::<String>()).expect("events");
        let daemon = work.start("--flush-interval 1h");
        succeed(work.send(&["--ack"]).arg(&events));
        daemon.stop();
        work
    }
}

/// An event that everything takes.
pub fn view(nth: u64, what: Option<&str>) -> String {
    let told = what.map(|what| format!(",\"do\":\"{what}\"")).unwrap_or_default();
    let (user, post) = (nth % 53, nth % 7);
    format!(
        "{{\"type\":\"action\",\"timestamp\":\"2026-01-27T10:00:00Z\",\"user_id\":\"u{user}\",\
         \"resource_type\":\"posts:{post}\",\"action\":\"view\",\"n\":1{told}}}\n"
    )
}
