//! The laws, checked on one building block: every way to deal the same inputs to states, merge them and save them gives the same
//! bytes. For blocks whose merge commutes, which all of them do.

use crate::state::{Reader, State};

/// How many states the inputs are dealt to.
const PARTS: usize = 4;

/// Checks the laws; input number `n` goes to the part that `dealt` names, by turns.
pub(crate) fn check<S: State, E>(empty: impl Fn() -> S, put: impl Fn(&mut S, &E), inputs: &[E], dealt: &[usize]) {
    let of = |inputs: &mut dyn Iterator<Item = &E>| {
        let mut state = empty();
        inputs.for_each(|input| put(&mut state, input));
        state
    };
    let whole = saved(&of(&mut inputs.iter()));
    let same = |state: &S, law: &str| assert_eq!(saved(state), whole, "{law}");
    same(&of(&mut inputs.iter().rev()), "the order of inputs does not matter");
    let place = |number: usize| dealt.get(number % dealt.len().max(1)).map_or(0, |part| part % PARTS);
    let dealt_to =
        |part: usize| inputs.iter().enumerate().filter(move |(n, _)| place(*n) == part).map(|(_, input)| input);
    let part = |number: usize| of(&mut dealt_to(number));
    let loaded = |state: &S| load(&empty, &saved(state)).expect("what was saved loads");
    let join = |mut into: S, later: S| {
        into.merge(&later);
        into
    };
    same(&join(join(join(part(0), part(1)), part(2)), part(3)), "merging from the left");
    same(&join(part(0), join(part(1), join(part(2), part(3)))), "merging from the right");
    same(&join(join(part(3), part(2)), join(part(1), part(0))), "merging backwards, in pairs");
    same(&join(empty(), join(of(&mut inputs.iter()), empty())), "the empty state changes nothing");
    same(&(0..PARTS).map(|number| loaded(&part(number))).fold(empty(), join), "loaded states merge the same");
    let mut resumed = loaded(&join(part(0), part(1)));
    dealt_to(2).chain(dealt_to(3)).for_each(|input| put(&mut resumed, input));
    same(&resumed, "a state that was merged, saved and loaded goes on");
    check_damage(&empty, &whole);
}

/// The bytes it saves to.
pub(crate) fn saved<S: State>(state: &S) -> Vec<u8> {
    let mut out = Vec::new();
    state.save(&mut out);
    out
}

fn load<S: State>(empty: &impl Fn() -> S, bytes: &[u8]) -> Option<S> {
    let mut state = empty();
    let mut reader = Reader::new(bytes);
    state.load(&mut reader).and_then(|()| reader.finish()).is_ok().then_some(state)
}

/// Whatever bytes load, load to what saves to them; what is cut short does not load.
fn check_damage<S: State>(empty: &impl Fn() -> S, saved: &[u8]) {
    for at in (0..saved.len()).step_by(1 + saved.len() / 64) {
        assert!(load(empty, &saved[..at]).is_none(), "the first {at} bytes of {} must not pass for all", saved.len());
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = saved.to_vec();
            bytes[at] ^= flip;
            if let Some(state) = load(empty, &bytes) {
                assert_eq!(self::saved(&state), bytes, "byte {at} flipped by {flip:#x} loads as something else");
            }
        }
    }
}
