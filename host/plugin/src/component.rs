//! A component that was taken, and a component with settings: what can be known of an aggregator before it has state.

use crate::bindings::PluginPre;
use crate::contract;
use crate::digest::Digest;
use crate::engine::Engine;
use crate::error::{CallError, PluginError};
use crate::instance::Instance;
use crate::limits::Limits;
use crate::sandbox::Sandbox;
use crate::usage::Usage;
use std::sync::Arc;
use tally_event::schema::{Kind, Manifest, Ordering};
use wasmtime::component::ComponentExportIndex;

/// Longest name and version a plugin may give itself, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// What a plugin says of itself without settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it computes, in a sentence.
    pub summary: String,
    /// JSON Schema of its settings; `{}` where it gave none.
    pub settings_schema: String,
}

/// A component that was validated and compiled. Cheap to clone; thread-safe.
#[derive(Clone)]
pub struct Component {
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// What it says of itself.
    pub description: Arc<Description>,
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    pre: PluginPre<Sandbox>,
    /// For log lines.
    name: Arc<str>,
    selfcheck: Option<ComponentExportIndex>,
    shard_key: Option<ComponentExportIndex>,
}

/// A component with settings: an aggregator but for its name. Cheap to clone; thread-safe.
#[derive(Clone)]
pub struct Configured {
    /// The component.
    pub component: Component,
    /// Its settings, as given.
    pub settings: Arc<str>,
    /// What it wants and keeps; checked.
    pub manifest: Arc<Manifest>,
    /// The field by whose text rows may be dealt to several accumulators, if it names one; checked.
    pub shard_key: Option<usize>,
    /// Where its instances count what they use.
    usage: Arc<Usage>,
}

impl Component {
    /// Asks a component for its description, in an instance that is thrown away.
    pub(crate) fn describe(engine: Engine, digest: Digest, pre: PluginPre<Sandbox>) -> Result<Self, PluginError> {
        let selfcheck = find(&pre, contract::SELFCHECK, "selfcheck");
        let shard_key = find(&pre, contract::SHARDS, "shard-key");
        let unnamed: Arc<str> = format!("unnamed {}", &digest.to_string()[..12]).into();
        let shared = Shared { engine, pre, name: unnamed, selfcheck, shard_key };
        let mut instance = Instance::new(&shared.engine, &shared.pre, &shared.name).map_err(|error| match error {
            CallError::Invalid(problem) => PluginError::Contract { problem },
            other => PluginError::Call(other),
        })?;
        let description = instance.describe()?;

        let description = check_description(description)?;
        let name = description.name.as_str().into();
        Ok(Self { digest, description: Arc::new(description), shared: Arc::new(Shared { name, ..shared }) })
    }

    /// Gives the component its settings, a JSON object (`{}` for none), and takes its manifest. A component that exports
    /// the optional interfaces `selfcheck` and `shards` is asked for what they say here, once.
    pub fn configure(&self, settings_json: &str) -> Result<Configured, PluginError> {
        check_settings(settings_json)?;
        let (mut instance, manifest) = self.start(settings_json).map_err(refused)?;
        manifest.check().map_err(|error| PluginError::Manifest(error.to_string()))?;
        if let Some(export) = &self.shared.selfcheck {
            instance.selfcheck(export).map_err(|error| match error {
                CallError::Refused(reason) => PluginError::SelfCheck(reason),
                other => PluginError::Call(other),
            })?;
        }
        let shard_key = match &self.shared.shard_key {
            Some(export) => instance.shard_key(export)?,
            None => None,
        };
        let shard_key = shard_key.map(|field| check_shard_key(field, &manifest)).transpose()?;
        let manifest = Arc::new(manifest);
        let usage = Arc::default();
        Ok(Configured { component: self.clone(), settings: settings_json.into(), manifest, shard_key, usage })
    }

    /// Whether it exports the optional interface `selfcheck`.
    pub fn has_selfcheck(&self) -> bool {
        self.shared.selfcheck.is_some()
    }

    /// A new instance, configured.
    fn start(&self, settings: &str) -> Result<(Instance, Manifest), CallError> {
        let shared = &self.shared;
        let mut instance = Instance::new(&shared.engine, &shared.pre, &shared.name)?;
        let manifest = instance.configure(settings)?;
        Ok((instance, manifest))
    }
}

impl Configured {
    /// How many shards it runs in when so many are wanted: one where it names no shard key.
    pub fn shards(&self, wanted: usize) -> usize {
        if self.shard_key.is_some() { wanted.max(1) } else { 1 }
    }

    /// The same, whose instances count there what they use.
    #[must_use]
    pub fn counting(self, usage: Arc<Usage>) -> Self {
        Self { usage, ..self }
    }

    /// Where its instances count what they use. Whoever was cloned from another counts there too.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// The limits that its instances get.
    pub fn limits(&self) -> &Limits {
        self.component.shared.engine.limits()
    }

    /// A new, empty instance: its own store, its own memory. Takes microseconds.
    pub fn instantiate(&self) -> Result<Instance, CallError> {
        let (mut instance, manifest) = self.component.start(&self.settings)?;
        if manifest != *self.manifest {
            return Err(CallError::Invalid(
                "`configure` gave another manifest than before for the same settings".into(),
            ));
        }
        instance.promise(self.manifest.clone());
        instance.count_into(self.usage.clone());
        Ok(instance)
    }
}

/// The function of an optional interface, if the component exports it: looked up once.
fn find(pre: &PluginPre<Sandbox>, interface: &str, function: &str) -> Option<ComponentExportIndex> {
    let component = pre.instance_pre().component();
    let interface = component.get_export_index(None, interface)?;
    component.get_export_index(Some(&interface), function)
}

fn check_shard_key(field: u32, manifest: &Manifest) -> Result<usize, PluginError> {
    let refused = |problem: String| Err(PluginError::ShardKey(problem));
    let index = field as usize;
    match manifest.fields.get(index) {
        None => refused(format!("index {field} is out of range: there are {} fields", manifest.fields.len())),
        Some(field) if field.kind != Kind::Text => {
            refused(format!("the field {:?} is of kind {}; rows are dealt by text", field.path, field.kind))
        }
        Some(_) if manifest.ordering != Ordering::Commutative => {
            refused("the ordering is log-order; only accumulators whose merge commutes can be dealt rows".into())
        }
        Some(_) => Ok(index),
    }
}

fn refused(error: CallError) -> PluginError {
    match error {
        CallError::Refused(reason) => PluginError::Refused(reason),
        other => PluginError::Call(other),
    }
}

fn check_settings(settings: &str) -> Result<(), PluginError> {
    match serde_json::from_str::<serde_json::Value>(settings) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err(PluginError::Settings(format!("found `{settings}`"))),
        Err(error) => Err(PluginError::Settings(error.to_string())),
    }
}

fn check_description(mut description: Description) -> Result<Description, PluginError> {
    for (what, text) in [("name", &description.name), ("version", &description.version)] {
        let printable = !text.is_empty() && !text.chars().any(char::is_control);
        if !printable || text.len() > MAX_NAME_BYTES {
            return Err(PluginError::Description(format!(
                "its {what} must be 1 to {MAX_NAME_BYTES} bytes without control characters, found {text:?}"
            )));
        }
    }
    if description.settings_schema.is_empty() {
        description.settings_schema = "{}".into();
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(&description.settings_schema) {
        Ok(_) => Ok(description),
        Err(error) => Err(PluginError::Description(format!("its settings schema is not JSON: {error}"))),
    }
}
