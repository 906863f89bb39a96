//! One life of a daemon: from its start to its end, whichever way it comes. Knows processes and files, not what is counted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::load::Doors;
use crate::{now, succeed};

/// How long a start, an end or an answer may take before it counts as a violation. Generous: machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that was started; killed when dropped.
pub struct Life {
    child: Child,
    lines: mpsc::Receiver<String>,
    is_run_by_another: bool,
    /// The line that says it is ready, once it was waited for.
    ready: String,
}

/// How a start went.
#[derive(Debug)]
pub enum Started {
    /// It is ready.
    Ready,
    /// It ended first.
    Ended(ExitStatus),
}

impl Life {
    /// Starts a command that runs a daemon, itself or as a child (`strace`); its stderr goes to the end of a file.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let is_run_by_another = command.get_program() != crate::tally().get_program();
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a file for what is logged");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("the daemon starts");
        let output = child.stdout.take().expect("its output");
        let (line, lines) = mpsc::channel();
        // Ends with the daemon.
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|text| line.send(text))
        });
        Self { child, lines, is_run_by_another, ready: String::new() }
    }

    /// Waits until it is ready or has ended.
    pub fn wait_ready(&mut self) -> Started {
        let until = now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.starts_with("tally is ready") => {
                    self.ready = line;
                    return Started::Ready;
                }
                Ok(line) => panic!("the daemon printed {line:?}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Started::Ended(self.wait(PATIENCE)),
                Err(mpsc::RecvTimeoutError::Timeout) => assert!(now() < until, "not ready after {PATIENCE:?}"),
            }
        }
    }

    /// Whether it has become ready.
    pub fn was_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Where a door is.
    pub fn door(&self, name: &str) -> &str {
        let door = self.ready.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        door.unwrap_or_else(|| panic!("no door {name}: {:?}", self.ready))
    }

    /// The doors that producers use.
    pub fn doors(&self) -> Doors {
        Doors { unix: self.door("unix").into(), tcp: self.door("tcp").to_owned(), http: self.door("http").to_owned() }
    }

    /// The daemon's process: the one that was started, or its child where that runs it for us.
    pub fn pid(&self) -> u32 {
        let own = self.child.id();
        if !self.is_run_by_another {
            return own;
        }
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        children.split_whitespace().next().and_then(|child| child.parse().ok()).unwrap_or(own)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the daemon's status")
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let until = now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(now() < until, "the daemon did not end within {patience:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal to the process that was started.
    pub fn signal(&self, name: &str) {
        succeed(Command::new("kill").args(["-s", name, &self.child.id().to_string()]));
    }

    /// The same to a process that may have ended just now.
    pub fn signal_if_there(&self, name: &str) {
        let _ = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).stderr(Stdio::null()).status();
    }

    /// The last sequence when it became ready.
    pub fn sequence(&self) -> u64 {
        self.door("sequence").parse().expect("a sequence")
    }

    /// SIGKILL, to the daemon itself where another program runs it.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let pid = self.pid();
            if pid != self.child.id() {
                // It may have ended just now.
                let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null()).status();
            } else {
                self.child.kill().expect("killing the daemon");
            }
            self.wait(PATIENCE);
        }
    }

    /// SIGTERM, and a clean end.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait(PATIENCE);
        assert!(status.success(), "after SIGTERM it ended with {status}");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = self.pid();
            if pid != self.child.id() {
                let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null()).status();
            }
            // Already dead, if it ended just now.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
