//! Programs that are started here, and what they cost: processor time and memory, from `/proc`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A `tally` command that knows nothing of the caller's own settings.
pub fn tally(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("TALLY_") || ["RUST_LOG", "FLUSH_INTERVAL_SEC", "BATCH_SIZE"].contains(&&*name_text) {
            command.env_remove(name);
        }
    }
    command
}

/// A program that this one started; killed at the latest when it is dropped.
pub struct Process(Child);

/// Starts it.
pub fn start(command: &mut Command) -> Result<Process> {
    let program = command.get_program().to_owned();
    Ok(Process(command.spawn().with_context(|| format!("cannot start {}", program.display()))?))
}

impl Process {
    /// Its standard output, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Waits for its end, however long that takes.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.0.wait()?)
    }

    /// SIGTERM, and success within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> Result<()> {
        self.signal(rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                if !status.success() {
                    bail!("it ended with {status}");
                }
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("it did not end within {} s", patience.as_secs())
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, signal).context("cannot send a signal")
    }

    /// Processor seconds so far, of all its threads, in user space and in the kernel. The kernel counts in hundredths.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name of the program, in parentheses, may hold anything; behind it utime and stime are the 12th and 13th field.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        let [user, system] = ticks[..] else { bail!("cannot read /proc/{}/stat", self.0.id()) };
        Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The same to the nanosecond, of the threads that there are now.
    pub fn threads_cpu_seconds(&self) -> Result<f64> {
        let mut nanoseconds = 0;
        let folder = format!("/proc/{}/task", self.0.id());
        for task in fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// Memory that is resident now, bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.status_kib("VmRSS").map(|kib| kib * 1024)
    }

    /// The most that was ever resident, bytes.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        self.status_kib("VmHWM").map(|kib| kib * 1024)
    }

    fn status_kib(&self, name: &str) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        kib.with_context(|| format!("/proc/{}/status has no {name}", self.0.id()))
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_a_process_are_read() {
        let process =
            start(Command::new("sh").args(["-c", "i=0; while [ $i -lt 10000000 ]; do i=$((i+1)); done"])).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while process.cpu_seconds().unwrap() < 0.02 {
            assert!(Instant::now() < until, "no processor time is counted");
            thread::sleep(Duration::from_millis(10));
        }
        assert!(process.peak_resident_bytes().unwrap() >= process.resident_bytes().unwrap());
        assert!(process.resident_bytes().unwrap() > 4096);
        assert!(process.threads_cpu_seconds().unwrap() > 0.01);
    }
}
