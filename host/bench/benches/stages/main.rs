//! How long single stages take on one core: `cargo bench -p tally-bench --bench stages`, after `cargo xtask build`.
//!
//! Every benchmark goes through the same generated lines. Divide by [`LINES`] for the cost per event; divan shows events per
//! second beside each time.

mod ground;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use tally_event::decode::Mode;
use tally_event::table::Question;
use tally_plugin::{Accumulator, Configured, Engine, Instance, Limits};
use tally_sdk::wire::exports::tally::aggregator::aggregator::GuestAccumulator;

/// Events that each benchmark goes through.
const LINES: usize = 200_000;

fn main() {
    divan::main();
}

#[divan::bench(args = ["w1", "w2"])]
fn decode(bencher: Bencher, lines: &str) {
    let lines = ground::lines(LINES, lines == "w2");
    let pieces = ground::pieces(&lines, ground::ROWS);
    let mut decoder = ground::decoder();
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| {
        for piece in &pieces {
            black_box(decoder.push(0, piece, Mode::Admit));
            black_box(decoder.finish());
        }
    });
}

#[divan::bench]
fn log_append(bencher: Bencher) {
    let lines = ground::lines(LINES, false);
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = ground::Appender::new(folder.path());
    let pieces = ground::pieces(&lines, ground::ROWS);
    bencher.counter(ItemsCount::new(LINES)).bench_local(|| pieces.iter().for_each(|piece| log.append(piece)));
}

fn plugin() -> Configured {
    let file = ground::built("TALLY_BUILT_PLUGINS_DIR", "plugins").join("video-actions.wasm");
    let bytes = std::fs::read(file).expect("`cargo xtask build` makes it");
    let engine = Engine::new(Limits::default(), None).expect("an engine");
    let component = engine.load(&bytes).expect("a component");
    component.configure("{}").expect("the default settings")
}

#[divan::bench(sample_count = 20)]
fn apply_wasm(bencher: Bencher) {
    let batches = ground::batches(&ground::lines(LINES, false));
    let plugin = plugin();
    bencher
        .counter(ItemsCount::new(LINES))
        .with_inputs(|| {
            let mut instance = plugin.instantiate().expect("an instance");
            let accumulator = instance.create().expect("an accumulator");
            (instance, accumulator)
        })
        .bench_local_refs(|(instance, accumulator)| {
            for batch in &batches {
                instance.apply(accumulator, &batch.for_subscriber(0).rows).expect("it applies");
            }
        });
}

#[divan::bench(sample_count = 20)]
fn apply_native(bencher: Bencher) {
    let batches = ground::wire_batches(&ground::lines(LINES, false));
    bencher.counter(ItemsCount::new(LINES)).with_inputs(|| (ground::native(), batches.clone())).bench_local_refs(
        |(native, batches)| {
            batches.drain(..).for_each(|batch| assert!(native.apply(batch).is_empty()));
        },
    );
}

/// The plugin with what is in it after all lines.
fn filled(plugin: &Configured) -> (Instance, Accumulator) {
    let mut instance = plugin.instantiate().expect("an instance");
    let accumulator = instance.create().expect("an accumulator");
    for batch in ground::batches(&ground::lines(LINES, false)) {
        instance.apply(&accumulator, &batch.for_subscriber(0).rows).expect("it applies");
    }
    (instance, accumulator)
}

#[divan::bench]
fn save(bencher: Bencher) {
    let (mut instance, accumulator) = filled(&plugin());
    bencher.bench_local(|| instance.save(&accumulator).expect("it saves"));
}

#[divan::bench]
fn load(bencher: Bencher) {
    let plugin = plugin();
    let (mut instance, accumulator) = filled(&plugin);
    let saved = instance.save(&accumulator).expect("it saves");
    let version = plugin.manifest.state_version.clone();
    bencher.bench_local(|| {
        let loaded = instance.load(&version, &saved).expect("it loads");
        instance.discard(loaded).expect("it goes");
    });
}

#[divan::bench]
fn merge_into_the_same(bencher: Bencher) {
    let (mut instance, accumulator) = filled(&plugin());
    let total = instance.create().expect("an accumulator");
    bencher.bench_local(|| instance.merge(&total, &accumulator).expect("it merges"));
}

#[divan::bench]
fn report(bencher: Bencher) {
    let (mut instance, accumulator) = filled(&plugin());
    let question = Question { row_limit: 100, ..Question::default() };
    bencher.bench_local(|| instance.report(&accumulator, &question).expect("it reports"));
}
