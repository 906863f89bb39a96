//! The laws that the host's promises rest on, checked on given events. Knows states only by what they save.

use super::Harness;
use crate::aggregator::{Aggregator, Ordering};
use crate::question::Question;

/// Checks the laws with `lines` split at every place: that batches and merges in any grouping give the same bytes, that what
/// was saved loads to the same, and that damaged bytes are refused or loaded, but never panic.
///
/// Takes time with the square of the number of lines: some dozens do, in many random combinations.
///
/// # Panics
/// Naming the law and the split that break it.
pub fn check_laws<A: Aggregator>(settings: &str, lines: &[String]) {
    let whole = applied::<A>(settings, 0, &[lines]);
    let saved = whole.save();
    let same = |harness: &Harness<A>, law: &str| assert_eq!(harness.save(), saved, "{law}");

    same(&applied(settings, 0, &[lines]), "the same events twice give the same bytes");
    let single: Vec<&[String]> = lines.chunks(1).collect();
    same(&applied(settings, 0, &single), "batches of one give the same state");
    same(&reloaded(settings, &whole), "what is saved, loaded and saved again is the same");
    for split in 0..=lines.len() {
        let third = split + (lines.len() - split) / 2;
        let first = || applied::<A>(settings, 0, &[&lines[..split]]);
        let last = || applied::<A>(settings, split, &[&lines[split..]]);
        let middle = || applied::<A>(settings, split, &[&lines[split..third]]);
        let end = || applied::<A>(settings, third, &[&lines[third..]]);
        let batches = applied(settings, 0, &[&lines[..split], &lines[split..]]);
        same(&batches, &format!("batches split at {split} give the same state"));
        let joined = |mut into: Harness<A>, later: Harness<A>| {
            into.merge(&later);
            into
        };
        let law = format!("states split at {split} merge to the whole; the empty one changes nothing");
        same(&joined(first(), last()), &law);
        let law = format!("merging is associative, split at {split} and {third}");
        same(&joined(first(), joined(middle(), end())), &law);
        same(&joined(joined(first(), middle()), end()), &law);
        let law = format!("loaded states merge like those that were saved, split at {split}");
        same(&joined(reloaded(settings, &first()), reloaded(settings, &last())), &law);
        let law = format!("a loaded state takes events like the one that was saved, split at {split}");
        let mut resumed = reloaded(settings, &first());
        resumed.apply(&lines[split..]);
        same(&resumed, &law);
        if A::ORDERING == Ordering::Commutative {
            same(&joined(last(), first()), &format!("merging commutes, split at {split}"));
        }
    }
    if A::ORDERING == Ordering::Commutative {
        same(&dealt(settings, lines, 2), "events dealt to two states by turns, merged, give the same state");
        same(&dealt(settings, lines, 3), "events dealt to three states by turns, merged, give the same state");
    }
    check_damage(settings, &whole);
}

/// States to which the lines were applied by turns, merged.
fn dealt<A: Aggregator>(settings: &str, lines: &[String], states: usize) -> Harness<A> {
    let mut whole = Harness::new(settings);
    for turn in 0..states {
        let mut state = Harness::new(settings);
        for (index, line) in lines.iter().enumerate().skip(turn).step_by(states) {
            state.sequence = 1 + index as u64;
            state.apply(&[line]);
        }
        whole.merge(&state);
    }
    whole
}

/// A state to which these parts were applied, after so many earlier lines that it has not seen.
fn applied<A: Aggregator>(settings: &str, earlier: usize, parts: &[&[String]]) -> Harness<A> {
    let mut harness = Harness::new(settings);
    harness.sequence += earlier as u64;
    for part in parts {
        harness.apply(part);
    }
    harness
}

fn reloaded<A: Aggregator>(settings: &str, harness: &Harness<A>) -> Harness<A> {
    let loaded = Harness::load(settings, harness.state_version(), &harness.save());
    let loaded = loaded.unwrap_or_else(|error| panic!("what was saved must load: {error}"));
    Harness { sequence: harness.sequence, ..loaded }
}

/// Cuts and flips what was saved. The host checks a hash before it loads, so this is the second line of defence.
fn check_damage<A: Aggregator>(settings: &str, whole: &Harness<A>) {
    let saved = whole.save();
    let load = |bytes: &[u8]| Harness::<A>::load(settings, whole.state_version(), bytes);
    // All places of a small state, some of a large one.
    for at in (0..saved.len()).step_by(1 + saved.len() / 512) {
        assert!(load(&saved[..at]).is_err(), "the first {at} bytes of {} must not pass for all", saved.len());
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = saved.clone();
            bytes[at] ^= flip;
            let Ok(loaded) = load(&bytes) else { continue };
            loaded.report(&Question::default());
            let again = loaded.save();
            assert_eq!(
                reloaded(settings, &loaded).save(),
                again,
                "byte {at} flipped by {flip:#x}: it loads, but not twice"
            );
        }
    }
    let longer = [saved.as_slice(), &[0]].concat();
    assert!(load(&longer).is_err(), "a byte too many must not pass");
}
