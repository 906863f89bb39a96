//! The analytics files on a disk that tears and refuses: whatever happens, every record is there once in the end, in order.

use proptest::prelude::*;
use tally_testkit::{Fault, MemStorage};

use crate::{Position, RecordFiles, Rotation, SinkError, read_records, read_records_until};

fn record(id: u64, length: usize) -> String {
    format!("{{\"batch_id\":{id},\"pad\":\"{}\"}}", "x".repeat(length))
}

/// Appends what is missing, and commits each record right after, as the daemon does.
fn go_on(
    disk: &MemStorage,
    committed: &mut Option<Position>,
    done: &mut usize,
    lengths: &[usize],
    rotation: Rotation,
) -> Result<(), SinkError> {
    let mut files = RecordFiles::open(disk.clone(), *committed, rotation)?;
    while *done < lengths.len() {
        *committed = Some(files.append(record(*done as u64, lengths[*done]).as_bytes())?);
        *done += 1;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_there_once_whatever_happens(
        lengths in prop::collection::vec(0..2000_usize, 1..16),
        faults in prop::collection::vec((1..60_u64, 0..4_usize, any::<u64>()), 1..6),
        max_bytes in 1..5000_u64,
        max_batches in 1..6_u64,
    ) {
        let rotation = Rotation { max_bytes, max_batches };
        let mut disk = MemStorage::new();
        let (mut committed, mut done) = (None, 0);
        for (at, fault, seed) in faults {
            let kinds = [Fault::PowerLoss, Fault::Broken, Fault::NoSpace, Fault::ShortWrite];
            disk.inject(disk.operations() + at, kinds[fault]);
            // A full or broken disk ends the process, and the next one finds what the kernel has or what the disk has.
            let failed = go_on(&disk, &mut committed, &mut done, &lengths, rotation).is_err();
            if failed && (disk.is_dead() || seed % 2 == 0) {
                disk = disk.crash(seed);
            }
            disk.restart();
        }
        go_on(&disk, &mut committed, &mut done, &lengths, rotation).expect("the disk is well again");
        let committed = committed.expect("at least one record");
        let until = read_records_until(&disk, committed).expect("readable").map(|record| record.expect("a record").text);
        let expected = lengths.iter().enumerate().map(|(id, &length)| record(id as u64, length)).collect::<Vec<_>>();
        prop_assert_eq!(until.collect::<Vec<_>>(), &expected[..]);
        let all = read_records(&disk).expect("readable").map(|record| record.expect("a record").text);
        prop_assert_eq!(all.collect::<Vec<_>>(), expected, "nothing stands behind the last record");
    }
}
