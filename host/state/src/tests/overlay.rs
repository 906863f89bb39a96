//! The overlay behaves like a file that was copied, and the file under it stays as it was.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;

use proptest::prelude::*;
use redb::StorageBackend;
use tally_storage::{RealStorage, Storage, StorageFile};
use tally_testkit::MemStorage;

use crate::backend::Backend;
use crate::overlay::Overlay;

#[derive(Clone, Debug)]
enum Step {
    Write { at: usize, bytes: Vec<u8> },
    Resize { length: usize },
    Read { at: usize, count: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop::collection::vec(1..255_u8, 1..9000);
    prop_oneof![
        (0..30_000_usize, bytes).prop_map(|(at, bytes)| Step::Write { at, bytes }),
        (0..30_000_usize).prop_map(|length| Step::Resize { length }),
        (0..30_000_usize, 0..15_000_usize).prop_map(|(at, count)| Step::Read { at, count }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_overlay_is_a_copy(length in 0..20_000_usize, steps in prop::collection::vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let original = (0..length).map(|at| (at % 251) as u8 + 1).collect::<Vec<_>>();
        fs::write(&path, &original).unwrap();
        let file = RealStorage::read_only(dir.path()).unwrap().open("file").unwrap();
        let overlay = Overlay::new(Backend::new(file, Arc::new(()))).unwrap();
        let mut copy = original.clone();
        for step in steps {
            match step {
                Step::Write { at, bytes } => {
                    overlay.write(at as u64, &bytes).unwrap();
                    copy.resize(copy.len().max(at + bytes.len()), 0);
                    copy[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                Step::Resize { length } => {
                    overlay.set_len(length as u64).unwrap();
                    copy.resize(length, 0);
                }
                Step::Read { at, count } => {
                    let mut out = vec![9; count];
                    let read = overlay.read(at as u64, &mut out);
                    prop_assert_eq!(read.is_ok(), at + count <= copy.len());
                    prop_assert!(read.is_err() || out == copy[at..at + count]);
                }
            }
            prop_assert_eq!(overlay.len().unwrap(), copy.len() as u64);
        }
        let mut all = vec![9; copy.len()];
        overlay.read(0, &mut all).unwrap();
        prop_assert!(all == copy);
        prop_assert!(fs::read(&path).unwrap() == original, "the file was changed");
    }
}

/// redb would take the bytes it did not get for what it wrote.
#[test]
fn a_read_past_the_end_of_the_file_is_an_error() {
    let disk = MemStorage::new();
    let file = disk.create("file").unwrap();
    file.write_at(b"abcdef", 0).unwrap();
    let backend = Backend::new(file, Arc::new(()));
    let mut out = [9; 4];
    backend.read(2, &mut out).unwrap();
    assert_eq!(&out, b"cdef");
    assert_eq!(backend.read(3, &mut out).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}
