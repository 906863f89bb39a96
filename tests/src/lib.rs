//! What the end-to-end tests share: a work folder, a daemon as a real process, the command line, the independent count.
//! Knows the product only from outside: its command line, sockets and files.

pub mod clients;
mod http;
pub mod torture;
pub mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use http::Http;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

fn built(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| root().join("target").join(default), PathBuf::from);
    assert!(path.exists(), "{} is missing; run `cargo xtask test`, which builds it", path.display());
    path
}

/// A component by folder variable and name.
pub fn component(variable: &str, folder: &str, name: &str) -> PathBuf {
    let path = built(variable, folder).join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing; run `cargo xtask test`, which builds it", path.display());
    path
}

/// A component of the product.
pub fn plugin(name: &str) -> PathBuf {
    component("TALLY_BUILT_PLUGINS_DIR", "plugins", name)
}

/// The binary, ready for arguments.
pub fn tally() -> Command {
    Command::new(built("TALLY_BIN", "release/tally"))
}

/// Runs to the end and insists on success.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?} failed: {}", text(&output));
    String::from_utf8(output.stdout).expect("output is text")
}

/// Both outputs, for messages and greps.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A folder with plugins, sockets and a data directory. Removed with the test.
pub struct Work {
    folder: tempfile::TempDir,
}

impl Work {
    /// With these components in the plugins directory.
    pub fn new(plugins: &[PathBuf]) -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"), plugins)
    }

    /// The same in a folder that was made for it.
    pub fn in_folder(folder: tempfile::TempDir, plugins: &[PathBuf]) -> Self {
        std::fs::create_dir(folder.path().join("plugins")).expect("the plugins folder");
        let work = Self { folder };
        for plugin in plugins {
            let name = plugin.file_stem().and_then(|stem| stem.to_str()).expect("a name");
            work.put_plugin(name, &std::fs::read(plugin).expect("the component"));
        }
        work
    }

    /// Leaves the folder where it is, for people to look at.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a plugin in by renaming, as a careful operator would.
    pub fn put_plugin(&self, name: &str, bytes: &[u8]) {
        let hidden = self.path("plugins").join(format!(".{name}.tmp"));
        std::fs::write(&hidden, bytes).expect("writing a plugin");
        std::fs::rename(&hidden, self.path("plugins").join(format!("{name}.wasm"))).expect("renaming a plugin");
    }

    /// Generates events into a file.
    pub fn generate(&self, name: &str, arguments: &str) -> PathBuf {
        let path = self.path(name);
        let file = std::fs::File::create(&path).expect("a file for events");
        let mut generate = tally();
        generate.arg("generate").args(arguments.split_whitespace()).stdout(file);
        assert!(generate.status().expect("tally generate").success());
        path
    }

    /// Arguments that run a daemon here.
    pub fn run_arguments(&self, more: &str) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let fixed = ["run", "--data-dir", &path("data"), "--plugins-dir", &path("plugins"), "--unix", &path("t.sock")];
        fixed.iter().map(|a| (*a).to_owned()).chain(more.split_whitespace().map(str::to_owned)).collect()
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&self, more: &str) -> Daemon {
        let mut command = tally();
        command.args(self.run_arguments(more));
        self.start_as(command)
    }

    /// Starts a daemon by any command and waits until it is ready.
    pub fn start_as(&self, mut command: Command) -> Daemon {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).expect("a log file");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the daemon starts");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        output.read_line(&mut line).expect("its output");
        assert!(line.starts_with("tally is ready"), "not ready: {line:?}\n{}", self.log());
        let sequence = line.trim().rsplit_once("sequence=").and_then(|(_, n)| n.parse().ok()).expect("a sequence");
        Daemon { child, sequence, ready: line.trim().to_owned() }
    }

    /// Writes a configuration file, and gives the arguments that name it.
    pub fn configure(&self, text: &str) -> String {
        std::fs::write(self.path("tally.toml"), text).expect("writing the configuration");
        format!("--config {}", self.path("tally.toml").display())
    }

    /// GET on the query socket.
    pub fn get(&self, path: &str) -> wire::Reply {
        wire::request(wire::unix(&self.path("t.sock.query")), &format!("GET {path}"), &[], "")
    }

    /// What `/v1/status` says.
    pub fn status(&self) -> Value {
        self.get("/v1/status").json()
    }

    /// A number of `/metrics`, by its name and labels as they stand there; 0 without it.
    pub fn metric(&self, series: &str) -> f64 {
        let page = self.get("/metrics").body;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// What the daemons of this folder logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// `tally send` with these arguments to the daemon here.
    pub fn send(&self, arguments: &[&str]) -> Command {
        let mut send = tally();
        send.arg("send").args(arguments).arg("--to").arg(format!("unix:{}", self.path("t.sock").display()));
        send
    }

    /// `tally generate` with this shape, so many events a second, into `tally send` with these arguments. Both end by themselves.
    pub fn stream(&self, shape: &str, rate: u32, arguments: &[&str]) -> (Child, Child) {
        let mut generate = tally();
        generate.arg("generate").args(shape.split_whitespace()).args(["--rate", &rate.to_string()]);
        let mut generate = generate.stdout(Stdio::piped()).spawn().expect("tally generate");
        let lines = generate.stdout.take().expect("its output");
        let mut send = self.send(&["-", "--ack"]);
        let send = send.args(arguments).stdin(lines).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        (generate, send.expect("tally send"))
    }

    /// A command of `tally` that asks the daemon here, as JSON.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let mut ask = tally();
        ask.args(arguments).arg("--to").arg(self.path("t.sock.query")).args(["--output", "json"]);
        serde_json::from_str(&succeed(&mut ask)).expect("an answer in JSON")
    }

    /// `tally verify`, with its result.
    pub fn verify(&self, more: &[&str]) -> Output {
        tally().arg("verify").arg("--data-dir").arg(self.path("data")).args(more).output().expect("tally verify")
    }

    /// Insists that everything is equal, and gives what was printed.
    pub fn verified(&self, more: &[&str]) -> String {
        let output = self.verify(more);
        assert!(output.status.success(), "verify: {}\n{}", text(&output), self.log());
        text(&output)
    }

    /// The analytics records in order.
    pub fn records(&self) -> Vec<Value> {
        let mut files: Vec<(u64, PathBuf)> = std::fs::read_dir(self.path("data"))
            .expect("the data directory")
            .filter_map(|entry| {
                let path = entry.expect("an entry").path();
                let name = path.file_name()?.to_str()?.to_owned();
                Some((name.strip_prefix("analytics_")?.strip_suffix(".log")?.parse().ok()?, path))
            })
            .collect();
        files.sort();
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("records");
        let lines: String = files.iter().map(|(_, path)| read(path)).collect();
        lines.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    /// The independent count of a file of events, and of ranges of its sequences.
    pub fn count(&self, events: &Path, ranges: &[(u64, u64)]) -> Value {
        let file = self.path("ranges.json");
        std::fs::write(&file, serde_json::to_vec(ranges).expect("ranges")).expect("writing ranges");
        let mut count = Command::new("python3");
        count.arg(root().join("tests/oracle/count.py")).arg(events).arg("--ranges").arg(&file);
        serde_json::from_str(&succeed(&mut count)).expect("a count in JSON")
    }
}

/// A running daemon; killed with the test.
pub struct Daemon {
    child: Child,
    /// The last sequence when it became ready.
    pub sequence: u64,
    /// The line that it said so with.
    pub ready: String,
}

impl Daemon {
    /// Where a door is, by its name in the ready line: `tcp`, `query_tcp`.
    pub fn address(&self, door: &str) -> &str {
        let door = format!("{door}=");
        let found = self.ready.split_whitespace().find_map(|word| word.strip_prefix(&door));
        found.unwrap_or_else(|| panic!("no {door} in {:?}", self.ready))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where a door is, such as `http`: a path, or an address with its real port.
    pub fn door(&self, name: &str) -> &str {
        let place = self.ready.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        place.unwrap_or_else(|| panic!("no door {name}: {}", self.ready))
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("killing the daemon");
        self.child.wait().expect("the daemon's end");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill").success());
    }

    /// Waits for its end and gives the exit code.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        let until = now() + patience;
        while now() < until {
            if let Some(status) = self.child.try_wait().expect("the daemon's status") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the daemon did not end within {patience:?}");
    }

    /// SIGTERM, and a clean end.
    pub fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait(Duration::from_secs(20)), Some(0), "SIGTERM ends cleanly");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already dead in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the line protocol, one step at a time.
pub struct Client {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Client {
    /// Connects and sends the first line.
    pub fn connect(work: &Work, first_line: &str) -> Self {
        let stream = UnixStream::connect(work.path("t.sock")).expect("connecting");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        let answers = BufReader::new(stream.try_clone().expect("the other direction"));
        let mut client = Self { stream, answers };
        client.write(&format!("{first_line}\n"));
        client
    }

    /// Writes bytes.
    pub fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("writing to the daemon");
    }

    /// The next answer.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Everything until the daemon closes.
    pub fn rest(mut self) -> String {
        self.stream.shutdown(std::net::Shutdown::Write).expect("closing");
        let mut rest = String::new();
        self.answers.read_to_string(&mut rest).expect("the rest");
        rest
    }
}

/// Now, for waiting.
#[expect(clippy::disallowed_methods, reason = "tests wait in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until `ready`.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let until = now() + Duration::from_secs(120);
    while !ready() {
        assert!(now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
