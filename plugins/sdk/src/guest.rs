//! The component: an [`Aggregator`] behind the contract's functions. Called by the host, one call at a time.
//!
//! What is wrong with settings, saved bytes or a report is an error that the host shows. A broken promise of the host
//! or of the author (a batch that doesn't fit the manifest, an undeclared refusal) panics: the host sees a trap, and the
//! panic's message in the log.

use crate::aggregator::Aggregator;
use crate::event::{Binding, Event, Schema};
use crate::question::Question;
use crate::report::Report;
use crate::state::Reader;
use crate::wire::exports::tally::aggregator::{aggregator as exported, shards};
use crate::wire::tally::aggregator::types::{self, Batch, Description, Kind, Manifest, Refusal as RefusedRow, Table};
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

/// What `configure` fixes for everything after it.
pub(crate) struct Configured<A: Aggregator> {
    pub(crate) settings: A::Settings,
    pub(crate) schema: Schema,
    pub(crate) state_version: String,
    /// Index of the field by whose text events may be dealt.
    pub(crate) shard_key: Option<u32>,
}

impl<A: Aggregator> Configured<A> {
    pub(crate) fn new(settings: &str) -> Result<Self, String> {
        let settings: A::Settings =
            serde_json::from_str(settings).map_err(|error| format!("the settings of {}: {error}", A::NAME))?;
        A::new(&settings).map_err(|error| format!("the settings of {}: {error}", A::NAME))?;
        let mut schema = Schema::default();
        <A::Event<'static> as Event<'static>>::declare(&mut schema);
        A::REFUSALS.iter().for_each(|&reason| schema.refusal(reason));
        let shard_key = A::SHARD_KEY.map(|path| {
            let index = schema.index(path, Kind::Text);
            index.map(|index| index as u32).ok_or_else(|| {
                format!("the shard key {path:?} of {} is no field of its events that is read as text", A::NAME)
            })
        });
        Ok(Self { state_version: A::state_version(&settings), shard_key: shard_key.transpose()?, settings, schema })
    }

    pub(crate) fn manifest(&self) -> Manifest {
        Manifest {
            fields: self.schema.fields.clone(),
            event_types: self.schema.event_types.clone(),
            ordering: A::ORDERING.into(),
            state_version: self.state_version.clone(),
            loads: A::LOADS.iter().map(|&version| version.to_owned()).collect(),
            refusals: self.schema.refusals.iter().map(|&reason| reason.to_owned()).collect(),
        }
    }

    pub(crate) fn empty(&self) -> A {
        A::new(&self.settings).expect("settings that once gave a state always do")
    }

    pub(crate) fn apply(&self, state: &mut A, batch: &Batch) -> Vec<RefusedRow> {
        let binding = Binding::new(&self.schema, batch);
        let columns = A::Event::columns(&binding);
        let mut refused = Vec::new();
        for row in binding.rows() {
            let applied = A::Event::read(&columns, row).and_then(|event| state.apply(&event));
            if let Err(refusal) = applied {
                refused.push(RefusedRow { row: row.index() as u32, reason: self.schema.reason(refusal) });
            }
        }
        refused
    }

    pub(crate) fn merge(&self, state: &mut A, later: &A) {
        state.merge(later);
        state.rebuild();
    }

    pub(crate) fn save(&self, state: &A) -> Vec<u8> {
        let mut out = Vec::new();
        state.save(&mut out);
        out
    }

    pub(crate) fn load(&self, version: &str, saved: &[u8]) -> Result<A, String> {
        let mut state = self.empty();
        let mut reader = Reader::new(saved);
        let loaded = if version == self.state_version {
            state.load(&mut reader)
        } else if A::LOADS.contains(&version) {
            state.load_older(version, &mut reader)
        } else {
            return Err(format!(
                "the state was saved as version {version:?}; this {} {} with its settings takes {:?}",
                A::NAME,
                A::VERSION,
                self.state_version
            ));
        };
        loaded.and_then(|()| reader.finish()).map_err(|error| format!("a saved state of {}: {error}", A::NAME))?;
        state.rebuild();
        Ok(state)
    }

    pub(crate) fn report(&self, state: &A, question: &Question) -> Result<Vec<Table>, String> {
        let mut report = Report::new();
        state.report(question, &mut report)?;
        report.finish(question)
    }
}

thread_local! {
    /// The component's one configuration, a `Configured` of its aggregator.
    static CONFIGURED: RefCell<Option<Rc<dyn Any>>> = const { RefCell::new(None) };
}

fn configured<A: Aggregator>() -> Rc<Configured<A>> {
    CONFIGURED
        .with_borrow(|configured| configured.clone())
        .and_then(|configured| configured.downcast().ok())
        .expect("the host calls configure first")
}

/// What [`crate::export!`] exports.
#[derive(Debug)]
pub struct Component<A>(PhantomData<A>);

/// A state behind a handle.
pub struct Accumulator<A: Aggregator> {
    configured: Rc<Configured<A>>,
    state: RefCell<A>,
}

impl<A: Aggregator> exported::Guest for Component<A> {
    type Accumulator = Accumulator<A>;

    fn describe() -> Description {
        tell_panics();
        Description {
            name: A::NAME.to_owned(),
            version: A::VERSION.to_owned(),
            summary: A::SUMMARY.to_owned(),
            settings_schema: A::SETTINGS_SCHEMA.to_owned(),
        }
    }

    fn configure(settings: String) -> Result<Manifest, String> {
        tell_panics();
        let configured = Configured::<A>::new(&settings)?;
        let manifest = configured.manifest();
        CONFIGURED.set(Some(Rc::new(configured)));
        Ok(manifest)
    }
}

impl<A: Aggregator> shards::Guest for Component<A> {
    fn shard_key() -> Option<u32> {
        configured::<A>().shard_key
    }
}

impl<A: Aggregator> exported::GuestAccumulator for Accumulator<A> {
    fn new() -> Self {
        let configured = configured::<A>();
        let state = RefCell::new(configured.empty());
        Self { configured, state }
    }

    fn apply(&self, events: Batch) -> Vec<RefusedRow> {
        self.configured.apply(&mut self.state.borrow_mut(), &events)
    }

    fn merge(&self, later: exported::AccumulatorBorrow<'_>) {
        let later = later.get::<Self>();
        self.configured.merge(&mut self.state.borrow_mut(), &later.state.borrow());
    }

    fn save(&self) -> Vec<u8> {
        self.configured.save(&self.state.borrow())
    }

    fn load(state_version: String, saved: Vec<u8>) -> Result<exported::Accumulator, String> {
        let configured = configured::<A>();
        let state = RefCell::new(configured.load(&state_version, &saved)?);
        Ok(exported::Accumulator::new(Self { configured, state }))
    }

    fn report(&self, question: types::Question) -> Result<Vec<Table>, String> {
        self.configured.report(&self.state.borrow(), &question.into())
    }
}

/// A trap says nothing of itself, so panics go to the log first.
fn tell_panics() {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
}
