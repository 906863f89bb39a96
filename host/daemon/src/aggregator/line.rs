//! The lines of an aggregator's state as the state store has them: under its name what it goes on with, and beside that what a new line
//! is to begin with and what the one before it ended with. What is put down for a new line is taken over once the log says that it
//! begins; until then it concerns nobody. Knows nothing of the log.

use anyhow::Context as _;
use tally_aggregate::{Attached, Line};
use tally_plugin::Configured;
use tally_state::{Commit, DeadLetter, RunInfo, Snapshot, StateError, Store};

use super::meta::Meta;
use super::total::Failure;

/// Behind a name, which has no such byte: what its next line begins with.
const NEXT: &str = "\0next";

/// Behind a name: what it had before its plugin was swapped, or before its line began.
const PREVIOUS: &str = "\0previous";

/// The names of all aggregators of which something is saved.
pub fn aggregators(store: &Store) -> Result<Vec<String>, StateError> {
    let mut names = store.aggregators()?;
    names.retain(|name| !name.contains('\0'));
    Ok(names)
}

/// What is saved of an aggregator on one line.
pub struct Saved {
    /// Where the store has it.
    entry: String,
    /// Its description.
    pub meta: Meta,
    /// Its runs.
    pub runs: Vec<RunInfo>,
}

impl Saved {
    /// What is saved of `name`: on `line` if that is said, which may not have been taken over yet; otherwise on the one that it was on last.
    pub fn load(snapshot: &Snapshot, name: &str, line: Option<Line>) -> anyhow::Result<Option<Self>> {
        let is_on_it = |saved: &Self| line.is_none_or(|line| saved.meta.attached.line == line);
        match Self::entry(snapshot, name.to_owned())?.filter(is_on_it) {
            None if line.is_some_and(|line| !line.is_first()) => Self::entry(snapshot, format!("{name}{NEXT}")),
            saved => Ok(saved),
        }
    }

    /// What `name` had before its plugin was swapped, or before its line began.
    pub fn previous(snapshot: &Snapshot, name: &str) -> anyhow::Result<Option<Self>> {
        Self::entry(snapshot, format!("{name}{PREVIOUS}"))
    }

    fn entry(snapshot: &Snapshot, entry: String) -> anyhow::Result<Option<Self>> {
        let Some(saved) = snapshot.load(&entry)? else { return Ok(None) };
        let meta = Meta::from_bytes(name_of(&entry), &saved.meta)?;
        Ok(Some(Self { entry, meta, runs: saved.runs }))
    }

    /// Its runs with their bytes.
    pub fn runs_with<'s>(
        &'s self,
        snapshot: &'s Snapshot,
    ) -> impl Iterator<Item = Result<(RunInfo, Vec<u8>), StateError>> + 's {
        self.runs.iter().map(|run| Ok((*run, snapshot.run(&self.entry, run)?)))
    }

    /// Everything, to be put elsewhere.
    pub fn copy(&self, snapshot: &Snapshot) -> Result<State, StateError> {
        let runs = self.runs_with(snapshot).collect::<Result<_, _>>()?;
        let letters = letters(snapshot, &self.entry)?;
        // Events behind it are still to come for whoever begins with it.
        let letters = letters.into_iter().filter(|letter| letter.sequence <= self.meta.last_sequence).collect();
        Ok(State { meta: self.meta.clone(), runs, letters })
    }
}

/// A saved state with its bytes.
pub struct State {
    /// Its description.
    pub meta: Meta,
    /// Its runs.
    pub runs: Vec<(RunInfo, Vec<u8>)>,
    /// What is kept of the events that it was spared.
    pub letters: Vec<DeadLetter>,
}

impl State {
    /// What is under this entry, although others may be committing on a full disk.
    fn load(store: &Store, entry: &str) -> Result<Option<Self>, Failure> {
        let read = store.read(|snapshot| {
            let Some(saved) = snapshot.load(entry)? else { return Ok(None) };
            let with_bytes = |run: &RunInfo| Ok((*run, snapshot.run(entry, run)?));
            let runs = saved.runs.iter().map(with_bytes).collect::<Result<_, StateError>>()?;
            Ok(Some((saved.meta, runs, letters(snapshot, entry)?)))
        })?;
        let Some((meta, runs, letters)) = read else { return Ok(None) };
        Ok(Some(Self { meta: Meta::from_bytes(name_of(entry), &meta)?, runs, letters }))
    }
}

/// The dead letters of an entry.
fn letters(snapshot: &Snapshot, entry: &str) -> Result<Vec<DeadLetter>, StateError> {
    let mut letters = if entry.contains('\0') { snapshot.letters_aside()? } else { snapshot.dead_letters()? };
    letters.retain(|letter| letter.name == entry);
    Ok(letters)
}

/// The description of what is saved of `name` on a line, which may not have been taken over yet; read although others may be committing on a
/// full disk.
pub fn meta(store: &Store, name: &str, line: Line) -> anyhow::Result<Option<Meta>> {
    let of = |entry: &str| -> anyhow::Result<Option<Meta>> {
        store.load(entry)?.map(|saved| Meta::from_bytes(name, &saved.meta)).transpose()
    };
    match of(name)?.filter(|meta| meta.attached.line == line) {
        None if !line.is_first() => of(&format!("{name}{NEXT}")),
        meta => Ok(meta),
    }
}

/// The aggregator's name in an entry of it.
fn name_of(entry: &str) -> &str {
    entry.split('\0').next().unwrap_or_default()
}

/// Puts down what the next line of `name` begins with; none where it begins with nothing.
pub fn prepare(store: &Store, name: &str, state: Option<&State>) -> Result<(), StateError> {
    let entry = format!("{name}{NEXT}");
    match state {
        Some(state) => replace(store, &[(&entry, state)]),
        None => store.remove(&entry).map(|_| ()),
    }
}

/// Whether what is under its name is on the line that `attached` is on.
pub fn is_taken_over(store: &Store, name: &str, attached: &Attached) -> Result<bool, Failure> {
    if attached.line.is_first() {
        return Ok(true);
    }
    let Some(saved) = store.load(name)? else { return Ok(false) };
    Ok(Meta::from_bytes(name, &saved.meta)?.attached.line == attached.line)
}

/// Takes over what was put down for the line that `attached` is on, unless that was done; `start` where nothing was put down.
pub fn take_over(store: &Store, name: &str, attached: &Attached, start: &Meta) -> Result<(), Failure> {
    let put_down = format!("{name}{NEXT}");
    if is_taken_over(store, name, attached)? {
        // The last life may have ended before it was removed.
        if !attached.line.is_first() && store.load(&put_down)?.is_some() {
            store.remove(&put_down)?;
        }
        return Ok(());
    }
    let current = State::load(store, name)?;
    let next = State::load(store, &put_down)?;
    let mut next = next.unwrap_or_else(|| State { meta: start.clone(), runs: Vec::new(), letters: Vec::new() });
    let runs: Vec<RunInfo> = next.runs.iter().map(|(run, _)| *run).collect();
    next.meta.attach(attached, &runs);
    // There is no way back to what was forgotten.
    let (before, previous) = (current.filter(|state| !state.meta.is_forgotten), format!("{name}{PREVIOUS}"));
    let mut entries = vec![(name, &next)];
    entries.extend(before.as_ref().map(|before| (previous.as_str(), before)));
    replace(store, &entries)?;
    store.remove(&put_down)?;
    Ok(())
}

/// Keeps what `name` has now as what it had before.
pub fn keep_previous(store: &Store, name: &str) -> Result<(), Failure> {
    let Some(state) = State::load(store, name)? else { return Ok(()) };
    Ok(replace(store, &[(&*format!("{name}{PREVIOUS}"), &state)])?)
}

/// Forgets the state of an aggregator that does not run, but for what records and anchors may still ask of it.
pub fn forget(store: &Store, name: &str) -> anyhow::Result<()> {
    let snapshot = store.snapshot()?;
    let saved = Saved::load(&snapshot, name, None)?.with_context(|| format!("nothing is saved of {name}"))?;
    for side in [NEXT, PREVIOUS] {
        store.remove(&format!("{name}{side}"))?;
    }
    let meta = Meta { is_forgotten: true, ..saved.meta };
    Ok(replace(store, &[(name, &State { meta, runs: Vec::new(), letters: Vec::new() })])?)
}

/// Replaces each of the entries by a state, all at once.
fn replace(store: &Store, entries: &[(&str, &State)]) -> Result<(), StateError> {
    let mut parts = Vec::new();
    for (entry, state) in entries {
        let old = store.load(entry)?.map(|saved| saved.runs).unwrap_or_default();
        let remove: Vec<(u64, u64)> = old.iter().map(|run| (run.first, run.last)).collect();
        let add: Vec<(RunInfo, &[u8])> = state.runs.iter().map(|(run, bytes)| (*run, bytes.as_slice())).collect();
        parts.push((*entry, state.meta.to_bytes(), add, remove, &*state.letters));
    }
    let commits: Vec<Commit<'_>> = parts
        .iter()
        .map(|(name, meta, add, remove, letters)| Commit {
            name,
            meta,
            add,
            remove,
            pending: None,
            letters: Some(letters),
        })
        .collect();
    store.commit_all(&commits)
}

/// The total that saved runs merge to, as this version saves it.
pub fn merged(
    configured: &Configured,
    meta: &Meta,
    runs: impl Iterator<Item = Result<(RunInfo, Vec<u8>), StateError>>,
) -> anyhow::Result<Vec<u8>> {
    let mut instance = configured.instantiate().context("does not start")?;
    let total = instance.create().context("does not start")?;
    for run in runs {
        let (run, bytes) = run?;
        let of = || format!("the saved run of cuts {}..={}", run.first, run.last);
        let loaded = instance.load(meta.state_version_of(&run), &bytes);
        let loaded = loaded.with_context(|| format!("does not load {}", of()))?;
        instance.merge(&total, &loaded).with_context(|| format!("does not merge {}", of()))?;
        instance.discard(loaded).with_context(|| format!("does not give up {}", of()))?;
    }
    instance.save(&total).context("does not save the total")
}
