//! The same aggregator in Rust, C, JavaScript and Python gives the same bytes and the same reports, and each obeys the laws.
//!
//! `cargo xtask languages` builds those that are not Rust and runs these tests; without it they are skipped, and say so. With
//! `TALLY_TESTS_NEED_LANGUAGES=1` what is missing is a failure.

use crate::signups::{Batch, Signups};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tally_event::table::{Question, Table};
use tally_plugin::{Accumulator, CallError, Configured, Engine, Instance, Limits};

/// Who is compared with whom: the first is the reference.
const TWINS: [&str; 4] = ["signups-rust", "signups-c", "signups-js", "signups-py"];

/// A twin, with the limits that a daemon has by default.
struct Twin {
    name: &'static str,
    configured: Configured,
    loading: Duration,
    bytes: usize,
}

/// Loaded once: the largest takes seconds to compile.
static LOADED: LazyLock<Vec<Twin>> = LazyLock::new(|| {
    let engine = Engine::new(Limits::default(), None).expect("engine");
    TWINS.into_iter().filter_map(|name| twin(&engine, name)).collect()
});

fn twin(engine: &Engine, name: &'static str) -> Option<Twin> {
    let path = folder(name).join(format!("{name}.wasm"));
    let Ok(bytes) = std::fs::read(&path) else {
        let what = format!("{} is missing (`cargo xtask languages` builds it)", path.display());
        assert!(std::env::var_os("TALLY_TESTS_NEED_LANGUAGES").is_none_or(|needed| needed != "1"), "{what}");
        // Past the test harness, which keeps to itself what a test prints that passes.
        writeln!(std::io::stderr(), "SKIPPED for {name}: {what}").expect("writing to stderr");
        return None;
    };
    let (component, loading) = timed(|| engine.load(&bytes));
    let component = component.unwrap_or_else(|error| panic!("{name}: {error}"));
    let configured = component.configure("{}").unwrap_or_else(|error| panic!("{name}: {error}"));
    Some(Twin { name, configured, loading, bytes: bytes.len() })
}

fn folder(name: &str) -> PathBuf {
    let (variable, default) = match name {
        "signups-rust" => ("TALLY_EXAMPLE_PLUGINS_DIR", "example-plugins"),
        _ => ("TALLY_LANGUAGES_DIR", "languages"),
    };
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(default);
    std::env::var_os(variable).map_or_else(usual, PathBuf::from)
}

#[allow(clippy::disallowed_methods, reason = "this measures")]
fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed())
}

/// An instance of a twin, and how to get accumulators into it.
struct Guest<'a> {
    events: &'a Signups,
    instance: Instance,
}

impl<'a> Guest<'a> {
    fn new(twin: &Twin, events: &'a Signups) -> Self {
        Self { events, instance: twin.configured.instantiate().expect("instantiate") }
    }

    /// An accumulator to which these events were applied, so many to a batch; and the rows that were refused.
    fn applied(&mut self, range: std::ops::Range<usize>, batch: usize) -> (Accumulator, Vec<usize>) {
        let accumulator = self.instance.create().expect("create");
        let refused = self.apply(&accumulator, range, batch);
        (accumulator, refused)
    }

    fn apply(&mut self, accumulator: &Accumulator, range: std::ops::Range<usize>, batch: usize) -> Vec<usize> {
        let mut refused = Vec::new();
        for start in range.clone().step_by(batch) {
            let rows = self.events.batch(start..(start + batch).min(range.end));
            let refusals = self.instance.apply(accumulator, &rows.rows()).expect("apply");
            refused.extend(refusals.iter().map(|refusal| start + refusal.row as usize));
        }
        refused
    }

    fn merged(&mut self, into: Accumulator, later: Accumulator) -> Accumulator {
        self.instance.merge(&into, &later).expect("merge");
        self.instance.discard(later).expect("discard");
        into
    }

    fn save(&mut self, accumulator: &Accumulator) -> Vec<u8> {
        self.instance.save(accumulator).expect("save")
    }

    fn report(&mut self, accumulator: &Accumulator, question: &Question) -> Vec<Table> {
        self.instance.report(accumulator, question).expect("report")
    }
}

fn questions() -> [Question; 4] {
    let page = |skip_rows, row_limit| Question { skip_rows, row_limit, ..Question::default() };
    let of = |name: &str| Question { tables: vec![name.into()], ..Question::default() };
    [page(0, 0), page(3, 10), page(1 << 40, 7), of("referrers")]
}

#[test]
fn twins_want_the_same() {
    let Some((reference, others)) = LOADED.split_first() else { return };
    for twin in others {
        assert_eq!(twin.configured.manifest, reference.configured.manifest, "{}", twin.name);
        let error = twin.configured.component.configure(r#"{"weight": 1}"#).err();
        assert!(error.is_some_and(|error| error.to_string().contains("weight")), "{}", twin.name);
    }
}

#[test]
fn twins_save_and_report_the_same() {
    let Some((reference, others)) = LOADED.split_first() else { return };
    // Exact, with referrers left out, with users estimated.
    for (count, users, referrers) in [(0, 1, 1), (1, 1, 1), (700, 300, 90), (3000, 900, 1200), (8000, 6000, 4000)] {
        let events = Signups::new(count, users, referrers);
        let mut expected = Guest::new(reference, &events);
        let (state, refused) = expected.applied(0..count, 1000);
        let saved = expected.save(&state);
        let reports = questions().map(|question| expected.report(&state, &question));
        for twin in others {
            let mut guest = Guest::new(twin, &events);
            let (state, others_refused) = guest.applied(0..count, 1000);
            assert_eq!(others_refused, refused, "{}: {count} events", twin.name);
            for (question, report) in questions().iter().zip(&reports) {
                assert_eq!(&guest.report(&state, question), report, "{}: {count} events, {question:?}", twin.name);
            }
            assert_eq!(guest.save(&state), saved, "{}: {count} events", twin.name);
        }
    }
}

#[test]
fn the_laws_hold_in_every_language() {
    let (count, batch) = (3000, 500);
    let events = Signups::new(count, 2500, 1500);
    for twin in LOADED.iter() {
        let name = twin.name;
        let mut guest = Guest::new(twin, &events);
        let (whole, _) = guest.applied(0..count, count);
        let saved = guest.save(&whole);
        let empty = guest.applied(0..0, 1).0;
        let (small, _) = guest.applied(0..count, 37);
        assert_eq!(guest.save(&small), saved, "{name}: batches of 37");

        let mut part = |range| guest.applied(range, batch).0;
        let (a, b, c) = (part(0..900), part(900..1100), part(1100..count));
        let ab = guest.merged(a, b);
        let left = guest.merged(ab, c);
        assert_eq!(guest.save(&left), saved, "{name}: (a b) c");
        let mut part = |range| guest.applied(range, batch).0;
        let (a, b, c) = (part(0..900), part(900..1100), part(1100..count));
        let cb = guest.merged(c, b);
        let right = guest.merged(cb, a);
        assert_eq!(guest.save(&right), saved, "{name}: (c b) a");
        let with_empty = guest.merged(right, empty);
        assert_eq!(guest.save(&with_empty), saved, "{name}: with the empty one");
        let empty = guest.applied(0..0, 1).0;
        let into_empty = guest.merged(empty, with_empty);
        assert_eq!(guest.save(&into_empty), saved, "{name}: into the empty one");

        let (half, _) = guest.applied(0..1234, batch);
        let half = guest.save(&half);
        let mut other = Guest::new(twin, &events);
        let loaded = other.instance.load("1", &half).expect("load");
        assert_eq!(other.save(&loaded), half, "{name}: saved, loaded and saved");
        other.apply(&loaded, 1234..count, batch);
        assert_eq!(other.save(&loaded), saved, "{name}: resumed");
    }
}

#[test]
fn damaged_bytes_are_refused_alike() {
    let events = Signups::new(40, 30, 9);
    for twin in LOADED.iter() {
        let mut guest = Guest::new(twin, &events);
        let (state, _) = guest.applied(0..40, 40);
        let saved = guest.save(&state);
        let mut refused = |bytes: &[u8], what: &str| match guest.instance.load("1", bytes) {
            Err(CallError::Refused(_)) => {}
            Err(other) => panic!("{}: {what}: {other}", twin.name),
            Ok(_) => panic!("{}: {what} was taken", twin.name),
        };
        for end in (0..saved.len()).step_by(5) {
            refused(&saved[..end], "a part");
        }
        refused(&[saved.as_slice(), &[0]].concat(), "a byte too many");
        let changed = |at: usize, value: u8| {
            let mut bytes = saved.clone();
            bytes[at] = value;
            bytes
        };
        refused(&changed(0, 1), "parts that are more than the total");
        refused(&changed(26, 1), "more referrers than may be");
        // The sign and the exponent of the first referrer's rank.
        refused(&changed(35, 0xff), "a rank that is none");
    }
}

/// Prints what each costs beside Rust, in one run; no figure makes it fail.
#[test]
fn what_each_language_costs() {
    if LOADED.len() < 2 {
        return;
    }
    let events = Signups::new(100_000, 10_000, 2000);
    let batches: Vec<_> = (0..events.len()).step_by(4000).map(|start| events.batch(start..start + 4000)).collect();
    let batches: Vec<_> = batches.iter().map(Batch::rows).collect();
    let mut reference = None;
    println!("twin            KB      load ms  ns per event  beside Rust  memory KB  fuel per event");
    for twin in LOADED.iter() {
        let mut best = Duration::MAX;
        let mut instance = twin.configured.instantiate().expect("instantiate");
        let before = instance.fuel_used();
        let rounds = 3;
        for _ in 0..rounds {
            let state = instance.create().expect("create");
            let apply = || batches.iter().try_for_each(|rows| instance.apply(&state, rows).map(drop));
            let (applied, time) = timed(apply);
            applied.expect("apply");
            best = best.min(time);
            instance.discard(state).expect("discard");
        }
        let fuel = (instance.fuel_used() - before) / (rounds * events.len() as u64);
        let nanos = best.as_nanos() as f64 / events.len() as f64;
        let beside = nanos / *reference.get_or_insert(nanos);
        println!(
            "{:12} {:8.1} {:10.1} {nanos:13.1} {beside:11.1}x {:10} {fuel:15}",
            twin.name,
            twin.bytes as f64 / 1024.0,
            twin.loading.as_secs_f64() * 1000.0,
            instance.memory_bytes() / 1024,
        );
    }
}
