//! What single stages are measured on: generated lines, decoded for `video-actions`, and that plugin's aggregator compiled
//! natively, over the same columns that its Wasm is given.

use std::process::Command;
use std::sync::Arc;

use tally_event::columns::{ColumnRef, Rows, ValuesRef};
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset};
use tally_sdk::Component;
use tally_sdk::wire::exports::tally::aggregator::aggregator::{Guest, GuestAccumulator};
use tally_sdk::wire::tally::aggregator::columns as wire_columns;
use tally_sdk::wire::tally::aggregator::types as wire;
use tally_storage::RealStorage;
use tally_wal::{Durability, Log, Options};
use video_actions::VideoActions;

/// Rows given to a plugin in one call, as the daemon does by default.
pub const ROWS: usize = 4096;

/// The aggregator natively, behind the same functions.
pub type Native = <Component<VideoActions> as Guest>::Accumulator;

/// An empty one.
pub fn native() -> Native {
    Component::<VideoActions>::configure("{}".to_owned()).expect("the default settings are fine");
    Native::new()
}

/// A file that the build made: named by a variable, otherwise where `cargo xtask build` puts it.
pub fn built(variable: &str, default: &str) -> std::path::PathBuf {
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::env::var_os(variable).map_or_else(|| target.join(default), Into::into)
}

/// Lines of `tally generate`.
pub fn lines(count: usize, wide: bool) -> Vec<u8> {
    let mut generate = Command::new(built("TALLY_BIN", "release/tally"));
    generate.args(["generate", "--events", &count.to_string()]).args(wide.then_some("--wide"));
    let output = generate.output().expect("`cargo xtask build` makes tally");
    assert!(output.status.success(), "tally generate failed");
    output.stdout
}

/// Whole lines, so many in each piece.
pub fn pieces(lines: &[u8], count: usize) -> Vec<&[u8]> {
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', lines).map(|at| at + 1).collect();
    let mut from = 0;
    let piece = |ends: &[usize]| {
        let to = ends[ends.len() - 1];
        &lines[std::mem::replace(&mut from, to)..to]
    };
    ends.chunks(count).map(piece).collect()
}

/// A decoder for what `video-actions` asks for.
pub fn decoder() -> Decoder {
    let text = |path: &str| Field { path: path.to_owned(), kind: Kind::Text };
    let manifest = Manifest {
        fields: vec![text("/user_id"), text("/resource_type"), text("/action")],
        event_types: vec![EventType { name: "action".into(), required: vec![0, 1, 2], optional: vec![] }],
        ordering: Ordering::Commutative,
        state_version: "1".into(),
        loads: vec![],
        refusals: vec![],
    };
    let subscriber = Subscriber { name: "video-actions".into(), manifest: Arc::new(manifest) };
    let plan = Plan::new(vec![subscriber], vec![Preset::default()], Limits::default()).expect("a sound plan");
    Decoder::new(Arc::new(plan))
}

/// The lines as batches of [`ROWS`].
pub fn batches(lines: &[u8]) -> Vec<tally_event::batch::Batch> {
    let mut decoder = decoder();
    let mut decode = |piece: &[u8]| {
        decoder.push(0, piece, Mode::Admit);
        decoder.finish()
    };
    pieces(lines, ROWS).into_iter().map(&mut decode).collect()
}

/// Rows as the guest's side of the contract has them.
pub fn wire_batch(rows: &Rows<'_>) -> wire::Batch {
    wire::Batch {
        first_sequence: rows.first_sequence,
        sequence_offsets: rows.sequence_offsets.to_vec(),
        times: rows.times.to_vec(),
        event_types: rows.event_types.to_vec(),
        columns: rows.columns.iter().map(wire_column).collect(),
    }
}

fn wire_column(column: &ColumnRef<'_>) -> wire_columns::Column {
    let ValuesRef::Text { codes, ends, bytes, hashes } = &column.values else {
        panic!("video-actions asks for text alone");
    };
    let text = wire_columns::Text {
        codes: codes.to_vec(),
        ends: ends.to_vec(),
        bytes: bytes.to_vec(),
        hashes: hashes.to_vec(),
    };
    wire_columns::Column { values: wire_columns::Values::Text(text), present: column.present.to_vec() }
}

/// All batches of these lines, for the native aggregator.
pub fn wire_batches(lines: &[u8]) -> Vec<wire::Batch> {
    batches(lines).iter().map(|batch| wire_batch(&batch.for_subscriber(0).rows)).collect()
}

/// A log in real files that is left to the kernel: what `fdatasync` takes is the disk's.
pub struct Appender(Log<RealStorage>);

impl Appender {
    /// In an empty folder.
    pub fn new(folder: &std::path::Path) -> Self {
        let storage = RealStorage::new(folder).expect("a storage");
        let options = Options { durability: Durability::Os, ..Options::default() };
        Self(Log::open(storage, options).expect("an empty log").0)
    }

    /// One frame of [`ROWS`] lines; segments before the last go.
    pub fn append(&mut self, lines: &[u8]) {
        if self.0.needs_roll(lines.len()) {
            self.0.roll(&[]).expect("a new segment");
            let last = self.0.segments().last().map_or(0, |segment| segment.first_frame);
            self.0.delete_before(last).expect("old segments go");
        }
        self.0.append(ROWS as u32, lines).expect("the disk takes it");
    }
}
