//! Several shards give what one gives, byte for byte, and fail as one.

use crate::fixture::{bytes, load};
use expect_test::expect;
use proptest::prelude::*;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use tally_event::batch::Batch;
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits as PlanLimits, Plan, Subscriber};
use tally_event::presets::shipped;
use tally_event::table::Question;
use tally_plugin::{CallError, Component, Configured, Limits, PluginError, Refusal, Shards};

fn small_batches_too() -> Limits {
    Limits { dealt_rows: 1, ..Limits::default() }
}

static ACTIONS: LazyLock<Component> = LazyLock::new(|| load(small_batches_too(), &bytes("video-actions-alt")));
static PROBE: LazyLock<Component> = LazyLock::new(|| load(small_batches_too(), &bytes("probe")));

fn probe(settings: &str) -> Configured {
    PROBE.configure(settings).expect("configure")
}

/// A batch of events as (user, post, kind): 0 another type, 1 an action that is refused, others actions.
fn batch(configured: &Configured, first_sequence: u64, events: &[(u32, u32, u8)]) -> Arc<Batch> {
    let lines: String = events.iter().map(|&(user, post, kind)| line(user, post, kind) + "\n").collect();
    let subscriber = Subscriber { name: "a".into(), manifest: configured.manifest.clone() };
    let plan = Plan::new(vec![subscriber], shipped().to_vec(), PlanLimits::default()).expect("a plan");
    let mut decoder = Decoder::new(Arc::new(plan));
    let pushed = decoder.push(0, lines.as_bytes(), Mode::Replay);
    assert_eq!(pushed.accepted as usize, events.len());
    let mut batch = decoder.finish();
    batch.stamp(first_sequence, 0);
    Arc::new(batch)
}

fn line(user: u32, post: u32, kind: u8) -> String {
    match kind {
        0 => format!(r#"{{"type":"homepage_fetch","user_id":"u{user}"}}"#),
        1 => format!(r#"{{"type":"action","user_id":"u{user}","resource_type":"posts:{post}","action":"stare"}}"#),
        _ => {
            let action = ["view", "play", "pause"][usize::from(kind) % 3];
            format!(r#"{{"type":"action","user_id":"u{user}","resource_type":"posts:{post}","action":"{action}"}}"#)
        }
    }
}

/// What came of applying batches, each in calls of at most `rows` rows: the refused rows, and what was saved, cut after each of
/// the batches in `cuts`.
fn applied(
    configured: &Configured,
    shards: usize,
    batches: &[Arc<Batch>],
    rows: usize,
    cuts: &[bool],
) -> (Vec<(usize, Refusal)>, Vec<Vec<u8>>) {
    let mut set = Shards::start(configured, shards).expect("start");
    assert_eq!(set.count(), shards);
    let (mut refused, mut saved) = (Vec::new(), Vec::new());
    for (index, batch) in batches.iter().enumerate() {
        let selected = batch.for_subscriber(0);
        for call in calls(selected.rows.len(), rows) {
            let refusals = set.apply(batch, 0, &selected, call.clone()).expect("apply");
            refused.extend(refusals.into_iter().map(|r| (index, Refusal { row: r.row + call.start as u32, ..r })));
        }
        if cuts.get(index) == Some(&true) {
            saved.push(set.take().expect("take"));
        }
    }
    saved.push(set.take().expect("take"));
    saved.push(set.take().expect("take"));
    (refused, saved)
}

fn calls(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(most).map(move |start| start..rows.min(start + most))
}

fn reports(configured: &Configured, saved: &[Vec<u8>]) -> Vec<String> {
    let mut instance = configured.instantiate().expect("instantiate");
    let report = |bytes: &Vec<u8>| {
        let loaded = instance.load(&configured.manifest.state_version, bytes).expect("load");
        format!("{:?}", instance.report(&loaded, &Question::default()).expect("report"))
    };
    saved.iter().map(report).collect()
}

/// Events of which `hot` in a hundred are one user's.
fn events() -> impl Strategy<Value = Vec<(u32, u32, u8)>> {
    (prop_oneof![Just(0u32), Just(90), 0..100u32], 1..400u32).prop_flat_map(|(hot, users)| {
        let user = (0..100u32, 1..=users).prop_map(move |(chance, user)| if chance < hot { 0 } else { user });
        prop::collection::vec((user, 0..7u32, 0..20u8), 0..300)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_number_of_shards_gives_the_same_bytes(
        batches in prop::collection::vec(events(), 1..6),
        rows in prop_oneof![1..20usize, 100..400usize],
        cuts in prop::collection::vec(any::<bool>(), 6),
        refused in 1..600u64,
    ) {
        let settings = format!(r#"{{"shard_key": 1, "refuse_on_sequence": {refused}}}"#);
        for configured in [ACTIONS.configure("{}").expect("configure"), probe(&settings)] {
            let mut next = 1;
            let batches: Vec<_> = batches.iter().map(|events| {
                let made = batch(&configured, next, events);
                next += events.len() as u64;
                made
            }).collect();
            let one = applied(&configured, 1, &batches, rows, &cuts);
            let tables = reports(&configured, &one.1);
            for shards in 2..=5 {
                let several = applied(&configured, shards, &batches, rows, &cuts);
                prop_assert_eq!(&several, &one, "{} shards", shards);
                prop_assert_eq!(reports(&configured, &several.1), tables.clone());
            }
        }
    }
}

/// Six hundred events: of 7 posts, one in ten refused.
fn many() -> Vec<(u32, u32, u8)> {
    (0..600).map(|n| (n * 31 % 211, n % 7, (n % 10) as u8 + 1)).collect()
}

#[test]
fn every_shard_gets_rows_and_small_batches_wake_nobody() {
    // A call of more rows than one shard may get traps.
    let most = |rows: usize| format!(r#"{{"shard_key": 1, "trap_above_rows": {rows}}}"#);
    for shards in [2, 3, 4] {
        let configured = probe(&most(600 / shards + 40));
        let made = batch(&configured, 1, &many());
        let selected = made.for_subscriber(0);
        assert!(Shards::start(&configured, 1).unwrap().apply(&made, 0, &selected, 0..600).is_err());
        let mut set = Shards::start(&configured, shards).unwrap();
        assert_eq!(set.apply(&made, 0, &selected, 0..600), Ok(vec![]));
        assert_eq!(set.apply(&made, 0, &selected, 7..7 + shards - 1), Ok(vec![]));
        assert_eq!(set.shared_calls(), 1);
    }
    let limits = Limits { dealt_rows: 301, ..Limits::default() };
    let configured = load(limits, &bytes("probe")).configure(&most(599)).unwrap();
    let made = batch(&configured, 1, &many());
    let refused = Shards::start(&configured, 2).unwrap().apply(&made, 0, &made.for_subscriber(0), 0..600);
    assert!(matches!(refused, Err(CallError::Trap { .. })), "two shards want 602 rows to share them: {refused:?}");
}

#[test]
fn a_hot_user_stalls_no_shard() {
    let events: Vec<_> = (0..1000).map(|n| (if n % 10 == 0 { n } else { 5000 }, n % 7, 2)).collect();
    for shards in [2, 3, 5] {
        let configured = probe(&format!(r#"{{"shard_key": 1, "trap_above_rows": {}}}"#, 1000 / shards + 20));
        let made = batch(&configured, 1, &events);
        let mut set = Shards::start(&configured, shards).unwrap();
        assert_eq!(set.apply(&made, 0, &made.for_subscriber(0), 0..1000), Ok(vec![]));
    }
}

#[test]
fn a_trap_in_any_shard_fails_the_call_and_nothing_hangs() {
    for sequence in [1, 77, 300, 301, 599, 600] {
        let configured = probe(&format!(r#"{{"shard_key": 1, "trap_on_sequence": {sequence}}}"#));
        let made = batch(&configured, 1, &many());
        let selected = made.for_subscriber(0);
        let mut set = Shards::start(&configured, 3).unwrap();
        let error = set.apply(&made, 0, &selected, 0..600).expect_err("one of them trapped");
        assert!(matches!(error, CallError::Trap { call: "apply", .. }), "{error:?}");
        let error = set.apply(&made, 0, &selected, 0..600).expect_err("it takes no more calls");
        assert!(matches!(error, CallError::Poisoned(_)), "{error:?}");
    }
    for call in ["save", "merge", "load"] {
        let configured = probe(&format!(r#"{{"shard_key": 1, "trap_in": "{call}"}}"#));
        let made = batch(&configured, 1, &many());
        let mut set = Shards::start(&configured, 3).unwrap();
        assert_eq!(set.apply(&made, 0, &made.for_subscriber(0), 0..600), Ok(vec![]));
        assert!(matches!(set.take(), Err(CallError::Trap { .. })), "{call}");
    }
}

#[test]
fn an_endless_loop_in_every_shard_ends() {
    let limits = Limits { fuel_base: 10_000_000, fuel_per_row: 1000, ..small_batches_too() };
    let configured = load(limits, &bytes("probe")).configure(r#"{"shard_key": 1, "loop_in": "apply"}"#).unwrap();
    let made = batch(&configured, 1, &many());
    let failed = Shards::start(&configured, 3).unwrap().apply(&made, 0, &made.for_subscriber(0), 0..600);
    assert!(matches!(failed, Err(CallError::OutOfFuel { .. })), "{failed:?}");
}

#[test]
fn memory_is_that_of_all_shards() {
    let configured = probe(r#"{"shard_key": 1}"#);
    let memory = |shards| Shards::start(&configured, shards).unwrap().memory_bytes();
    assert_eq!(memory(3), 3 * memory(1));
}

#[test]
fn a_plugin_without_a_shard_key_runs_in_one() {
    let selfcheck = load(small_batches_too(), &bytes("selfcheck")).configure("{}").unwrap();
    for configured in [probe("{}"), selfcheck] {
        assert_eq!(configured.shard_key, None);
        assert_eq!(Shards::start(&configured, 4).unwrap().count(), 1);
    }
    assert_eq!(probe(r#"{"shard_key": 1}"#).shard_key, Some(1));
    let actions = ACTIONS.configure("{}").unwrap();
    assert_eq!(actions.shard_key.map(|field| actions.manifest.fields[field].path.as_str()), Some("/user_id"));
}

#[test]
fn shard_keys_that_cannot_be_are_refused() {
    let refused = |settings: &str, message: expect_test::Expect| {
        let error = PROBE.configure(settings).err().expect("refused");
        message.assert_eq(&error.to_string());
    };
    refused(
        r#"{"shard_key": 7}"#,
        expect!["the plugin's shard key is not acceptable: index 7 is out of range: there are 2 fields"],
    );
    refused(
        r#"{"shard_key": 0}"#,
        expect![[
            r#"the plugin's shard key is not acceptable: the field "/n" is of kind integer; rows are dealt by text"#
        ]],
    );
    refused(
        r#"{"shard_key": 1, "log_order": true}"#,
        expect![
            "the plugin's shard key is not acceptable: the ordering is log-order; only accumulators whose merge commutes can be dealt rows"
        ],
    );
    let error = PROBE.configure(r#"{"shard_key": 1, "trap_in": "shard_key"}"#).err().unwrap();
    assert!(matches!(&error, PluginError::Call(CallError::Trap { call: "shard-key", .. })), "{error:?}");
}

#[test]
fn memory_of_a_busy_stretch_is_given_back() {
    let configured = ACTIONS.configure("{}").expect("configure");
    let many: Vec<(u32, u32, u8)> = (0..300_000).map(|user| (user, user % 10, 2)).collect();
    for shards in [1, 2] {
        let mut set = Shards::start(&configured, shards).expect("start");
        let new = set.memory_bytes();
        let busy = |set: &mut Shards, events: &[(u32, u32, u8)]| {
            let batch = batch(&configured, 1, events);
            let selected = batch.for_subscriber(0);
            set.apply(&batch, 0, &selected, 0..selected.rows.len()).expect("apply");
        };
        busy(&mut set, &many);
        let saved = set.take().expect("take");
        let grown = set.memory_bytes();
        assert!(grown > new + (5 << 20), "{grown} bytes after {new}");
        busy(&mut set, &many[..2000]);
        set.rest();
        assert_eq!(set.memory_bytes(), grown, "something is in it");
        let few = set.take().expect("take");
        set.rest();
        assert_eq!(set.memory_bytes(), new, "nothing is in it");
        busy(&mut set, &many);
        assert!(set.take().expect("take") == saved);
        set.rest();
        busy(&mut set, &many[..2000]);
        set.rest();
        assert!(set.take().expect("take") == few, "what is in it stays");
    }
}
