//! The store as a few maps, and random work for both. What the tests compare the store with.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{RunInfo, StateError, Store};

use super::commit;

/// What should be in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    aggregators: BTreeMap<String, Aggregator>,
    pendings: BTreeMap<(u64, String), Vec<u8>>,
    position: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Aggregator {
    meta: Vec<u8>,
    runs: BTreeMap<(u64, u64), (u8, Vec<u8>)>,
}

/// One thing a daemon does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A cut of one aggregator, with a delta of this many bytes.
    Cut { name: u8, bytes: usize },
    /// A cut of two at once.
    Both { bytes: usize },
    /// The oldest runs of an aggregator are merged.
    Merge { name: u8, count: usize },
    /// The records of all cuts but the last few are written.
    Records { behind: u64 },
    /// An aggregator is reset.
    Remove { name: u8 },
}

pub(super) fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let bytes = || prop_oneof![4 => 0..200_usize, 2 => 3000..6000_usize, 1 => 60_000..90_000_usize];
    let step = prop_oneof![
        6 => (0..3_u8, bytes()).prop_map(|(name, bytes)| Step::Cut { name, bytes }),
        2 => bytes().prop_map(|bytes| Step::Both { bytes }),
        3 => (0..3_u8, 2..5_usize).prop_map(|(name, count)| Step::Merge { name, count }),
        2 => (0..3_u64).prop_map(|behind| Step::Records { behind }),
        1 => (0..3_u8).prop_map(|name| Step::Remove { name }),
    ];
    prop::collection::vec(step, 1..count)
}

/// The name of an aggregator; one is a prefix of another.
fn name(number: u8) -> String {
    ["a", "a-b", "z"][usize::from(number)].to_owned()
}

fn filled(frame: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (frame as usize + at * 7) as u8).collect()
}

impl Step {
    /// Does the step numbered `frame` to the model, and to the store.
    pub(super) fn take(&self, frame: u64, model: &mut Model, store: &Store) -> Result<(), StateError> {
        match self {
            Step::Cut { name: number, bytes } => model.cut(store, &[name(*number)], frame, *bytes),
            Step::Both { bytes } => model.cut(store, &[name(0), name(2)], frame, *bytes),
            Step::Merge { name: number, count } => model.merge(store, &name(*number), *count),
            Step::Records { behind } => {
                let done = frame.saturating_sub(*behind);
                model.pendings.retain(|(cut, _), _| *cut > done);
                model.position = Some(done.to_le_bytes().to_vec());
                store.commit_records(&done.to_le_bytes(), done)
            }
            Step::Remove { name: number } => {
                model.aggregators.remove(&name(*number));
                store.remove(&name(*number)).map(drop)
            }
        }
    }
}

impl Model {
    fn cut(&mut self, store: &Store, names: &[String], frame: u64, bytes: usize) -> Result<(), StateError> {
        let delta = filled(frame, bytes);
        let add = [(RunInfo::new(frame, frame, 0, &delta), delta.as_slice())];
        let meta = frame.to_le_bytes();
        let report = filled(frame + 1, bytes % 300);
        let commits = names.iter().map(|name| commit(name, &meta, &add, &[], Some((frame, &report))));
        let commits = commits.collect::<Vec<_>>();
        for name in names {
            let aggregator = self.aggregators.entry(name.clone()).or_default();
            aggregator.meta = meta.to_vec();
            aggregator.runs.insert((frame, frame), (0, delta.clone()));
            self.pendings.insert((frame, name.clone()), report.clone());
        }
        store.commit_all(&commits)
    }

    fn merge(&mut self, store: &Store, name: &str, count: usize) -> Result<(), StateError> {
        let Some(aggregator) = self.aggregators.get_mut(name) else {
            return Ok(());
        };
        let gone = aggregator.runs.keys().copied().take(count).collect::<Vec<_>>();
        let mut merged = Vec::new();
        let mut level = 0;
        for key in &gone {
            let (below, bytes) = aggregator.runs.remove(key).expect("it was listed");
            level = level.max(below + 1);
            merged.extend_from_slice(&bytes);
        }
        let run = RunInfo::new(gone[0].0, gone[gone.len() - 1].1, level, &merged);
        aggregator.runs.insert((run.first, run.last), (level, merged.clone()));
        store.commit(&commit(name, &aggregator.meta, &[(run, &merged)], &gone, None))
    }

    /// What the store holds, read through its public face.
    pub(super) fn of(store: &Store) -> Result<Model, StateError> {
        let mut model = Model { position: store.records_position()?, ..Model::default() };
        for name in store.aggregators()? {
            let saved = store.load(&name)?.expect("it was listed");
            let runs = saved.runs.iter().map(|run| Ok(((run.first, run.last), (run.level, store.run(&name, run)?))));
            let runs = runs.collect::<Result<_, StateError>>()?;
            model.aggregators.insert(name, Aggregator { meta: saved.meta, runs });
        }
        for cut in store.pending_cuts()? {
            for (name, report) in store.pendings(cut)? {
                model.pendings.insert((cut, name), report);
            }
        }
        Ok(model)
    }
}
