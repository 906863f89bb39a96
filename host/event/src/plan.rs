//! The plan: what every subscriber and preset together want of a line, compiled once. Knows nothing of batches.
//!
//! A *column* is a path read as a kind, whoever wants it. An event *type* of the plan is a name that some manifest has
//! (or `*`) with the columns to read from such events and the subscribers that read them. Where in a line the columns are
//! is each preset's own: `preset_plan`.

use crate::json::MAX_DEPTH;
use crate::preset_plan::PresetPlan;
use crate::schema::{Field, Kind, Manifest, ManifestError, Preset};
use crate::trie::NONE;
use hashbrown::HashTable;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Bounds on one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line in bytes, without its newline.
    pub line_bytes: usize,
    /// Deepest nesting, 1 to 128; the event's object itself is depth 1.
    pub depth: u32,
    /// Longest event type in bytes, after unescaping.
    pub type_bytes: usize,
    /// Longest part of an event id in bytes, after unescaping.
    pub event_id_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes: 1 << 20, depth: 64, type_bytes: 256, event_id_bytes: 256 }
    }
}

/// An aggregator, as far as decoding is concerned.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The aggregator's name.
    pub name: Arc<str>,
    /// What it wants.
    pub manifest: Arc<Manifest>,
}

/// A compiled plan. One plan serves all presets.
#[derive(Debug)]
pub struct Plan {
    subscribers: Vec<Subscriber>,
    presets: Vec<Preset>,
    limits: Limits,
    warnings: Vec<String>,
    /// Each path with the kind it is read as.
    pub(crate) columns: Vec<Field>,
    pub(crate) types: Vec<TypePlan>,
    pub(crate) preset_plans: Vec<PresetPlan>,
    pub(crate) bindings: Vec<Binding>,
    /// Indices into `types` by name; `*` is not among them.
    named: HashTable<u32>,
    /// The type that unnamed events have; [`NONE`] when nobody takes them.
    wildcard: u32,
}

/// What is read from events of one type, and for whom.
#[derive(Debug)]
pub(crate) struct TypePlan {
    name: String,
    pub(crate) columns: Vec<TypeColumn>,
    pub(crate) readers: Vec<Reader>,
}

/// A column that events of a type are read into.
#[derive(Debug)]
pub(crate) struct TypeColumn {
    pub(crate) column: usize,
    /// Whether any reader requires it.
    pub(crate) required: bool,
}

/// A subscriber of a type.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) subscriber: usize,
    /// In the order of the manifest's fields.
    pub(crate) wants: Vec<Want>,
}

/// A field that a reader has for events of a type.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) field: u32,
    /// Position in [`TypePlan::columns`].
    pub(crate) position: usize,
    pub(crate) required: bool,
}

/// How a subscriber's terms map onto the plan's.
#[derive(Debug)]
pub(crate) struct Binding {
    /// Its event type for each type of the plan, [`NONE`] where it does not subscribe.
    pub(crate) event_types: Vec<u32>,
    /// Whether both number their types alike.
    pub(crate) same_types: bool,
    /// One per field.
    pub(crate) fields: Vec<FieldBinding>,
}

/// Where a subscriber's field is.
#[derive(Debug)]
pub(crate) struct FieldBinding {
    pub(crate) column: usize,
    /// Types of the plan for which the column may hold values that only others asked for; none for most fields.
    pub(crate) hidden: Vec<u32>,
}

/// Why a plan cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A manifest does not hold together.
    #[error("aggregator {subscriber}: {problem}")]
    Manifest {
        /// The aggregator.
        subscriber: String,
        /// What is wrong with its manifest.
        problem: ManifestError,
    },
    /// A preset cannot be used.
    #[error("preset {preset}: {problem}")]
    Preset {
        /// The preset.
        preset: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two subscribers or presets have one name.
    #[error("two {what} are called {name:?}; rename one")]
    SameName {
        /// `aggregators` or `presets`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A limit is beyond what this decoder can do.
    #[error("limit {limit} is {value}; it must be {bounds}")]
    Limit {
        /// Which.
        limit: &'static str,
        /// What it was set to.
        value: u64,
        /// What it may be.
        bounds: &'static str,
    },
}

impl Plan {
    /// Compiles a plan. Checks manifests, presets and limits.
    pub fn new(subscribers: Vec<Subscriber>, presets: Vec<Preset>, limits: Limits) -> Result<Plan, PlanError> {
        check_limits(&limits)?;
        check_names("aggregators", subscribers.iter().map(|s| &*s.name))?;
        check_names("presets", presets.iter().map(|p| p.name.as_str()))?;
        for subscriber in &subscribers {
            let named = |problem| PlanError::Manifest { subscriber: subscriber.name.to_string(), problem };
            subscriber.manifest.check().map_err(named)?;
        }
        let columns = Columns::of(&subscribers);
        let types = compile_types(&subscribers, &columns);
        let bindings = subscribers.iter().enumerate().map(|(s, _)| bind(s, &subscribers, &types, &columns)).collect();
        let mut plan = Plan {
            warnings: warnings(&subscribers),
            named: name_table(&types),
            wildcard: types.iter().position(|t| t.name == "*").map_or(NONE, |index| index as u32),
            preset_plans: Vec::new(),
            subscribers,
            presets,
            limits,
            columns: columns.columns,
            types,
            bindings,
        };
        let compile = |preset: &Preset| {
            PresetPlan::new(preset, &plan.columns, |name| plan.type_called(name))
                .map_err(|problem| PlanError::Preset { preset: preset.name.clone(), problem })
        };
        plan.preset_plans = plan.presets.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(plan)
    }

    /// The subscribers, in the order given.
    pub fn subscribers(&self) -> &[Subscriber] {
        &self.subscribers
    }

    /// The presets, in the order given.
    pub fn presets(&self) -> &[Preset] {
        &self.presets
    }

    /// Bounds on one line.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What deserves a warning: one path that is read as two kinds.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The plan's type of events called `name`; [`NONE`] when nobody subscribes to them.
    pub(crate) fn type_called(&self, name: &[u8]) -> u32 {
        let found = self.named.find(xxh3_64(name), |&t| self.types[t as usize].name.as_bytes() == name);
        found.copied().unwrap_or(self.wildcard)
    }
}

/// The columns of a plan.
#[derive(Default)]
struct Columns {
    columns: Vec<Field>,
    index: HashMap<Field, usize>,
}

impl Columns {
    fn of(subscribers: &[Subscriber]) -> Self {
        let mut all = Self::default();
        for field in subscribers.iter().flat_map(|subscriber| &subscriber.manifest.fields) {
            if !all.index.contains_key(field) {
                all.index.insert(field.clone(), all.columns.len());
                all.columns.push(field.clone());
            }
        }
        all
    }

    fn column(&self, field: &Field) -> usize {
        self.index[field]
    }
}

/// Every type that some manifest names, in the order of their first appearance: with one subscriber, its own order.
fn compile_types(subscribers: &[Subscriber], columns: &Columns) -> Vec<TypePlan> {
    let mut names: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for event_type in subscribers.iter().flat_map(|s| &s.manifest.event_types) {
        if seen.insert(event_type.name.as_str()) {
            names.push(&event_type.name);
        }
    }
    names.into_iter().map(|name| compile_type(name, subscribers, columns)).collect()
}

fn compile_type(name: &str, subscribers: &[Subscriber], columns: &Columns) -> TypePlan {
    let mut read: Vec<TypeColumn> = Vec::new();
    let mut readers = Vec::new();
    for (subscriber, Subscriber { manifest, .. }) in subscribers.iter().enumerate() {
        let Some(own) = own_type(manifest, name) else {
            continue;
        };
        let event_type = &manifest.event_types[own as usize];
        let required = event_type.required.iter().map(|&field| (field, true));
        let fields: BTreeMap<u32, bool> = required.chain(event_type.optional.iter().map(|&f| (f, false))).collect();
        let wants = fields.into_iter().map(|(field, required)| {
            let column = columns.column(&manifest.fields[field as usize]);
            let position = read.iter().position(|r| r.column == column).unwrap_or_else(|| {
                read.push(TypeColumn { column, required: false });
                read.len() - 1
            });
            read[position].required |= required;
            Want { field, position, required }
        });
        readers.push(Reader { subscriber, wants: wants.collect() });
    }
    TypePlan { name: name.into(), columns: read, readers }
}

/// The manifest's event type for events called `name`.
fn own_type(manifest: &Manifest, name: &str) -> Option<u32> {
    let called = |name: &str| manifest.event_types.iter().position(|t| t.name == name);
    called(name).or_else(|| called("*")).map(|index| index as u32)
}

fn bind(index: usize, subscribers: &[Subscriber], types: &[TypePlan], columns: &Columns) -> Binding {
    let manifest = &subscribers[index].manifest;
    let event_types: Vec<u32> = types.iter().map(|t| own_type(manifest, &t.name).unwrap_or(NONE)).collect();
    let fields = manifest.fields.iter().enumerate().map(|(field, wanted)| {
        let column = columns.column(wanted);
        let hidden = (0..types.len()).filter(|&t| hides(&types[t], index, field as u32, column)).map(|t| t as u32);
        FieldBinding { column, hidden: hidden.collect() }
    });
    let fields = fields.collect();
    Binding { same_types: event_types.iter().enumerate().all(|(t, &own)| own == t as u32), event_types, fields }
}

/// Whether events of a type are read into a column for others, while this subscriber has the field for other types only.
fn hides(event_type: &TypePlan, subscriber: usize, field: u32, column: usize) -> bool {
    let reader = event_type.readers.iter().find(|r| r.subscriber == subscriber);
    let not_wanted = reader.is_some_and(|reader| reader.wants.iter().all(|want| want.field != field));
    not_wanted && event_type.columns.iter().any(|c| c.column == column)
}

fn name_table(types: &[TypePlan]) -> HashTable<u32> {
    let mut table = HashTable::with_capacity(types.len());
    for (index, event_type) in types.iter().enumerate().filter(|(_, t)| t.name != "*") {
        let hash = |&t: &u32| xxh3_64(types[t as usize].name.as_bytes());
        table.insert_unique(xxh3_64(event_type.name.as_bytes()), index as u32, hash);
    }
    table
}

fn warnings(subscribers: &[Subscriber]) -> Vec<String> {
    let mut kinds: BTreeMap<&str, BTreeMap<Kind, &str>> = BTreeMap::new();
    for subscriber in subscribers {
        for field in &subscriber.manifest.fields {
            kinds.entry(&field.path).or_default().entry(field.kind).or_insert(&subscriber.name);
        }
    }
    let twice = kinds.into_iter().filter(|(_, kinds)| kinds.len() > 1);
    twice
        .map(|(path, kinds)| {
            let uses: Vec<String> = kinds.iter().map(|(kind, name)| format!("{kind} by {name}")).collect();
            format!("{path:?} is read as {}; an event that fits one may be refused for another", uses.join(", as "))
        })
        .collect()
}

fn check_limits(limits: &Limits) -> Result<(), PlanError> {
    let wrong = |limit, value, bounds| Err(PlanError::Limit { limit, value, bounds });
    if !(1..=MAX_DEPTH).contains(&limits.depth) {
        return wrong("depth", limits.depth.into(), "1 to 128");
    }
    if !(2..=1 << 30).contains(&limits.line_bytes) {
        return wrong("line_bytes", limits.line_bytes as u64, "2 bytes to 1 GiB");
    }
    if limits.type_bytes == 0 {
        return wrong("type_bytes", 0, "1 or more");
    }
    if limits.event_id_bytes == 0 {
        return wrong("event_id_bytes", 0, "1 or more");
    }
    Ok(())
}

fn check_names<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(PlanError::SameName { what, name: name.into() });
        }
    }
    Ok(())
}
