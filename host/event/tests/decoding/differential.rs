//! Random lines, manifests and presets: the decoder gives what the oracle gives.

use crate::generate;
use crate::oracle::Rules;
use crate::seen::{ARRIVAL, FIRST, seen};
use crate::view;
use proptest::prelude::*;
use std::sync::Arc;
use tally_event::decode::{Decoder, Mode, Pushed};
use tally_event::plan::{Limits, Plan};

/// Limits that the lines of the generator reach.
fn limits(depth: u32) -> Limits {
    Limits { line_bytes: 2000, depth, type_bytes: 16, event_id_bytes: 12 }
}

/// What is left of the bytes when the removed ranges are taken out; checks the ranges.
pub fn kept(bytes: &[u8], pushed: &Pushed) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut at = 0;
    for (index, range) in pushed.removed.iter().enumerate() {
        assert!(range.start < range.end && range.end <= bytes.len());
        assert!(if index == 0 { at == 0 } else { range.start > at }, "ascending, adjacent ones joined");
        assert!(range.start == 0 || bytes[range.start - 1] == b'\n', "starts with a line");
        assert!(range.end == bytes.len() || bytes[range.end - 1] == b'\n', "ends with a line");
        kept.extend_from_slice(&bytes[at..range.start]);
        at = range.end;
    }
    kept.extend_from_slice(&bytes[at..]);
    kept
}

pub fn check_counts(bytes: &[u8], pushed: &Pushed) {
    let newlines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    let unterminated = bytes.last().is_some_and(|&byte| byte != b'\n');
    assert_eq!(pushed.lines as usize, newlines + usize::from(unterminated));
    assert_eq!(pushed.received as usize, pushed.accepted as usize + pushed.rejects.len());
    for reject in &pushed.rejects {
        let before = bytes[..reject.span.start].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(before, reject.line as usize);
        assert!(!bytes[reject.span.clone()].contains(&b'\n'));
        assert!(reject.span.end == bytes.len() || bytes[reject.span.end] == b'\n');
        assert!(!reject.detail.is_empty() && reject.detail.len() < 4000);
    }
    for id in &pushed.ids {
        let before = bytes[..id.span.start].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(before, id.line as usize);
        let line = &bytes[id.span.clone()];
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), usize::from(line.ends_with(b"\n")));
        assert!(line.ends_with(b"\n") || id.span.end == bytes.len());
        assert!(pushed.removed.iter().all(|removed| removed.end <= id.span.start || id.span.end <= removed.start));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4800))]

    #[test]
    fn agrees_with_the_oracle(
        subscribers in generate::subscribers(),
        preset in generate::preset(),
        bytes in generate::lines(),
        admit: bool,
        depth in prop_oneof![3 => Just(64_u32), 1 => 1_u32..6],
    ) {
        let plan = Arc::new(Plan::new(subscribers, vec![preset], limits(depth)).unwrap());
        let mut decoder = Decoder::new(plan.clone());
        let mode = if admit { Mode::Admit } else { Mode::Replay };
        let rules = Rules {
            subscribers: plan.subscribers(),
            preset: &plan.presets()[0],
            limits: limits(depth),
            admit,
            first_sequence: FIRST,
            arrival: ARRIVAL,
        };
        let expected = rules.expect(&bytes);

        let pushed = decoder.push(0, &bytes, mode);
        check_counts(&bytes, &pushed);
        prop_assert_eq!(decoder.rows(), expected.accepted as usize);
        prop_assert_eq!(pushed.accepted, expected.accepted);
        let logged = kept(&bytes, &pushed);
        let hashes: Vec<u128> = pushed.ids.iter().map(|id| id.hash).collect();
        let first = seen(&[(0, pushed)], decoder.finish());
        prop_assert_eq!(&first, &expected);

        // What is logged decodes to the same events, and nothing of it is rejected.
        let replayed = decoder.push(0, &logged, Mode::Replay);
        prop_assert_eq!(&replayed.rejects, &vec![]);
        prop_assert_eq!(&replayed.removed, &vec![]);
        prop_assert_eq!(replayed.ids.iter().map(|id| id.hash).collect::<Vec<_>>(), hashes);
        let replayed = seen(&[(0, replayed)], decoder.finish());
        prop_assert_eq!(&replayed.shares, &expected.shares);

        // Line by line, in a fresh decoder: the same batch.
        let mut decoder = Decoder::new(plan.clone());
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let pushes: Vec<_> = (0..).zip(lines.map(|line| decoder.push(0, line, mode))).collect();
        prop_assert_eq!(seen(&pushes, decoder.finish()), expected);
    }

    #[test]
    fn slices_put_together_are_the_whole(
        subscribers in generate::subscribers(),
        bytes in generate::lines(),
        step in 1_usize..8,
    ) {
        let plan = Arc::new(Plan::new(subscribers, vec![Default::default()], limits(64)).unwrap());
        let mut decoder = Decoder::new(plan.clone());
        decoder.push(0, &bytes, Mode::Admit);
        let batch = decoder.finish();
        for subscriber in 0..plan.subscribers().len() {
            let rows = batch.for_subscriber(subscriber).rows;
            let starts = (0..rows.len()).step_by(step);
            let slices = starts.map(|start| view::rows(&rows.slice(start..(start + step).min(rows.len()))));
            prop_assert_eq!(slices.collect::<Vec<_>>().concat(), view::rows(&rows));
        }
    }
}
