//! The aggregator under trial, and how lines become its rows: the daemon's engine, the daemon's decoder, one subscriber.

use std::sync::Arc;

use tally_event::batch::Batch;
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits as LineLimits, Plan, Subscriber};
use tally_event::schema::{Manifest, Preset};
use tally_plugin::{Configured, Engine, Limits, PluginError};

/// When events without a time of their own arrive: any time does, but it must always be the same.
const ARRIVAL: i64 = 1_769_508_000_000_000;

/// A component with settings.
pub struct Subject {
    /// The aggregator.
    pub(crate) configured: Configured,
    plan: Arc<Plan>,
}

impl Subject {
    /// Loads a component as the daemon would, with its default limits.
    pub fn load(component: &[u8], settings: &str) -> Result<Self, PluginError> {
        let configured = Engine::new(Limits::default(), None)?.load(component)?.configure(settings)?;
        let subscriber = Subscriber { name: "it".into(), manifest: configured.manifest.clone() };
        let plan = Plan::new(vec![subscriber], vec![Preset::default()], LineLimits::default())
            .map_err(|error| PluginError::Manifest(error.to_string()))?;
        Ok(Self { configured, plan: Arc::new(plan) })
    }

    /// What it declares.
    pub fn manifest(&self) -> &Manifest {
        &self.configured.manifest
    }

    pub(crate) fn decoder(&self) -> Decoder {
        Decoder::new(self.plan.clone())
    }
}

/// The lines one after another, each with a newline: as a daemon gets them, which decodes many at once.
pub(crate) fn joined<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// Joined lines as one batch, the first of them with this sequence number. Each must be an event.
pub(crate) fn batch(decoder: &mut Decoder, lines: &str, first_sequence: u64) -> Batch {
    let pushed = decoder.push(0, lines.as_bytes(), Mode::Replay);
    assert_eq!(pushed.accepted as usize, lines.matches('\n').count(), "lines that are no events: {:?}", pushed.rejects);
    let mut batch = decoder.finish();
    batch.stamp(first_sequence, ARRIVAL);
    batch
}

/// Why a line is no event; none when it is one.
pub(crate) fn rejected(decoder: &mut Decoder, line: &str) -> Option<&'static str> {
    let pushed = decoder.push(0, line.as_bytes(), Mode::Replay);
    decoder.finish();
    match pushed.rejects.first() {
        Some(reject) => Some(reject.reason.as_str()),
        None => (pushed.accepted != 1).then_some("not one line"),
    }
}
