//! How far and how fast it goes: a bar on stderr where that is a terminal and there is time to look at it, and the time
//! for a summary. Knows nothing of what is measured.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Shown at most this often.
const REFRESH: Duration = Duration::from_millis(100);
/// What is done sooner shows no bar.
const WORTHWHILE: Duration = Duration::from_secs(1);

/// Time since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(
        clippy::disallowed_methods,
        reason = "measures what is shown to a person and how long to try again; decides nothing that is logged"
    )]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Meter {
    begun: Stopwatch,
    next: Duration,
    /// None where nobody watches.
    bar: Option<ProgressBar>,
    said: Option<String>,
}

impl Meter {
    /// Starts; `size` is what there is to do, in any unit, where that is known.
    pub fn start(size: Option<u64>) -> Meter {
        Meter::on(size, std::io::stderr().is_terminal())
    }

    /// Starts one that is shown only if somebody watches.
    pub fn on(size: Option<u64>, watched: bool) -> Meter {
        Meter { begun: Stopwatch::start(), next: WORTHWHILE, bar: watched.then(|| bar(size)), said: None }
    }

    /// Since the start.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Shows how far it is. The message is made only when it is shown.
    pub fn show(&mut self, done: u64, message: impl FnOnce(f64) -> String) {
        let Some(bar) = &self.bar else { return };
        let now = self.begun.elapsed();
        if now < self.next {
            return;
        }
        self.next = now + REFRESH;
        bar.set_position(done);
        bar.set_message(message(now.as_secs_f64()));
        bar.tick();
    }

    /// A remark on stderr; the same one is not repeated.
    pub fn say(&mut self, remark: &str) {
        if self.said.as_deref() == Some(remark) {
            return;
        }
        self.said = Some(remark.to_string());
        match &self.bar {
            Some(bar) if self.begun.elapsed() >= WORTHWHILE => bar.println(remark),
            _ => drop(writeln!(std::io::stderr(), "{remark}")),
        }
    }

    /// Removes the bar.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(size: Option<u64>) -> ProgressBar {
    match size {
        Some(size) => styled(ProgressBar::new(size), "{bar:30} {percent}% {msg}"),
        None => styled(ProgressBar::new_spinner(), "{spinner} {msg}"),
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Does what takes an unknown time, with a spinner where somebody watches and it takes long.
pub fn while_waiting<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let (done, waiting) = mpsc::channel::<()>();
    let spinner = std::thread::spawn(move || {
        if waiting.recv_timeout(WORTHWHILE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let spinner = styled(ProgressBar::new_spinner(), "{spinner} {msg}, {elapsed}").with_elapsed(WORTHWHILE);
        spinner.set_message(what);
        while waiting.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
            spinner.tick();
        }
        spinner.finish_and_clear();
    });
    let result = work();
    drop(done);
    // It has nothing to say.
    let _ = spinner.join();
    result
}
