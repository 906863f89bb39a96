//! Looks at a plugin file without a daemon: the same engine, the same checks, and one round of an empty accumulator.
//! Knows no data directory.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tally_event::schema::Ordering;
use tally_event::table::Question;
use tally_plugin::{Configured, Digest, Engine, Limits};

/// What `tally plugin check` finds.
#[derive(Clone, Debug, Serialize)]
pub struct PluginFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it computes.
    pub summary: String,
    /// BLAKE3 of the file.
    pub digest: String,
    /// Bytes of the file.
    pub size: usize,
    /// What results depend on besides the log and the plugin.
    pub engine: String,
    /// Whether it checks itself when it is loaded.
    pub selfcheck: bool,
    /// The field by which events may be dealt to several shards; none where it has to run in one.
    pub shard_key: Option<String>,
    /// Whether merging depends on the order.
    pub ordering: Ordering,
    /// The state version it saves.
    pub state_version: String,
    /// Older state versions it loads.
    pub loads: Vec<String>,
    /// Reasons for which it may refuse an event.
    pub refusals: Vec<String>,
    /// The event types it asks for.
    pub event_types: Vec<EventTypeFacts>,
    /// The fields it reads.
    pub fields: Vec<FieldFacts>,
    /// The tables it reports of nothing.
    pub tables: Vec<TableFacts>,
    /// JSON Schema of its settings.
    pub settings_schema: serde_json::Value,
}

/// An event type and the fields that belong to it, by pointer.
#[derive(Clone, Debug, Serialize)]
pub struct EventTypeFacts {
    /// The event's `type`; `*` for every other.
    pub event_type: String,
    /// An event without them is refused.
    pub required: Vec<String>,
    /// An event may have them.
    pub optional: Vec<String>,
}

/// A field.
#[derive(Clone, Debug, Serialize)]
pub struct FieldFacts {
    /// RFC 6901 pointer.
    pub path: String,
    /// How it is read.
    pub kind: String,
}

/// A table of the report.
#[derive(Clone, Debug, Serialize)]
pub struct TableFacts {
    /// Its name.
    pub table: String,
    /// The names of its columns.
    pub columns: Vec<String>,
}

/// Loads the file as the daemon would with these settings (JSON), with its default limits.
pub fn check(file: &Path, settings: &str) -> anyhow::Result<PluginFacts> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let engine = Engine::new(Limits::default(), None)?;
    let component = engine.load(&bytes)?;
    let configured = component.configure(settings)?;
    let tables = one_round(&configured)?;
    Ok(facts(&engine, &configured, &bytes, tables))
}

/// Starts, saves, loads and reports an empty accumulator.
fn one_round(configured: &Configured) -> anyhow::Result<Vec<TableFacts>> {
    let mut instance = configured.instantiate()?;
    let empty = instance.create().context("it cannot start empty")?;
    let saved = instance.save(&empty).context("it cannot save its empty state")?;
    let loaded = instance
        .load(&configured.manifest.state_version, &saved)
        .context("it cannot load the state that it saved itself")?;
    let tables = instance.report(&loaded, &Question::default()).context("it cannot report its empty state")?;
    let columns = |table: &tally_event::table::Table| table.columns.iter().map(|column| column.name.clone()).collect();
    Ok(tables.iter().map(|table| TableFacts { table: table.name.clone(), columns: columns(table) }).collect())
}

fn facts(engine: &Engine, configured: &Configured, bytes: &[u8], tables: Vec<TableFacts>) -> PluginFacts {
    let Configured { component, manifest, .. } = configured;
    let description = &component.description;
    let path = |index: &u32| manifest.fields.get(*index as usize).map(|field| field.path.clone()).unwrap_or_default();
    let event_types = manifest.event_types.iter().map(|event_type| EventTypeFacts {
        event_type: event_type.name.clone(),
        required: event_type.required.iter().map(path).collect(),
        optional: event_type.optional.iter().map(path).collect(),
    });
    let fields =
        manifest.fields.iter().map(|field| FieldFacts { path: field.path.clone(), kind: field.kind.to_string() });
    PluginFacts {
        name: description.name.clone(),
        version: description.version.clone(),
        summary: description.summary.clone(),
        digest: Digest::of(bytes).to_string(),
        size: bytes.len(),
        engine: engine.fingerprint(),
        selfcheck: component.has_selfcheck(),
        shard_key: configured.shard_key.map(|field| manifest.fields[field].path.clone()),
        ordering: manifest.ordering,
        state_version: manifest.state_version.clone(),
        loads: manifest.loads.clone(),
        refusals: manifest.refusals.clone(),
        event_types: event_types.collect(),
        fields: fields.collect(),
        tables,
        settings_schema: serde_json::from_str(&description.settings_schema).unwrap_or_default(),
    }
}
