//! What a version would change, seen before it is wanted: the checks of [`Planner::propose`], and what the two manifests differ in.
//! Logs nothing, and stores nothing but what the compilation cache takes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tally_aggregate::Attached;
use tally_event::plan::Subscriber;
use tally_event::schema::Manifest;
use tally_plugin::Configured;
use tally_storage::Storage;

use super::{Planner, Wanted, attached};
use crate::aggregator::line::Saved;
use crate::recovery;

/// What would become of an aggregator. Of one in quarantine that is wanted as it is: `keep`, once it is resumed.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// The aggregator.
    pub name: String,
    /// What would become of its state.
    pub state: StateMode,
    /// Why it is refused.
    pub reason: Option<String>,
    /// What runs, or ran last.
    pub running: Option<VersionFacts>,
    /// What would run.
    pub wanted: Option<VersionFacts>,
    /// Bytes of the state that is carried over.
    pub saved_bytes: u64,
    /// Events of the log that it would read before it stands where the others do.
    pub catches_up_events: u64,
    /// What `rebuild` would read instead, from the beginning of the log.
    pub rebuild: Rebuild,
    /// What it would read that it does not read now: pointers, and event types.
    pub added: Changes,
    /// What it would read no more.
    pub removed: Changes,
    /// Pointers that it would read in another way.
    pub changed_fields: Vec<String>,
    /// Paths that it and others would read in different ways, and the like.
    pub warnings: Vec<String>,
}

/// What becomes of an aggregator's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StateMode {
    /// This version runs already.
    Same,
    /// There is none: it begins with the next event.
    New,
    /// It is carried over as it is.
    Keep,
    /// It is carried over by the new version, which loads the older state version.
    Migrate,
    /// It would not run; what runs goes on.
    Refused,
}

/// What computing a state anew would take.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rebuild {
    /// Events that it would read.
    pub events: u64,
    /// The last event that it would leave out, since the log no longer has what came before; 0 when the log has everything.
    pub behind_sequence: u64,
}

/// A version of a plugin with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionFacts {
    /// As the plugin has it.
    pub version: String,
    /// BLAKE3 of the component.
    pub digest: String,
    /// What its saved bytes mean.
    pub state_version: String,
    /// JSON.
    pub settings: String,
}

impl VersionFacts {
    /// Of a version as it is or would be attached.
    pub fn of(attached: &Attached) -> Self {
        Self {
            version: attached.version.clone(),
            digest: attached.digest.clone(),
            state_version: attached.state_version.clone(),
            settings: attached.settings.clone(),
        }
    }
}

/// See [`Preview`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// Pointers with their kinds.
    pub fields: Vec<String>,
    /// Event types; `*` for every other.
    pub event_types: Vec<String>,
}

impl<S: Storage> Planner<S> {
    /// What would become of `name` if this were wanted of it and of nobody else anything new.
    pub fn preview(&self, name: &str, wanted: &Wanted) -> anyhow::Result<Preview> {
        let running = self.plan.aggregators.get(name);
        let quarantined = self.context.progress.facts().quarantined.contains_key(name);
        // What is held for it meanwhile is let go again, but for what was held before.
        let held = self.context.progress.facts().returning.get(name).copied();
        let next = self.next_version(name, wanted, running, quarantined);
        match held {
            Some(frame) => self.context.progress.facts().returning.insert(name.to_owned(), frame),
            None => self.context.progress.facts().returning.remove(name),
        };
        let snapshot = self.context.store.snapshot()?;
        let saved = Saved::load(&snapshot, name, running.map(|running| running.line))?;
        let saved = saved.filter(|saved| !saved.meta.is_forgotten);
        let meta = saved.as_ref().map(|saved| &saved.meta);
        let before = running.or(meta.map(|meta| &meta.attached));
        let mut preview = Preview {
            name: name.to_owned(),
            state: StateMode::New,
            reason: None,
            running: before.map(VersionFacts::of),
            wanted: wanted.version.as_ref().ok().map(|version| VersionFacts::of(&attached(wanted, version, running))),
            saved_bytes: saved.iter().flat_map(|saved| &saved.runs).map(|run| run.bytes).sum(),
            catches_up_events: 0,
            rebuild: self.rebuild()?,
            added: Changes::default(),
            removed: Changes::default(),
            changed_fields: Vec::new(),
            warnings: Vec::new(),
        };
        if let Ok(version) = &wanted.version {
            let registry = &self.context.registry;
            let before = before.and_then(|before| registry.configured(&before.digest, &before.settings).ok());
            let before = before.as_ref().map(|before| &*before.manifest);
            compare(&mut preview, before, &version.configured.manifest);
        }
        let (attached, configured) = match next {
            Ok(next) => next,
            Err(error) => {
                (preview.state, preview.reason) = (StateMode::Refused, Some(format!("{error:#}")));
                return Ok(preview);
            }
        };
        preview.state = match before {
            _ if running == Some(&attached) && !quarantined => StateMode::Same,
            None => StateMode::New,
            Some(before) if before.state_version == attached.state_version => StateMode::Keep,
            Some(_) => StateMode::Migrate,
        };
        if let (Attached::HERE, Some(meta)) = (attached.attached_at, meta) {
            let last = self.context.published().last_sequence;
            preview.catches_up_events = last.saturating_sub(meta.last_sequence);
        }
        self.together(&mut preview, configured)?;
        Ok(preview)
    }

    fn rebuild(&self) -> anyhow::Result<Rebuild> {
        let begins = recovery::last_cut_until(&mut self.context.reader(), i64::MIN, self.context.tail.last())?;
        let last = self.context.published().last_sequence;
        Ok(Rebuild { events: last.saturating_sub(begins.last_sequence), behind_sequence: begins.last_sequence })
    }

    /// Looks at the plan with everybody else.
    fn together(&self, preview: &mut Preview, configured: Configured) -> anyhow::Result<()> {
        let quarantined = self.context.progress.facts().quarantined.clone();
        let takes_part = |name: &String| *name != preview.name && !quarantined.contains_key(name);
        let others = self.plan.aggregators.iter().filter(|(name, _)| takes_part(name));
        let mut subscribers = Vec::new();
        for (name, attached) in others {
            // One that does not start any more takes part in nothing.
            if let Ok(other) = self.context.registry.configured(&attached.digest, &attached.settings) {
                subscribers.push(Subscriber { name: name.as_str().into(), manifest: other.manifest.clone() });
            }
        }
        let presets = crate::aggregator::presets(&self.plan)?;
        let warnings = |subscribers: Vec<Subscriber>| {
            tally_event::plan::Plan::new(subscribers, presets.clone(), self.limits).map(|plan| plan.warnings().to_vec())
        };
        let without: BTreeSet<String> = warnings(subscribers.clone()).into_iter().flatten().collect();
        subscribers.push(Subscriber { name: preview.name.as_str().into(), manifest: configured.manifest });
        match warnings(subscribers) {
            Ok(with) => preview.warnings = with.into_iter().filter(|warning| !without.contains(warning)).collect(),
            Err(error) => (preview.state, preview.reason) = (StateMode::Refused, Some(error.to_string())),
        }
        Ok(())
    }
}

fn compare(preview: &mut Preview, before: Option<&Manifest>, after: &Manifest) {
    let (before, after) = (before.map(Reads::of).unwrap_or_default(), Reads::of(after));
    (preview.added, preview.removed) = (after.but_not(&before), before.but_not(&after));
    for (path, was) in &before.fields {
        if let Some(is) = after.fields.get(path).filter(|is| *is != was) {
            preview.changed_fields.push(format!("{path} ({is}, was {was})"));
        }
    }
}

/// What a manifest asks for.
#[derive(Default)]
struct Reads {
    /// Kinds by pointer.
    fields: BTreeMap<String, String>,
    event_types: BTreeSet<String>,
}

impl Reads {
    fn of(manifest: &Manifest) -> Self {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        for field in &manifest.fields {
            let kinds = fields.entry(field.path.clone()).or_default();
            let and = if kinds.is_empty() { "" } else { " and " };
            *kinds = format!("{kinds}{and}{}", field.kind);
        }
        Self { fields, event_types: manifest.event_types.iter().map(|event_type| event_type.name.clone()).collect() }
    }

    fn but_not(&self, other: &Self) -> Changes {
        let fields = self.fields.iter().filter(|(path, _)| !other.fields.contains_key(*path));
        Changes {
            fields: fields.map(|(path, kinds)| format!("{path} ({kinds})")).collect(),
            event_types: self.event_types.difference(&other.event_types).cloned().collect(),
        }
    }
}
