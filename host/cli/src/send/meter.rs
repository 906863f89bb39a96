//! How fast it goes: a progress bar on stderr where that is a terminal, and the time for the summary.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Shown at most this often.
const REFRESH: Duration = Duration::from_millis(100);

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
    shown: Duration,
    bar: Option<ProgressBar>,
    said: Option<String>,
}

impl Meter {
    /// Starts; `size` is the number of bytes to come, where that is known.
    pub fn start(size: Option<u64>) -> Meter {
        let bar = std::io::stderr().is_terminal().then(|| bar(size));
        Meter { begun: Stopwatch::start(), shown: Duration::ZERO, bar, said: None }
    }

    /// Since the start.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Shows how far it is: bytes read, lines sent, lines durable.
    pub fn show(&mut self, bytes: u64, sent: u64, durable: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        let now = self.begun.elapsed();
        if now < self.shown + REFRESH {
            return;
        }
        self.shown = now;
        let rate = sent as f64 / now.as_secs_f64();
        let durable = durable.map(|durable| format!(", {durable} durable")).unwrap_or_default();
        bar.set_position(bytes);
        bar.set_message(format!("{sent} lines{durable}, {rate:.0} lines/s"));
    }

    /// A remark on stderr; the same one is not repeated.
    pub fn say(&mut self, remark: &str) {
        if self.said.as_deref() == Some(remark) {
            return;
        }
        self.said = Some(remark.to_string());
        match &self.bar {
            Some(bar) => bar.println(remark),
            None => drop(writeln!(std::io::stderr(), "{remark}")),
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
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:30} {percent}% {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
