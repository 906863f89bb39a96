//! The body of a log frame read as entries, folded into a control state, and written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_aggregate::entry::ids;
use tally_aggregate::{BodyBuilder, Control, Entries, Entry};

fuzz_target!(|data: &[u8]| {
    let mut control = Control::default();
    let mut builder = BodyBuilder::default();
    let mut read = 0;
    for (entry, frame) in Entries::new(data).zip(1..) {
        let Ok(entry) = entry else { break };
        read += 1;
        control.apply(frame, &entry);
        match entry {
            Entry::Events { arrival, preset, count, lines } => {
                builder.events(arrival, preset, count, [lines].into_iter())
            }
            Entry::Producers(producers) => builder.producers(producers.into_iter()),
            Entry::Counts(counts) => builder.counts(&counts),
            Entry::Barrier(barrier) => builder.barrier(&barrier),
            Entry::Note(note) => builder.note(&note),
            Entry::Opening(opening) => builder.opening(&opening),
            Entry::Ids { arrival, ids: bytes } => builder.ids(arrival, ids(bytes)),
        }
    }
    // What was read and written is read once more, and adds up to the same.
    let mut again = Control::default();
    let mut count = 0;
    for (entry, frame) in Entries::new(builder.bytes()).zip(1..) {
        again.apply(frame, &entry.expect("what was written reads"));
        count += 1;
    }
    assert_eq!((count, &again), (read, &control));
});
