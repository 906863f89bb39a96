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

/// How event times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampFormat {
    /// RFC 3339 text.
    #[default]
    Rfc3339,
    /// Seconds since the Unix epoch, as a JSON number or as text.
    Seconds,
    /// Milliseconds since the Unix epoch, as a JSON number or as text.
    Milliseconds,
    /// Microseconds since the Unix epoch, as a JSON number or as text.
    Microseconds,
}

/// How a source's lines map onto events. Logged with the plan, since replay decodes with it; a member that an older log
/// does not have is read as what the decoder of its day did.
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
    /// How the event time is written.
    #[serde(default)]
    pub timestamp_format: TimestampFormat,
    /// RFC 6901 pointers to the values that together identify the event; none when events have no ids.
    #[serde(default)]
    pub event_id: Vec<String>,
    /// What aggregators ask for, and where it is in the line; both RFC 6901 pointers, each standing for everything below
    /// as well. The longest that fits counts; `""` fits everything but the whole event.
    #[serde(default)]
    pub rename: Vec<(String, String)>,
    /// RFC 6901 pointers to what an event must have, in the aggregators' terms.
    #[serde(default)]
    pub required: Vec<String>,
}

impl Default for Preset {
    fn default() -> Self {
        Self {
            name: "default".into(),
            constant_type: None,
            type_path: "/type".into(),
            timestamp_path: "/timestamp".into(),
            timestamp_format: TimestampFormat::Rfc3339,
            event_id: vec!["/event_id".into()],
            rename: Vec::new(),
            required: Vec::new(),
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
