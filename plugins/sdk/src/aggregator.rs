//! What an author implements. Knows nothing of columns or Wasm.

use crate::event::Event;
use crate::question::Question;
use crate::report::Report;
use crate::state::{LoadError, Reader, State};
use crate::wire::tally::aggregator::types;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An aggregator: a state, what is done to it on each event, and what it says.
///
/// [`State`] saves, loads and merges it, and can mostly be derived. See the crate's page for an example.
pub trait Aggregator: State + Sized + 'static {
    /// The name it has unless the configuration gives another.
    const NAME: &'static str;
    /// The plugin's own version; `env!("CARGO_PKG_VERSION")` as a rule.
    const VERSION: &'static str;
    /// One line saying what it computes.
    const SUMMARY: &'static str;
    /// Must change whenever saved bytes change meaning.
    const STATE_VERSION: &'static str;
    /// JSON Schema of the settings.
    const SETTINGS_SCHEMA: &'static str = r#"{"type":"object","additionalProperties":false}"#;
    /// Older state versions that [`Aggregator::load_older`] takes.
    const LOADS: &'static [&'static str] = &[];
    /// Reasons for which [`Aggregator::apply`] may refuse an event (those of `#[field(.., refuse = "..")]` aside).
    const REFUSALS: &'static [&'static str] = &[];
    /// Whether merging commutes.
    const ORDERING: Ordering = Ordering::Commutative;
    /// The path of a required or optional [`crate::Text`] of the event by whose value the host may deal events to several
    /// states side by side (`shards` in its configuration), which it merges before it saves: best the one that most of the
    /// state is kept by. Needs a merge that commutes, and relies on no more than that: however events are dealt, applying each
    /// share and merging equals applying all of them ([`crate::testing::check_laws`] checks it).
    const SHARD_KEY: Option<&'static str> = None;

    /// The settings, read from a JSON object. `{}` must do.
    type Settings: DeserializeOwned;
    /// What is applied: a struct, or an enum of structs for several event types, with `#[derive(Event)]`.
    type Event<'a>: Event<'a>;

    /// The empty state under these settings. The error is for whoever wrote the settings: say what to change.
    fn new(settings: &Self::Settings) -> Result<Self, String>;

    /// Applies one event. A refused event must change nothing: look first, then count.
    fn apply(&mut self, event: &Self::Event<'_>) -> Result<(), Refusal>;

    /// Fills in the tables that are asked for; the summary always.
    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String>;

    /// Called after a load or a merge, to rebuild what is `#[state(skip)]` and follows from the rest.
    fn rebuild(&mut self) {}

    /// The state version under these settings, for settings that change what saved bytes mean.
    fn state_version(_settings: &Self::Settings) -> String {
        Self::STATE_VERSION.to_owned()
    }

    /// Loads bytes saved under an older state version, one of [`Aggregator::LOADS`], into the empty `self`. Loading two parts and merging
    /// them must give what loading the merged parts gives, byte for byte: the host tries it on what is saved before it swaps.
    fn load_older(&mut self, version: &str, _saved: &mut Reader<'_>) -> Result<(), LoadError> {
        Err(LoadError::new(format!("it cannot load state version {version:?}")))
    }
}

/// Whether merging commutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// `merge(a, b) = merge(b, a)`: what sums, counts, sets and maps of them give.
    Commutative,
    /// Later stretches of the log merge into earlier ones, as for funnels and "first seen".
    LogOrder,
}

impl From<Ordering> for types::Ordering {
    fn from(ordering: Ordering) -> Self {
        match ordering {
            Ordering::Commutative => Self::Commutative,
            Ordering::LogOrder => Self::LogOrder,
        }
    }
}

/// Why an event was not counted: one of [`Aggregator::REFUSALS`], or what a field's `refuse` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub &'static str);

/// The settings of an aggregator that has none: any key is an error.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}
