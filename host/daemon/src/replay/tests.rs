//! Several followers on one log: whoever is ahead, each sees what it would see alone.

use std::sync::Arc;

use proptest::prelude::*;
use tally_aggregate::{Barrier, BodyBuilder, Control};
use tally_event::batch::Batch;
use tally_event::columns::ValuesRef;
use tally_event::plan::Subscriber;
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset};
use tally_testkit::MemStorage;
use tally_wal::{Log, Options};

use super::Replay;
use crate::feed::{Feed, Position, Step};
use crate::tail::Tail;

const LARGE: usize = 1 << 20;

/// Every third cut changes where lines have their type: by the other preset they are no events.
fn is_changed(cut: u64) -> bool {
    cut / 3 % 2 == 1
}

fn presets(cut: u64) -> Vec<Preset> {
    let type_path = if is_changed(cut) { "/kind" } else { "/type" };
    vec![Preset { type_path: type_path.into(), ..Preset::default() }]
}

/// An aggregator that wants one field. Some want another one from the fifth cut on.
fn subscriber(name: &str, field: &str, cut: u64) -> Subscriber {
    let path = if cut >= 5 && field == "/changing" { "/n" } else { field };
    let manifest = Manifest {
        fields: vec![Field { path: path.into(), kind: Kind::Json }],
        event_types: vec![EventType { name: "t".into(), required: vec![0], optional: vec![] }],
        ordering: Ordering::Commutative,
        state_version: "1".into(),
        loads: vec![],
        refusals: vec![],
    };
    Subscriber { name: name.into(), manifest: Arc::new(manifest) }
}

struct World {
    log: Log<MemStorage>,
    body: BodyBuilder,
    events: u32,
    cut: u64,
    /// Behind each barrier, and before everything.
    positions: Vec<Position>,
}

impl World {
    fn new() -> Self {
        let options = Options { spare_segments: 0, segment_bytes: 16 << 10, ..Options::default() };
        let (mut log, _) = Log::open(MemStorage::new(), options).expect("opens");
        roll(&mut log);
        Self { log, body: BodyBuilder::default(), events: 0, cut: 0, positions: vec![Position::default()] }
    }

    fn events(&mut self, count: u32) -> &mut Self {
        let first = self.log.next_sequence() + u64::from(self.events);
        let key = if is_changed(self.cut) { "kind" } else { "type" };
        let line = |sequence: u64| {
            let event_type = if sequence.is_multiple_of(3) { "other" } else { "t" };
            format!(
                "{{\"{key}\":\"{event_type}\",\"u\":\"{}\",\"changing\":[{sequence}],\"n\":{sequence}}}\n",
                sequence % 5
            )
        };
        let lines: String = (first..first + u64::from(count)).map(line).collect();
        self.body.events(1_000 + first as i64, 0, count, [lines.as_bytes()].into_iter());
        self.events += count;
        self
    }

    fn barrier(&mut self) -> &mut Self {
        self.cut += 1;
        let (at, last_sequence) = (0, self.log.next_sequence() + u64::from(self.events) - 1);
        let (reason, flush, plan) = (String::new(), None, None);
        self.body.barrier(&Barrier { cut: self.cut, reason, at, last_sequence, flush, plan, anchor: false });
        self.positions.push(Position { frame: self.log.next_frame(), cut: self.cut });
        self
    }

    fn frame(&mut self) -> &mut Self {
        // A barrier says which frame it stands in, so the segment is changed behind a frame.
        self.log.append(std::mem::take(&mut self.events), self.body.bytes()).expect("appends");
        self.body = BodyBuilder::default();
        if self.log.needs_roll(4 << 10) {
            roll(&mut self.log);
        }
        self
    }

    fn replay(&self, max_bytes: usize) -> Arc<Replay<MemStorage>> {
        Arc::new(Replay::new(self.log.reader(), max_bytes))
    }

    fn follower(
        &self,
        replay: Option<&Arc<Replay<MemStorage>>>,
        name: &'static str,
        field: &'static str,
        from: Position,
    ) -> Follower {
        let tail = Tail::new(self.log.next_frame() - 1, 0);
        tail.close();
        let (tail, wanted) = (Some(Arc::new(tail)), subscriber(name, field, from.cut));
        let feed = Feed::new(tail, self.log.reader(), from, Some(wanted), presets(from.cut));
        let feed = match replay {
            Some(replay) => feed.together(replay),
            None => feed,
        };
        Follower { name, field, feed, last: (from, 0), seen: Vec::new(), batches: Vec::new(), held: 0, ended: false }
    }
}

fn roll(log: &mut Log<MemStorage>) {
    let mut opening = BodyBuilder::default();
    opening.opening(&Control::default());
    log.roll(opening.bytes()).expect("rolls");
}

struct Follower {
    name: &'static str,
    field: &'static str,
    feed: Feed<MemStorage>,
    /// The last barrier, and how much was seen by then.
    last: (Position, usize),
    seen: Vec<String>,
    batches: Vec<Arc<Batch>>,
    held: usize,
    ended: bool,
}

impl Follower {
    fn step(&mut self) {
        match self.feed.step().expect("reads") {
            Step::Nothing => self.held += 1,
            Step::End => self.ended = true,
            Step::Events { batch, subscriber, rows, arrival } => {
                self.seen.push(shown(&batch, subscriber, arrival));
                assert_eq!(rows, 0..batch.accepted());
                self.batches.push(batch);
            }
            Step::Barrier { frame, barrier } => {
                self.seen.push(format!("cut {} in frame {frame}", barrier.cut));
                self.last = (Position { frame, cut: barrier.cut }, self.seen.len());
                self.become_subscriber();
            }
        }
    }

    fn become_subscriber(&mut self) {
        let cut = self.last.0.cut;
        self.feed.become_subscriber(Some(subscriber(self.name, self.field, cut)), presets(cut));
    }

    fn begin_again(&mut self) {
        self.become_subscriber();
        self.feed.rewind(self.last.0);
        self.seen.truncate(self.last.1);
        self.ended = false;
    }

    fn run(mut self) -> Self {
        while !self.ended {
            self.step();
        }
        self
    }
}

/// Everything that a follower is given of a batch.
fn shown(batch: &Batch, subscriber: usize, arrival: i64) -> String {
    let selected = batch.for_subscriber(subscriber);
    let ValuesRef::Text { codes, ends, bytes, .. } = &selected.rows.columns[0].values else { panic!("JSON is text") };
    let text = |code: u32| {
        let start = if code == 0 { 0 } else { ends[code as usize - 1] };
        String::from_utf8_lossy(&bytes[start as usize..ends[code as usize] as usize]).into_owned()
    };
    let texts: Vec<String> = codes.iter().map(|code| text(*code)).collect();
    format!(
        "{} from {}: {:?} at {:?} with {texts:?}, not {}, refused {:?}, arrived {arrival}",
        batch.accepted(),
        batch.first_sequence(),
        selected.rows.sequence_offsets,
        selected.rows.times,
        selected.not_subscribed,
        selected.refused,
    )
}

/// Twenty frames of two batches each.
fn usual() -> World {
    let mut world = World::new();
    for _ in 0..20 {
        world.events(7).events(5).frame();
    }
    world
}

fn alone(world: &World, name: &'static str, field: &'static str, from: Position) -> Vec<String> {
    world.follower(None, name, field, from).run().seen
}

#[test]
fn what_one_decodes_the_others_get() {
    let world = usual();
    let replay = world.replay(LARGE);
    let start = Position::default();
    let (mut a, mut b) =
        (world.follower(Some(&replay), "a", "/u", start), world.follower(Some(&replay), "b", "/n", start));
    while !(a.ended && b.ended) {
        a.step();
        b.step();
    }
    assert_eq!(a.seen, alone(&world, "a", "/u", start));
    assert_eq!(b.seen, alone(&world, "b", "/n", start));
    // The first was decoded before the other was there.
    let shared = a.batches.iter().zip(&b.batches).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!((a.batches.len(), shared), (40, 38));
    assert!(replay.stretch().pieces.is_empty(), "nothing is kept for nobody");
}

#[test]
fn one_who_is_expected_is_waited_for() {
    let mut world = World::new();
    world.events(2).barrier().events(3).frame();
    for _ in 0..5 {
        world.events(4).frame();
    }
    let start = world.positions[1];
    let replay = world.replay(LARGE);
    (0..2).for_each(|_| replay.expect(start));
    let mut a = world.follower(Some(&replay), "a", "/u", start);
    while a.held == 0 {
        a.step();
    }
    assert_eq!(a.batches.len(), 1, "the rest of the frame with the cut is nobody else's business");
    let mut b = world.follower(Some(&replay), "b", "/n", start);
    (0..2).for_each(|_| b.step());
    while !(a.ended && b.ended) {
        a.step();
        b.step();
    }
    let shared = a.batches.iter().zip(&b.batches).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!((a.batches.len(), b.batches.len(), shared), (6, 6, 5));
    assert_eq!(b.seen, alone(&world, "b", "/n", start));

    (0..2).for_each(|_| replay.expect(start));
    let a = world.follower(Some(&replay), "a", "/u", start).run();
    assert_eq!((a.held, a.seen), (1, alone(&world, "a", "/u", start)), "if it does not come, the others go on");
}

#[test]
fn two_versions_of_one_aggregator_do_not_share() {
    let world = usual();
    let replay = world.replay(LARGE);
    let start = Position::default();
    let (mut a, mut b) =
        (world.follower(Some(&replay), "a", "/u", start), world.follower(Some(&replay), "a", "/n", start));
    while !(a.ended && b.ended) {
        a.step();
        b.step();
    }
    assert_eq!(a.seen, alone(&world, "a", "/u", start));
    assert_eq!(b.seen, alone(&world, "a", "/n", start));
    assert!(!a.batches.iter().zip(&b.batches).any(|(a, b)| Arc::ptr_eq(a, b)));
}

#[test]
fn what_is_kept_is_bounded_and_the_slow_hold_nobody_up() {
    let world = usual();
    let start = Position::default();
    for max_bytes in [0, 1, 3_000] {
        let replay = world.replay(max_bytes);
        let [mut slow, mut fast] = both(&world, &replay);
        slow.step();
        while !fast.ended {
            fast.step();
            let stretch = replay.stretch();
            let largest = stretch.pieces.iter().map(|piece| piece.bytes).max().unwrap_or(0);
            assert!(stretch.bytes <= max_bytes + largest, "{} bytes of at most {max_bytes}", stretch.bytes);
            assert_eq!(stretch.bytes, stretch.pieces.iter().map(|piece| piece.bytes).sum::<usize>());
        }
        assert_eq!(fast.held, 2, "the slow one is waited for once more, and then left behind");
        assert_eq!(fast.seen, alone(&world, "b", "/n", start));
        assert_eq!(slow.run().seen, alone(&world, "a", "/u", start));
    }
}

/// Two who begin together: the second waits for the first.
fn both(world: &World, replay: &Arc<Replay<MemStorage>>) -> [Follower; 2] {
    let start = Position::default();
    (0..2).for_each(|_| replay.expect(start));
    let first = world.follower(Some(replay), "a", "/u", start);
    let mut second = world.follower(Some(replay), "b", "/n", start);
    second.step();
    assert_eq!(second.held, 1);
    [first, second]
}

#[test]
fn waiting_ends_when_the_others_have_caught_up_or_have_had_their_time() {
    let world = usual();
    let replay = world.replay(2_000);
    let [mut slow, mut fast] = both(&world, &replay);
    slow.step();
    while fast.held < 2 {
        fast.step();
    }
    let waited = || replay.stretch().members.iter().map(|member| member.waited).collect::<Vec<_>>();
    while slow.batches.len() < fast.batches.len() {
        slow.step();
    }
    fast.feed.wait();
    assert_eq!(waited(), [0, 0]);
    while fast.held < 3 {
        fast.step();
    }
    fast.feed.wait();
    assert_eq!(waited().iter().sum::<u32>(), super::CREDIT);
    fast.step();
    assert_eq!(waited(), [0], "the slow one is left behind");
    assert_eq!(fast.run().seen, alone(&world, "b", "/n", Position::default()));
}

#[derive(Clone, Debug)]
enum Entry {
    Events(u32),
    Barrier,
    Frame,
}

#[derive(Clone, Debug)]
enum Turn {
    Step(usize),
    Again(usize),
    Expect(usize),
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry =
        prop_oneof![4 => (1..5_u32).prop_map(Entry::Events), 2 => Just(Entry::Barrier), 3 => Just(Entry::Frame)];
    prop::collection::vec(entry, 1..60)
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        20 => (0..4_usize).prop_map(Turn::Step),
        1 => (0..4_usize).prop_map(Turn::Again),
        1 => (0..20_usize).prop_map(Turn::Expect),
    ];
    prop::collection::vec(turn, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn everybody_sees_what_it_would_see_alone(
        entries in entries(),
        starts in prop::array::uniform4(0..20_usize),
        max_bytes in prop_oneof![Just(0), Just(700), Just(3_000), Just(LARGE)],
        turns in turns(),
    ) {
        let mut world = World::new();
        for entry in entries {
            match entry {
                Entry::Events(count) => world.events(count),
                Entry::Barrier => world.barrier(),
                Entry::Frame => world.frame(),
            };
        }
        world.frame();
        let replay = world.replay(max_bytes);
        let position = |at: usize| world.positions[at % world.positions.len()];
        let kinds = [("a", "/u"), ("b", "/n"), ("c", "/changing"), ("a", "/n")];
        let mut followers: Vec<Follower> = kinds
            .iter()
            .zip(starts)
            .map(|((name, field), start)| world.follower(Some(&replay), name, field, position(start)))
            .collect();
        for turn in turns {
            match turn {
                Turn::Step(index) => followers[index].step(),
                Turn::Again(index) => followers[index].begin_again(),
                Turn::Expect(at) => replay.expect(position(at)),
            }
        }
        for (follower, start) in followers.into_iter().zip(starts) {
            let (name, field) = (follower.name, follower.field);
            prop_assert_eq!(follower.run().seen, alone(&world, name, field, position(start)));
        }
    }
}
