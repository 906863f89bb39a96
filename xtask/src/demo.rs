//! `cargo xtask demo`: the daemon, a generator and a sender, and what the daemon answers, about once a second.
//!
//! Uses only the `tally` binary, the way a user would. Everything it starts runs in a process group of its own, so that
//! Ctrl-C reaches this program alone, which then stops the rest in order and loses nothing.

mod screen;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::build;
use crate::project::{Project, output, say, without_settings};
use crate::wasm;

/// How long the daemon may take to answer its first question, and each program to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to show it.
#[derive(clap::Args)]
pub struct Args {
    /// Stop after this many seconds instead of waiting for Ctrl-C.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Events per second that the generator makes.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u64,
    /// Keep the data directory (log, state, analytics files) and say where it is.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

/// Builds, runs, shows, stops.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args::all(false, &args.wasm))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot listen for signals")?;
    }
    let stage = Stage::set(project)?;
    let result = play(&stage, args, &stop);
    if result.is_err() {
        say(format!("the daemon's log ends with:\n{}", stage.end_of_log()));
    }
    if args.keep {
        say(format!("kept {}", stage.folder.display()));
    } else {
        fs::remove_dir_all(&stage.folder).with_context(|| format!("cannot remove {}", stage.folder.display()))?;
    }
    result
}

fn play(stage: &Stage, args: &Args, stop: &Arc<AtomicBool>) -> Result<()> {
    let mut daemon = stage.daemon()?;
    stage.wait_until_ready(&mut daemon)?;
    let mut producer = stage.producer(args.rate, stop)?;
    let started = Instant::now();
    let mut screen = screen::Screen::new(io::stdout().is_terminal());
    while !stop.load(Ordering::Relaxed) && args.seconds.is_none_or(|limit| started.elapsed().as_secs() < limit) {
        if let Some(status) = daemon.0.try_wait()? {
            bail!("the daemon ended by itself ({status})");
        }
        if let Some(status) = producer.send.0.try_wait()? {
            bail!("`tally send` ended by itself ({status})");
        }
        screen.show(&stage.status()?, &stage.posts(0)?, &stage.hint(), &mut io::stdout().lock())?;
        pause(stop);
    }
    stop.store(true, Ordering::Relaxed);
    say("stopping: the generator, then the sender once everything is acknowledged, then the daemon");
    let last = producer.finish()?;
    screen.show(&stage.status()?, &stage.posts(last)?, "", &mut io::stdout().lock())?;
    daemon.terminate().context("the daemon did not stop")?;
    say(stage.records()?);
    Ok(())
}

/// A second, or less when told to stop.
fn pause(stop: &AtomicBool) {
    for _ in 0..20 {
        if !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where the demo takes place.
struct Stage {
    folder: PathBuf,
    socket: PathBuf,
    questions: PathBuf,
    tally: PathBuf,
    plugins: PathBuf,
}

impl Stage {
    fn set(project: &Project) -> Result<Self> {
        // The system's folder for temporary files: a socket's path must be short.
        let folder = std::env::temp_dir().join(format!("tally-demo-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Stage {
            socket: folder.join("events.sock"),
            questions: folder.join("events.sock.query"),
            tally: project.tally(),
            plugins: project.plugins(),
            folder,
        })
    }

    fn tally(&self) -> Command {
        let mut command = Command::new(&self.tally);
        without_settings(&mut command);
        command
    }

    fn daemon(&self) -> Result<Process> {
        let mut command = self.tally();
        command.arg("run").arg("--data-dir").arg(self.data()).arg("--plugins-dir").arg(&self.plugins);
        command.arg("--unix").arg(&self.socket).args(["--flush-events", "100000", "--flush-interval", "5s"]);
        let log = File::create(self.log())?;
        Process::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
    }

    fn wait_until_ready(&self, daemon: &mut Process) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = self.status() else {
                return Ok(());
            };
            if let Some(status) = daemon.0.try_wait()? {
                bail!("the daemon did not start ({status})");
            }
            if Instant::now() > deadline {
                return Err(error.context("the daemon does not answer"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The generator and the sender, joined by a thread that hands over whole lines, so that stopping cuts none in two.
    fn producer(&self, rate: u64, stop: &Arc<AtomicBool>) -> Result<Producer> {
        let mut generate = self.tally();
        generate.args(["generate", "--follow", "--seed", "1", "--homepage", "0.1", "--invalid", "0.001"]);
        generate
            .args(["--refused", "0.001", "--rate"])
            .arg(rate.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut generate = Process::start(&mut generate)?;
        let mut send = self.tally();
        send.args(["send", "-", "--ack", "--producer", "demo", "--output", "json", "--to"]);
        send.arg(format!("unix:{}", self.socket.display())).stdin(Stdio::piped());
        let sent = File::create(self.folder.join("send.log"))?;
        let mut send = Process::start(send.stdout(sent.try_clone()?).stderr(sent))?;
        let from = generate.0.stdout.take().context("the generator has no output")?;
        let mut to = send.0.stdin.take().context("the sender has no input")?;
        let stop = Arc::clone(stop);
        let pipe = thread::spawn(move || {
            let mut from = BufReader::with_capacity(64 * 1024, from);
            let mut line = Vec::new();
            while !stop.load(Ordering::Relaxed) && from.read_until(b'\n', &mut line)? > 0 {
                to.write_all(&line)?;
                line.clear();
            }
            Ok(())
        });
        Ok(Producer { generate, send, pipe: Some(pipe), report: self.folder.join("send.log") })
    }

    fn status(&self) -> Result<Value> {
        self.ask(&["status"])
    }

    /// The best posts, as of `sequence` or later.
    fn posts(&self, sequence: u64) -> Result<Value> {
        let sequence = sequence.to_string();
        let what = ["query", "video-actions", "--table", "posts", "--rows", "5", "--min-sequence"];
        self.ask(&[&what[..], &[&sequence]].concat())
    }

    fn ask(&self, what: &[&str]) -> Result<Value> {
        let mut command = self.tally();
        command.args(what).args(["--output", "json", "--to"]);
        let answer = output(command.arg(&self.questions))?;
        serde_json::from_str(&answer).context("`tally --output json` did not print JSON")
    }

    fn hint(&self) -> String {
        let tally = self.tally.display();
        let to = self.questions.display();
        format!("Ctrl-C stops the demo. Ask it yourself: {tally} query video-actions --table posts --to {to}")
    }

    /// What the analytics files hold.
    fn records(&self) -> Result<String> {
        let (mut files, mut records) = (0, 0);
        for entry in fs::read_dir(self.data()).context("the data directory is gone")? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with("analytics_") {
                files += 1;
                records += BufReader::new(File::open(&path)?).lines().count();
            }
        }
        Ok(format!(
            "{records} flush records in {files} analytics files; the log and the state were in {}",
            self.data().display()
        ))
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }
}

/// The generator, the sender, and the thread between them.
struct Producer {
    generate: Process,
    send: Process,
    pipe: Option<JoinHandle<io::Result<()>>>,
    report: PathBuf,
}

impl Producer {
    /// Ends the stream between two lines and waits until all of it is acknowledged; the last event's sequence.
    fn finish(&mut self) -> Result<u64> {
        if let Some(pipe) = self.pipe.take() {
            let deadline = Instant::now() + PATIENCE;
            while !pipe.is_finished() {
                if Instant::now() > deadline {
                    bail!("`tally send` has taken nothing for {} s", PATIENCE.as_secs());
                }
                thread::sleep(Duration::from_millis(10));
            }
            match pipe.join() {
                Ok(done) => done.context("the stream to `tally send` broke")?,
                Err(_) => bail!("the thread between generator and sender panicked"),
            }
        }
        self.generate.0.kill().ok();
        let fine = self.send.ended_within(PATIENCE).context("`tally send` did not finish")?;
        let report = fs::read_to_string(&self.report).unwrap_or_default();
        let summary = last_line(&report);
        say(format!("tally send: {summary}"));
        if !fine {
            bail!("`tally send` failed");
        }
        let summary: Value = serde_json::from_str(summary).context("`tally send` did not print JSON")?;
        Ok(summary["sequence"].as_u64().unwrap_or(0))
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or("(said nothing)")
}

/// A program that this one started, and ends at the latest when it is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let program = Path::new(command.get_program()).display().to_string();
        Ok(Process(command.process_group(0).spawn().with_context(|| format!("cannot start {program}"))?))
    }

    /// SIGTERM, and patience.
    fn terminate(&mut self) -> Result<()> {
        let id = Pid::from_child(&self.0);
        kill_process(id, Signal::TERM).context("cannot send SIGTERM")?;
        if !self.ended_within(PATIENCE)? {
            bail!("it reported a failure");
        }
        Ok(())
    }

    /// Whether it succeeded; an error when it does not end.
    fn ended_within(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.success());
            }
            if Instant::now() > deadline {
                bail!("still running after {} s", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Stands in for the binary: takes the same commands, and writes down what happens to it.
    const TALLY: &str = r#"#!/bin/sh
here=$(dirname "$0")
case $1 in
    run) mkdir -p "$here/data"; echo '{}' > "$here/data/analytics_00001.log"
         trap 'echo daemon >> "$here/ended"; exit 0' TERM; while :; do sleep 0.05; done ;;
    status) test -d "$here/data" && echo '{"sequence":7}' ;;
    query) echo '{"as_of_sequence":7,"summary":{"total_events":7},"tables":{"posts":[]}}' ;;
    generate) while :; do printf 'first half '; printf 'second half\n'; done ;;
    send) cat > "$here/sent"; echo send >> "$here/ended"; echo '{"durable":1,"sequence":7}' ;;
esac
"#;

    fn stage(folder: &Path) -> Stage {
        // Written by another process: a test beside this one may start a program while a file of ours is open for writing, whose
        // child would hold it open a moment longer, and a program that is open for writing cannot be started.
        let (text, tally) = (folder.join("text"), folder.join("tally"));
        fs::write(&text, TALLY).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("cp").arg(&text).arg(&tally).status().unwrap().success());
        Stage {
            folder: folder.to_path_buf(),
            socket: folder.join("events.sock"),
            questions: folder.join("events.sock.query"),
            plugins: folder.join("plugins"),
            tally,
        }
    }

    fn args(seconds: u64) -> Args {
        let wasm = wasm::Args { wasm_toolchain: wasm::Choice::Auto };
        Args { seconds: Some(seconds), rate: 1000, keep: false, wasm }
    }

    #[test]
    fn everything_stops_in_order_and_no_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        play(&stage(folder.path()), &args(1), &Arc::new(AtomicBool::new(false))).unwrap();
        let ended = fs::read_to_string(folder.path().join("ended")).unwrap();
        assert_eq!(ended, "send\ndaemon\n");
        let sent = fs::read_to_string(folder.path().join("sent")).unwrap();
        assert!(sent.ends_with("first half second half\n"), "{:?}", last_line(&sent));
    }

    #[test]
    fn a_daemon_that_does_not_start_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let stage = stage(folder.path());
        fs::write(&stage.tally, "#!/bin/sh\necho no such thing >&2\nexit 1\n").unwrap();
        let error = play(&stage, &args(1), &Arc::new(AtomicBool::new(false))).unwrap_err();
        assert!(error.to_string().contains("did not start"), "{error:#}");
        assert_eq!(stage.end_of_log(), "no such thing");
    }
}
