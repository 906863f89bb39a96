//! The machine: what it is, and which cores a piece of work may use.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

/// Core numbers that this process may use.
pub fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("cannot ask which cores may be used")?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Who works where.
#[derive(Clone, Debug)]
pub struct Places {
    /// What is measured.
    pub server: Vec<usize>,
    /// What loads it.
    pub client: Vec<usize>,
}

impl Places {
    /// One core for what is measured, another for the load.
    pub fn one_core() -> Result<Self> {
        let mut cores = cores()?;
        let server = cores.pop().context("no core may be used")?;
        Ok(Self { server: vec![server], client: vec![cores.pop().unwrap_or(server)] })
    }

    /// Every core for both.
    pub fn all_cores() -> Result<Self> {
        let cores = cores()?;
        Ok(Self { server: cores.clone(), client: cores })
    }

    /// One core for the load, the others for what is measured.
    pub fn all_but_one() -> Result<Self> {
        let mut cores = cores()?;
        let client = cores.pop().context("no core may be used")?;
        Ok(Self { server: if cores.is_empty() { vec![client] } else { cores }, client: vec![client] })
    }
}

/// Does the work in a thread that may use these cores only. Threads and processes started there inherit that.
pub fn on<T: Send>(cores: &[usize], work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pinned = || {
        let mut set = CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).with_context(|| format!("cannot keep a thread to cores {cores:?}"))?;
        work()
    };
    thread::scope(|scope| joined(scope.spawn(pinned).join()))
}

/// What a thread came to; its panic goes on here.
pub fn joined<T>(outcome: thread::Result<T>) -> T {
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What a result was measured on.
pub fn description() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kib = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let system = rustix::system::uname();
    json!({
        "cpu": field(&cpu, "model name"),
        "cores": cores().map_or(0, |cores| cores.len()),
        "architecture": system.machine().to_string_lossy(),
        "kernel": system.release().to_string_lossy(),
        "memory_bytes": kib.map(|kib| kib * 1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stays_on_the_cores_it_was_given() {
        let before = cores().unwrap();
        let one = before[before.len() - 1];
        assert_eq!(on(&[one], cores).unwrap(), [one]);
        assert_eq!(cores().unwrap(), before);
    }

    #[test]
    fn one_core_serves_and_another_loads() {
        let places = Places::one_core().unwrap();
        assert_eq!(places.server.len(), 1);
        assert!(cores().unwrap().len() == 1 || places.server != places.client);
    }
}
