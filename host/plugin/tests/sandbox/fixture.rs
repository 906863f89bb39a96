//! The fixture guests, rows to give them, and a look at what is logged.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use tally_event::columns::{ColumnRef, Rows, ValuesRef};
use tally_plugin::{CallError, Component, Configured, Engine, Instance, Limits};

/// The bytes of a fixture, as the build left them.
pub fn bytes(name: &str) -> Vec<u8> {
    let dir = std::env::var_os("TALLY_FIXTURES_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/fixtures")), PathBuf::from);
    let path = dir.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        let path = path.display();
        panic!("{path}: {error}; `cargo xtask build --fixtures` builds the fixture guests")
    })
}

/// The probe, compiled once for all tests that use the default limits.
pub fn probe() -> &'static Component {
    static PROBE: LazyLock<Component> = LazyLock::new(|| load(Limits::default(), &bytes("probe")));
    &PROBE
}

/// Loads a component with limits of its own.
pub fn load(limits: Limits, bytes: &[u8]) -> Component {
    let engine = Engine::new(limits, None).expect("engine");
    engine.load(bytes).expect("load")
}

/// The probe with settings.
pub fn configured(settings: &str) -> Configured {
    probe().configure(settings).expect("configure")
}

/// An instance of the probe with settings.
pub fn instance(settings: &str) -> Instance {
    configured(settings).instantiate().expect("instantiate")
}

/// The failure of a call that must not succeed.
pub fn failure<T>(answer: Result<T, CallError>) -> CallError {
    answer.err().expect("the call gave an answer")
}

/// Rows for the probe: types take turns, `/n` is present in two of three, and there is a user in each.
pub fn rows(first_sequence: u64, count: usize) -> Rows<'static> {
    let dictionary = &*USERS;
    let n = (0..count as i64).map(|row| row * 1000 - 7);
    Rows {
        first_sequence,
        sequence_offsets: (0..count as u32).collect(),
        times: vec![1_769_508_000_000_000; count].into(),
        event_types: (0..count as u32).map(|row| row % 3).collect(),
        columns: vec![
            ColumnRef {
                values: ValuesRef::Integers(n.collect()),
                present: (0..count).map(|row| u8::from(row % 3 != 1)).collect(),
            },
            ColumnRef {
                values: ValuesRef::Text {
                    codes: (0..count as u32).map(|row| row * 7 % 100).collect(),
                    ends: &dictionary.ends,
                    bytes: &dictionary.bytes,
                    hashes: &dictionary.hashes,
                },
                present: vec![].into(),
            },
        ],
    }
}

struct Dictionary {
    ends: Vec<u32>,
    bytes: Vec<u8>,
    hashes: Vec<u64>,
}

/// A hundred users, `u_1` to `u_ééé...`: entries of different lengths, one of them empty.
static USERS: LazyLock<Dictionary> = LazyLock::new(|| {
    let mut users = Dictionary { ends: vec![], bytes: vec![], hashes: vec![] };
    for user in 0..100 {
        let text = "é".repeat(user % 13);
        users.bytes.extend(text.as_bytes());
        users.ends.push(users.bytes.len() as u32);
        users.hashes.push(xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
    }
    users
});

/// What `f` logs, without times.
pub fn logged(f: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, f);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).expect("UTF-8")
}
