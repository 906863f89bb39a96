//! One instance: a store with a guest in it, and the calls into it. Each call gets its budget, and what goes wrong becomes
//! a [`CallError`]; after that the instance takes no more calls, since its memory may hold anything.

use crate::bindings::exports::tally::aggregator::aggregator::Guest;
use crate::bindings::{Plugin, PluginPre};
use crate::component::Description;
use crate::contract;
use crate::convert;
use crate::engine::Engine;
use crate::error::CallError;
use crate::limits::Limits;
use crate::sandbox::{LimitReached, Sandbox};
use crate::usage::Usage;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tally_event::columns::Rows;
use tally_event::schema::Manifest;
use tally_event::table::{Question, Table};
use wasmtime::component::{ComponentExportIndex, ResourceAny};
use wasmtime::{Store, Trap, WasmBacktrace};

/// What a call other than `save` and `report` may hand over, in bytes of host memory.
const SMALL_ANSWER: usize = 4 << 20;

/// The longest saved state that can be kept, in bytes.
const LONGEST_STATE: usize = 1 << 30;

/// Frames kept of a guest's backtrace.
const MAX_FRAMES: usize = 32;

/// A row that the aggregator would not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Row of the batch.
    pub row: u32,
    /// Index into the manifest's refusals.
    pub reason: u32,
}

/// An accumulator in an instance: a handle that only this instance understands. One that is dropped instead of
/// [discarded](Instance::discard) stays in the guest's memory until the instance goes.
#[derive(Debug)]
#[must_use = "an accumulator that is not discarded stays in the guest's memory"]
pub struct Accumulator {
    resource: ResourceAny,
    instance: u64,
}

/// One store with a configured guest in it. Can move between threads; used by one at a time.
pub struct Instance {
    store: Store<Sandbox>,
    plugin: Plugin,
    guest: wasmtime::component::Instance,
    limits: Arc<Limits>,
    backstop_ticks: u64,
    /// Told apart from every other instance of the process.
    id: u64,
    manifest: Option<Arc<Manifest>>,
    failure: Option<CallError>,
    fuel_used: u64,
    usage: Arc<Usage>,
}

/// What one call may use.
struct Budget {
    call: &'static str,
    fuel: u64,
    answer_bytes: usize,
}

impl Instance {
    /// A new guest that has not been configured.
    pub(crate) fn new(engine: &Engine, pre: &PluginPre<Sandbox>, name: &Arc<str>) -> Result<Self, CallError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let limits = engine.shared_limits();
        let mut store = engine.store(name.clone());
        let budget = Budget::small("instantiate", limits.fuel_base);
        budget.give(&mut store, engine.backstop_ticks());
        let instantiated = pre.instance_pre().instantiate(&mut store);
        let (fuel_used, guest) = budget.settle(&mut store, &limits, instantiated);
        let guest = guest?;
        let plugin = Plugin::new(&mut store, &guest).map_err(|error| CallError::Invalid(contract::mismatch(&error)))?;
        Ok(Self {
            store,
            plugin,
            guest,
            limits,
            backstop_ticks: engine.backstop_ticks(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            manifest: None,
            failure: None,
            fuel_used,
            usage: Arc::default(),
        })
    }

    /// What the guest says of itself.
    pub(crate) fn describe(&mut self) -> Result<Description, CallError> {
        let budget = Budget::small("describe", self.limits.fuel_base);
        let description = self.call(budget, |guest, store| guest.call_describe(store))?;
        Ok(Description {
            name: description.name,
            version: description.version,
            summary: description.summary,
            settings_schema: description.settings_schema,
        })
    }

    /// Configures the guest: its first call, and its only one of this kind.
    pub(crate) fn configure(&mut self, settings: &str) -> Result<Manifest, CallError> {
        let budget = Budget::small("configure", self.limits.fuel_for_bytes(settings.len()));
        let answer = self.call(budget, |guest, store| guest.call_configure(store, settings))?;
        answer.map(convert::manifest).map_err(CallError::Refused)
    }

    /// The manifest that the guest's answers are held against.
    pub(crate) fn promise(&mut self, manifest: Arc<Manifest>) {
        self.manifest = Some(manifest);
    }

    /// From now on its calls are counted there.
    pub(crate) fn count_into(&mut self, usage: Arc<Usage>) {
        self.usage = usage;
    }

    /// Calls the optional `selfcheck`.
    pub(crate) fn selfcheck(&mut self, export: &ComponentExportIndex) -> Result<(), CallError> {
        let budget = Budget::small("selfcheck", self.limits.fuel_base);
        let guest = self.guest;
        let (answer,) = self.call(budget, |_, store| {
            guest.get_typed_func::<(), (Result<(), String>,)>(&mut *store, export)?.call(&mut *store, ())
        })?;
        answer.map_err(CallError::Refused)
    }

    /// Calls the optional `shard-key`.
    pub(crate) fn shard_key(&mut self, export: &ComponentExportIndex) -> Result<Option<u32>, CallError> {
        let budget = Budget::small("shard-key", self.limits.fuel_base);
        let guest = self.guest;
        let (answer,) = self.call(budget, |_, store| {
            guest.get_typed_func::<(), (Option<u32>,)>(&mut *store, export)?.call(&mut *store, ())
        })?;
        Ok(answer)
    }

    /// An empty accumulator.
    pub fn create(&mut self) -> Result<Accumulator, CallError> {
        let budget = Budget::small("create", self.limits.fuel_base);
        let resource = self.call(budget, |guest, store| guest.accumulator().call_constructor(store))?;
        Ok(self.accumulator(resource))
    }

    /// Applies each row, in order, and gives the rows that the guest refused, in ascending order.
    ///
    /// # Panics
    ///
    /// If the rows do not fit the manifest this instance was configured with, or the accumulator is another instance's.
    pub fn apply(&mut self, accumulator: &Accumulator, rows: &Rows<'_>) -> Result<Vec<Refusal>, CallError> {
        let resource = self.own(accumulator);
        self.check_rows(rows);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let budget = Budget {
            call: "apply",
            fuel: self.limits.fuel_for_rows(rows.len()),
            answer_bytes: SMALL_ANSWER + rows.len() * size_of::<Refusal>(),
        };
        let columns = convert::column_params(rows);
        let batch = convert::batch(rows, &columns);
        let before = self.fuel_used;
        let refusals = self.call(budget, |guest, store| guest.accumulator().call_apply(store, resource, batch));
        self.usage.applied(rows.len(), self.fuel_used - before);
        let refusals: Vec<_> =
            refusals?.into_iter().map(|refusal| Refusal { row: refusal.row, reason: refusal.reason }).collect();
        self.valid(self.check_refusals(&refusals, rows.len()))?;
        Ok(refusals)
    }

    /// Merges `later`, a later stretch of the log, into `into`. `later` stays as it was.
    ///
    /// # Panics
    ///
    /// If both are the same, or one is another instance's.
    pub fn merge(&mut self, into: &Accumulator, later: &Accumulator) -> Result<(), CallError> {
        let (into, later) = (self.own(into), self.own(later));
        assert!(into != later, "an accumulator was to be merged into itself");
        let budget = Budget::small("merge", self.fuel_for_memory());
        self.call(budget, |guest, store| guest.accumulator().call_merge(store, into, later))
    }

    /// The accumulator as canonical bytes.
    ///
    /// # Panics
    ///
    /// If the accumulator is another instance's.
    pub fn save(&mut self, accumulator: &Accumulator) -> Result<Vec<u8>, CallError> {
        let resource = self.own(accumulator);
        let budget = Budget {
            call: "save",
            fuel: self.fuel_for_memory(),
            answer_bytes: self.limits.memory_bytes.min(LONGEST_STATE),
        };
        self.call(budget, |guest, store| guest.accumulator().call_save(store, resource))
    }

    /// An accumulator from saved bytes of the given state version. [`CallError::Refused`] if the guest will not take them.
    pub fn load(&mut self, state_version: &str, bytes: &[u8]) -> Result<Accumulator, CallError> {
        let budget = Budget::small("load", self.limits.fuel_for_bytes(bytes.len()));
        let answer = self.call(budget, |guest, store| guest.accumulator().call_load(store, state_version, bytes))?;
        let resource = answer.map_err(CallError::Refused)?;
        Ok(self.accumulator(resource))
    }

    /// The tables asked for, checked. Of a question for all tables, the first is the one-row summary.
    ///
    /// # Panics
    ///
    /// If the accumulator is another instance's.
    pub fn report(&mut self, accumulator: &Accumulator, question: &Question) -> Result<Vec<Table>, CallError> {
        let resource = self.own(accumulator);
        let budget = Budget { call: "report", fuel: self.fuel_for_memory(), answer_bytes: self.limits.report_bytes };
        let tables: Vec<&str> = question.tables.iter().map(String::as_str).collect();
        let parameters: Vec<(&str, &str)> =
            question.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let asked = convert::question(question, &tables, &parameters);
        let answer = self.call(budget, |guest, store| guest.accumulator().call_report(store, resource, asked))?;
        let tables: Vec<Table> = answer.map_err(CallError::Refused)?.into_iter().map(convert::table).collect();
        self.valid(check_tables(question, &tables, self.limits.report_bytes as u64))?;
        Ok(tables)
    }

    /// Frees an accumulator's memory within the instance.
    ///
    /// # Panics
    ///
    /// If the accumulator is another instance's.
    pub fn discard(&mut self, accumulator: Accumulator) -> Result<(), CallError> {
        let resource = self.own(&accumulator);
        let budget = Budget::small("discard", self.fuel_for_memory());
        self.call(budget, |_, store| resource.resource_drop(store))
    }

    /// Linear memory of the instance, in bytes. It never shrinks; a new instance that loads what this one saved is as
    /// small as can be.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes()
    }

    /// Fuel used by all calls so far.
    pub fn fuel_used(&self) -> u64 {
        self.fuel_used
    }

    /// The failure after which this instance takes no more calls.
    pub fn failure(&self) -> Option<&CallError> {
        self.failure.as_ref()
    }

    /// Makes one call with its budget. All calls go through here.
    fn call<T>(
        &mut self,
        budget: Budget,
        call: impl FnOnce(&Guest, &mut Store<Sandbox>) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        if let Some(failure) = &self.failure {
            return Err(CallError::Poisoned(Box::new(failure.clone())));
        }
        budget.give(&mut self.store, self.backstop_ticks);
        let answer = call(self.plugin.tally_aggregator_aggregator(), &mut self.store);
        let (fuel, answer) = budget.settle(&mut self.store, &self.limits, answer);
        self.fuel_used = self.fuel_used.saturating_add(fuel);
        self.usage.called(fuel, budget.fuel);
        if let Err(error) = &answer {
            self.failure = Some(error.clone());
        }
        answer
    }

    /// An answer that breaks the contract is as bad as a trap.
    fn valid(&mut self, checked: Result<(), String>) -> Result<(), CallError> {
        checked.map_err(|problem| {
            let error = CallError::Invalid(problem);
            self.failure = Some(error.clone());
            error
        })
    }

    fn fuel_for_memory(&self) -> u64 {
        self.limits.fuel_for_bytes(self.memory_bytes())
    }

    fn accumulator(&self, resource: ResourceAny) -> Accumulator {
        Accumulator { resource, instance: self.id }
    }

    fn own(&self, accumulator: &Accumulator) -> ResourceAny {
        assert_eq!(accumulator.instance, self.id, "an accumulator was used with another instance than its own");
        accumulator.resource
    }

    fn check_rows(&self, rows: &Rows<'_>) {
        let n = rows.len();
        let fields = self.manifest.as_ref().map_or(0, |m| m.fields.len());
        assert_eq!(rows.columns.len(), fields, "one column per manifest field");
        assert_eq!(rows.sequence_offsets.len(), n, "one sequence offset per row");
        assert_eq!(rows.event_types.len(), n, "one event type per row");
        for column in &rows.columns {
            assert_eq!(column.values.len(), n, "one value per row");
            let present = column.present.len();
            assert!(present == 0 || present == n, "presence for each row or for none");
        }
    }

    fn check_refusals(&self, refusals: &[Refusal], rows: usize) -> Result<(), String> {
        let reasons = self.manifest.as_ref().map_or(0, |m| m.refusals.len());
        let mut next = 0;
        for &Refusal { row, reason } in refusals {
            if row as usize >= rows || row < next {
                return Err(format!(
                    "`apply` refused row {row} of {rows}; each row may be refused once, in ascending order"
                ));
            }
            if reason as usize >= reasons {
                return Err(format!(
                    "`apply` refused a row for reason {reason}, but the manifest names {reasons} reasons"
                ));
            }
            next = row + 1;
        }
        Ok(())
    }
}

impl Budget {
    fn small(call: &'static str, fuel: u64) -> Self {
        Self { call, fuel, answer_bytes: SMALL_ANSWER }
    }

    /// Sets what the store may use until it is set anew.
    fn give(&self, store: &mut Store<Sandbox>, backstop_ticks: u64) {
        // The only error is that fuel is off, and the engine turns it on.
        store.set_fuel(self.fuel).expect("fuel is on");
        store.set_epoch_deadline(backstop_ticks);
        store.set_hostcall_fuel(self.answer_bytes);
        store.data_mut().begin();
    }

    /// What the call used, and its answer or what went wrong.
    fn settle<T>(
        &self,
        store: &mut Store<Sandbox>,
        limits: &Limits,
        answer: wasmtime::Result<T>,
    ) -> (u64, Result<T, CallError>) {
        store.data_mut().end(self.call);
        let left = store.get_fuel().expect("fuel is on");
        let answer = answer.map_err(|error| self.failure(limits, &error));
        (self.fuel.saturating_sub(left), answer)
    }

    fn failure(&self, limits: &Limits, error: &wasmtime::Error) -> CallError {
        let call = self.call;
        if let Some(reached) = error.downcast_ref::<LimitReached>() {
            let reason = reached.to_string();
            return CallError::Memory { call, reason };
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => CallError::OutOfFuel { call, budget: self.fuel },
            Some(Trap::Interrupt) => CallError::Timeout { call, backstop: limits.backstop },
            Some(trap) => CallError::Trap {
                call,
                reason: trap.to_string().replace("wasm trap: ", ""),
                backtrace: backtrace(error),
            },
            None => CallError::Invalid(self.other_failure(error)),
        }
    }

    /// What is neither a trap nor a limit: an answer that could not be taken over.
    fn other_failure(&self, error: &wasmtime::Error) -> String {
        let (call, cause) = (self.call, error.root_cause().to_string());
        match cause.contains("fuel allocated for hostcalls") {
            true => format!("`{call}` handed over more than the {} bytes it may", self.answer_bytes),
            false => format!("`{call}`: {cause}"),
        }
    }
}

/// The guest's frames as `function+offset`, innermost first. A component that was stripped of its names has offsets only.
fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    let frames = backtrace.frames().iter().take(MAX_FRAMES).map(|frame| {
        let offset = frame.module_offset().unwrap_or(0);
        match frame.func_name() {
            Some(name) => format!("{name} (at {offset:#x})"),
            None => format!("function {} (at {offset:#x})", frame.func_index()),
        }
    });
    frames.collect::<Vec<_>>().join("\n")
}

fn check_tables(question: &Question, tables: &[Table], most_bytes: u64) -> Result<(), String> {
    let mut bytes: u64 = 0;
    for (index, table) in tables.iter().enumerate() {
        // What a table says of itself is small; what becomes of it when it is written need not be.
        bytes = bytes.saturating_add(table.rendered_bytes());
        if bytes > most_bytes {
            return Err(format!("`report` gave tables of more than {most_bytes} bytes, as they would be written"));
        }
        let is_summary = index == 0 && question.tables.is_empty();
        if question.row_limit > 0 && !is_summary && table.rows() > question.row_limit as usize {
            return Err(format!(
                "`report` gave {} rows in {:?}, but {} were asked for",
                table.rows(),
                table.name,
                question.row_limit
            ));
        }
        table.check().map_err(|error| format!("`report`: {error}"))?;
        if tables[..index].iter().any(|other| other.name == table.name) {
            return Err(format!("`report` gave table {:?} twice", table.name));
        }
    }
    // Who asks for tables by name gets those; only the full report begins with the summary.
    if !question.tables.is_empty() {
        return Ok(());
    }
    match tables.first() {
        None => Err("`report` gave no table; the first must be the summary".into()),
        Some(summary) if summary.rows() != 1 => Err(format!(
            "`report` gave {} rows in {:?}; the first table is the summary and has one row",
            summary.rows(),
            summary.name
        )),
        Some(_) => Ok(()),
    }
}
