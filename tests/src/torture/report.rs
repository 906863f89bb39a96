//! What a run counts, which kinds of faults and outcomes it reached, and what it found violated.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Counts and violations, added to from several threads.
#[derive(Debug, Default)]
pub struct Report {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they were first named.
    names: Vec<String>,
    counts: BTreeMap<String, u64>,
    violations: Vec<String>,
}

impl Report {
    /// Adds to a count; adding 0 makes it known.
    pub fn count(&self, name: &str, n: u64) {
        let mut state = self.state.lock().expect("nobody panics with it");
        if !state.counts.contains_key(name) {
            state.names.push(name.to_owned());
        }
        *state.counts.entry(name.to_owned()).or_default() += n;
    }

    /// A count so far.
    pub fn of(&self, name: &str) -> u64 {
        self.state.lock().expect("nobody panics with it").counts.get(name).copied().unwrap_or(0)
    }

    /// Notes a violation.
    pub fn violation(&self, what: String) {
        eprintln!("VIOLATION: {what}");
        self.state.lock().expect("nobody panics with it").violations.push(what);
    }

    /// Does something whose panic is a violation; none if it was one.
    pub fn attempt<T>(&self, what: &str, act: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(act)) {
            Ok(done) => Some(done),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                self.violation(format!("{what}: {text}"));
                None
            }
        }
    }

    /// A count that stayed 0 means that something was not tried at all: it counts as a violation.
    pub fn must_have_reached(&self, names: &[&str]) {
        for name in names {
            if self.of(name) == 0 {
                self.violation(format!("never reached: {name}"));
            }
        }
    }

    /// Something that cannot be tried here: said, and a violation where `TALLY_TESTS_NEED_CLIENTS` is 1.
    pub fn missing(&self, name: &str, what: &str) {
        eprintln!("SKIPPED {name}: {what}");
        self.count(&format!("skipped: {name}"), 1);
        if std::env::var_os("TALLY_TESTS_NEED_CLIENTS").is_some_and(|needed| needed == "1") {
            self.violation(format!("{name}: {what}"));
        }
    }

    /// How many violations there are.
    pub fn violations(&self) -> usize {
        self.state.lock().expect("nobody panics with it").violations.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock().expect("nobody panics with it");
        for name in &state.names {
            writeln!(f, "{name}: {}", state.counts[name])?;
        }
        for violation in &state.violations {
            writeln!(f, "violated: {violation}")?;
        }
        write!(f, "violations: {}", state.violations.len())
    }
}
