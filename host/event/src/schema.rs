//! What an aggregator declares: fields, event types, ordering. The native twin of the records in `wit/`.

use serde::{Deserialize, Serialize};

/// How a JSON value is read into a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A JSON string.
    Text,
    /// An integral JSON number within `i64`.
    Integer,
    /// Exact decimal from the JSON digits, delivered scaled by 10^scale.
    Decimal(u8),
    /// Any JSON number, as the nearest `f64`.
    Float,
    /// `true` or `false`.
    Boolean,
    /// RFC 3339 text, delivered as microseconds since the Unix epoch, UTC.
    Timestamp,
    /// The raw JSON bytes of the value, as text.
    Json,
}

/// Where in an event's JSON object a column comes from, and how it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Field {
    /// RFC 6901 pointer: `/user_id`; `""` is the whole event (kind `Json` only).
    pub path: String,
    /// How the value is read.
    pub kind: Kind,
}

/// One event type an aggregator subscribes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventType {
    /// The event's `type`; `*` takes every type that no other entry names.
    pub name: String,
    /// Indices into [`Manifest::fields`] that an event of this type must have.
    pub required: Vec<u32>,
    /// Indices into [`Manifest::fields`] that it may have.
    pub optional: Vec<u32>,
}

/// How accumulators merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordering {
    /// merge(a, b) = merge(b, a).
    Commutative,
    /// Later stretches of the log merge into earlier ones.
    LogOrder,
}

/// What an aggregator, with its settings, wants and keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The columns wanted.
    pub fields: Vec<Field>,
    /// The event types subscribed to.
    pub event_types: Vec<EventType>,
    /// How accumulators merge.
    pub ordering: Ordering,
    /// Changes whenever saved bytes change meaning.
    pub state_version: String,
    /// Older state versions that `load` takes.
    pub loads: Vec<String>,
    /// Reasons for which `apply` may refuse a row.
    pub refusals: Vec<String>,
}

/// How a source's lines map onto events. Logged with the plan, since replay decodes with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Preset {
    /// The preset's name in the configuration; `default` for none.
    pub name: String,
    /// Gives every event this type; without it the event must carry a `type`.
    pub constant_type: Option<String>,
    /// RFC 6901 pointer to the event type.
    pub type_path: String,
    /// RFC 6901 pointer to the event time.
    pub timestamp_path: String,
}

impl Default for Preset {
    fn default() -> Self {
        Self {
            name: "default".into(),
            constant_type: None,
            type_path: "/type".into(),
            timestamp_path: "/timestamp".into(),
        }
    }
}

/// What is wrong with a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest: {place}: {problem}")]
pub struct ManifestError {
    /// Where, e.g. `event_types[1].required`.
    pub place: String,
    /// What.
    pub problem: String,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Integer => f.write_str("integer"),
            Self::Decimal(scale) => write!(f, "decimal({scale})"),
            Self::Float => f.write_str("float"),
            Self::Boolean => f.write_str("boolean"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Json => f.write_str("json"),
        }
    }
}
