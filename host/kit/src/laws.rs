//! The laws of the contract, each with the check that shows it broken, and the search for the fewest events that do.
//!
//! A case is some events in three parts, each with a place in some other order. Cases are made of the samples and of random
//! events (`random`). A law that is broken is shown on as few events as can be, and then left alone.

use serde::Serialize;
use serde_json::Value;
use tally_event::schema::Ordering;
use tally_event::table::Question;
use tally_plugin::CallError;

use crate::random::{Random, Vocabulary};
use crate::samples;
use crate::shrink::smallest;
use crate::subject::{Subject, rejected};
use crate::trial::{Broken, Item, Snapshot, Trial, first_difference, rendered, same};

/// Most events of a case.
const MOST_EVENTS: usize = 24;

/// Most samples of a case.
const MOST_SAMPLES: usize = 64;

/// Windows of the samples that are tried in random parts.
const SAMPLE_CASES: usize = 20;

/// What the host's promises rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// Every call gives an answer.
    Answers,
    /// The same events twice give the same bytes.
    SameInput,
    /// However events are cut into batches, the state is the same.
    BatchSplit,
    /// A refused event changes nothing.
    Refusal,
    /// Applying a ++ b equals applying a, applying b, and merging.
    MergeOfParts,
    /// The empty state is the identity of merge.
    MergeIdentity,
    /// (a + b) + c = a + (b + c).
    MergeAssociativity,
    /// a + b = b + a, where that is declared.
    MergeCommutativity,
    /// Events that come late count as if they had not, where merging commutes.
    LateOrder,
    /// What was saved loads to the same, and goes on the same.
    SaveLoad,
    /// Equal states save equal bytes.
    CanonicalSave,
    /// A question changes nothing, and a page is a piece of the whole.
    Question,
}

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The law.
    pub law: Law,
    /// What the law says.
    pub means: &'static str,
    /// What happened instead.
    pub says: String,
    /// The fewest events that show it, in log order.
    pub events: Vec<Shown>,
    /// Whether they are of the samples or random.
    pub from: &'static str,
}

/// An event that shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its part (`a`, `b`, `c`), or when it was applied (`1.`, `2.`), where that matters.
    pub part: String,
    /// The event.
    pub event: String,
}

/// What was tried and found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The laws that were tried.
    pub tried: Vec<Law>,
    /// Those left out, since the aggregator is not declared commutative.
    pub left_out: Vec<Law>,
    /// Those that say nothing, since states of the same events differ, or questions change them.
    pub not_judged: Vec<Law>,
    /// What random events were made from: the same number makes the same.
    pub seed: u64,
    /// Cases of the samples.
    pub sample_cases: usize,
    /// Events of these cases, each as often as it is in one, and those that the aggregator counted.
    pub sample_events: Given,
    /// Cases of random events.
    pub random_cases: usize,
    /// Events of these cases, and those that the aggregator counted.
    pub random_events: Given,
    /// The laws that do not hold.
    pub broken: Vec<Finding>,
}

/// What an aggregator was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Given {
    /// Events.
    pub events: usize,
    /// Those that were applied: of a type it asks for, and neither refused by it nor on its behalf.
    pub applied: usize,
}

impl Verdict {
    /// Whether every law was tried on empty states only, which says next to nothing.
    pub fn is_vacuous(&self) -> bool {
        self.sample_events.applied + self.random_events.applied == 0
    }
}

impl Given {
    /// Counts a case: its events applied in order, as one batch. A call that fails is what [`Law::Answers`] is about.
    fn count(&mut self, subject: &Subject, lines: &[String]) {
        self.events += lines.len();
        self.applied += samples::apply(subject, lines).map_or(0, |outcome| outcome.applied);
    }
}

impl Law {
    /// Every law.
    pub const ALL: [Law; 12] = [
        Self::Answers,
        Self::SameInput,
        Self::BatchSplit,
        Self::Refusal,
        Self::MergeOfParts,
        Self::MergeIdentity,
        Self::MergeAssociativity,
        Self::MergeCommutativity,
        Self::LateOrder,
        Self::SaveLoad,
        Self::CanonicalSave,
        Self::Question,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::SameInput => "same-input",
            Self::BatchSplit => "batch-split",
            Self::Refusal => "refusal",
            Self::MergeOfParts => "merge-of-parts",
            Self::MergeIdentity => "merge-identity",
            Self::MergeAssociativity => "merge-associativity",
            Self::MergeCommutativity => "merge-commutativity",
            Self::LateOrder => "late-order",
            Self::SaveLoad => "save-load",
            Self::CanonicalSave => "canonical-save",
            Self::Question => "question",
        }
    }

    /// What it says.
    pub fn means(self) -> &'static str {
        match self {
            Self::Answers => "every call on valid events gives an answer",
            Self::SameInput => "the same events twice give the same bytes",
            Self::BatchSplit => "the same events in other batches give the same state",
            Self::Refusal => "a refused event changes nothing",
            Self::MergeOfParts => "applying a, b and c to states of their own and merging equals applying all to one",
            Self::MergeIdentity => "merging with the empty state, on either side, changes nothing",
            Self::MergeAssociativity => "(a + b) + c equals a + (b + c)",
            Self::MergeCommutativity => "a + b equals b + a, as the ordering `commutative` declares",
            Self::LateOrder => "events that come late count as they would have in time, as `commutative` declares",
            Self::SaveLoad => "what was saved loads to the same state, and takes events and merges like it",
            Self::CanonicalSave => "equal states save equal bytes",
            Self::Question => "a question changes nothing, and a page is a piece of the whole",
        }
    }

    fn applies(self, ordering: Ordering) -> bool {
        ordering == Ordering::Commutative || !matches!(self, Self::MergeCommutativity | Self::LateOrder)
    }

    /// Whether the events of its finding are shown by part.
    fn is_about_parts(self) -> bool {
        let whole =
            [Self::Answers, Self::SameInput, Self::Refusal, Self::CanonicalSave, Self::Question, Self::LateOrder];
        !whole.contains(&self)
    }

    fn check(self, trial: &mut Trial<'_>) -> Result<(), Broken> {
        match self {
            Self::Answers => answers(trial),
            Self::SameInput => same_input(trial),
            Self::BatchSplit => batch_split(trial),
            Self::Refusal => refusal(trial),
            Self::MergeOfParts => merge_of_parts(trial),
            Self::MergeIdentity => merge_identity(trial),
            Self::MergeAssociativity => merge_associativity(trial),
            Self::MergeCommutativity => merge_commutativity(trial),
            Self::LateOrder => late_order(trial),
            Self::SaveLoad => save_load(trial),
            Self::CanonicalSave => canonical_save(trial),
            Self::Question => question(trial),
        }
    }
}

fn answers(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let whole = trial.state(&[trial.all()])?;
    trial.snapshot(&whole)?;
    let later = trial.reload(&whole)?;
    trial.instance.merge(&whole, &later)?;
    Ok(())
}

fn same_input(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let (one, other) = (trial.state(&[trial.all()])?, trial.state(&[trial.all()])?);
    trial.same(&one, &other)?;
    let mut again = Trial::new(trial.subject, trial.items)?;
    let (here, elsewhere) = (trial.state(&[trial.all()])?, again.state(&[again.all()])?);
    same(trial.snapshot(&here)?, again.snapshot(&elsewhere)?)
}

fn batch_split(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let whole = trial.instance.create()?;
    let refused = trial.apply(&whole, trial.all())?;
    for batches in [trial.parts().to_vec(), trial.singles()] {
        let state = trial.instance.create()?;
        let mut each = Vec::new();
        for range in batches {
            each.extend(trial.apply(&state, range)?);
        }
        trial.same(&whole, &state)?;
        if each != refused {
            return Err(Broken::Says("the same events in other batches are refused differently".into()));
        }
    }
    Ok(())
}

fn refusal(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let all = trial.instance.create()?;
    let mut taken = Vec::new();
    for single in trial.singles() {
        if trial.apply(&all, single.clone())?.is_empty() {
            taken.push(single);
        }
    }
    let without = trial.state(&taken)?;
    trial.same(&all, &without)
}

fn merge_of_parts(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let whole = trial.state(&[trial.all()])?;
    let [a, b, c] = trial.parts().map(|part| trial.state(&[part]));
    let joined = trial.merge(a?, &b?)?;
    let joined = trial.merge(joined, &c?)?;
    trial.same(&whole, &joined)
}

fn merge_identity(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let state = trial.state(&[trial.all()])?;
    let (into, empty) = (trial.state(&[trial.all()])?, trial.instance.create()?);
    let followed = trial.merge(into, &empty)?;
    trial.same(&state, &followed)?;
    let preceded = trial.merge(empty, &state)?;
    trial.same(&state, &preceded)
}

fn merge_associativity(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let mut made = || trial.parts().map(|part| trial.state(&[part]));
    let ([a, b, c], [a2, b2, c2]) = (made(), made());
    let first = trial.merge(a?, &b?)?;
    let left = trial.merge(first, &c?)?;
    let last = trial.merge(b2?, &c2?)?;
    let right = trial.merge(a2?, &last)?;
    trial.same(&left, &right)
}

fn merge_commutativity(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let [a, b, c] = trial.parts();
    let mut made = || [trial.state(std::slice::from_ref(&a)), trial.state(&[b.clone(), c.clone()])];
    let ([one, other], [one2, other2]) = (made(), made());
    let forth = trial.merge(one?, &other?)?;
    let back = trial.merge(other2?, &one2?)?;
    trial.same(&forth, &back)
}

fn late_order(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let (in_time, late) = (trial.state(&trial.singles())?, trial.state(&trial.shuffled())?);
    trial.same(&in_time, &late)
}

fn save_load(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let whole = trial.state(&[trial.all()])?;
    let loaded = trial.reload(&whole)?;
    trial.same(&whole, &loaded)?;
    let [a, b, c] = trial.parts();
    let went_on = trial.state(&[a.clone(), b.clone(), c.clone()])?;
    let part = trial.state(std::slice::from_ref(&a))?;
    let resumed = trial.reload(&part)?;
    trial.apply(&resumed, b.clone())?;
    trial.apply(&resumed, c.clone())?;
    trial.same(&went_on, &resumed)?;
    let rest = trial.state(&[b, c])?;
    let (part2, rest2) = (trial.reload(&part)?, trial.reload(&rest)?);
    let merged = trial.merge(part, &rest)?;
    let merged2 = trial.merge(part2, &rest2)?;
    trial.same(&merged, &merged2)
}

fn canonical_save(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let state = trial.state(&[trial.all()])?;
    let (once, twice) = (trial.snapshot(&state)?, trial.snapshot(&state)?);
    same(once, twice)
}

fn question(trial: &mut Trial<'_>) -> Result<(), Broken> {
    let state = trial.state(&[trial.all()])?;
    let before = trial.snapshot(&state)?;
    let whole = trial.instance.report(&state, &Question::default())?;
    for table in whole.iter().skip(1) {
        let asked = Question { tables: vec![table.name.clone()], skip_rows: 1, row_limit: 2, ..Question::default() };
        let answer = trial.instance.report(&state, &asked)?;
        let page = answer.iter().find(|page| page.name == table.name).map(tally_event::table::Table::to_json_rows);
        let rows = table.to_json_rows();
        let expected = rows.get(1..rows.len().min(3)).unwrap_or_default();
        if page.as_deref() != Some(expected) {
            let expected = Value::from(expected.iter().cloned().map(Value::Object).collect::<Vec<_>>());
            return Err(Broken::Says(match page {
                None => format!("the table {:?} is not given when it is asked for by name", table.name),
                Some(page) => format!(
                    "of {:?}, two rows after the first are {} and not {expected}",
                    table.name,
                    Value::from(page.into_iter().map(Value::Object).collect::<Vec<_>>())
                ),
            }));
        }
    }
    if rendered(&whole) != before.report {
        return Err(Broken::Says("the same question twice is answered differently".into()));
    }
    same(before, trial.snapshot(&state)?)
}

/// Tries every law on cases of the samples (lines that are events) and on so many random cases.
pub fn check(subject: &Subject, samples: &[String], seed: u64, random_cases: usize) -> Verdict {
    let ordering = subject.manifest().ordering;
    let (tried, left_out): (Vec<Law>, Vec<Law>) = Law::ALL.into_iter().partition(|law| law.applies(ordering));
    let mut random = Random::new(seed);
    let vocabulary = Vocabulary::small(subject.manifest(), samples);
    let mut holds = tried.clone();
    let mut broken = Vec::new();
    let mut sample_cases = 0;
    let (mut sample_events, mut random_events) = (Given::default(), Given::default());
    let mut decoder = subject.decoder();
    while !samples.is_empty() && sample_cases < SAMPLE_CASES {
        // Windows that together cover the samples, unless these are thousands.
        let start = sample_cases * samples.len() / SAMPLE_CASES;
        let length = (samples.len() / SAMPLE_CASES + 1 + random.below(MOST_EVENTS)).min(MOST_SAMPLES);
        let window = &samples[start..samples.len().min(start + length)];
        sample_events.count(subject, window);
        let items = case(window.to_vec(), &mut random);
        try_case(subject, &items, "samples", &mut holds, &mut broken);
        sample_cases += 1;
    }
    for _ in 0..random_cases {
        let count = random.below(MOST_EVENTS + 1);
        let lines = (0..count).map(|_| vocabulary.line(&mut random));
        let lines: Vec<String> = lines.filter(|line| rejected(&mut decoder, line).is_none()).collect();
        random_events.count(subject, &lines);
        let items = case(lines, &mut random);
        try_case(subject, &items, "random", &mut holds, &mut broken);
    }
    broken.sort_by_key(|finding| tried.iter().position(|law| *law == finding.law));
    let (tried, not_judged) = judged(tried, &mut broken);
    Verdict { tried, left_out, not_judged, seed, sample_cases, sample_events, random_cases, random_events, broken }
}

/// Leaves out findings that follow from another: every law is looked at through questions and the same events twice.
fn judged(tried: Vec<Law>, broken: &mut Vec<Finding>) -> (Vec<Law>, Vec<Law>) {
    let is_broken = |law: Law| broken.iter().any(|finding| finding.law == law);
    let root = [Law::Question, Law::SameInput].into_iter().find(|law| is_broken(*law));
    let Some(root) = root else { return (tried, Vec::new()) };
    let (judged, not_judged) = tried.into_iter().partition(|law| *law == Law::Answers || *law == root);
    broken.retain(|finding| finding.law == Law::Answers || finding.law == root);
    (judged, not_judged)
}

/// Lines in three parts, with another order beside their own.
fn case(lines: Vec<String>, random: &mut Random) -> Vec<Item> {
    let mut cuts = [random.below(lines.len() + 1), random.below(lines.len() + 1)];
    cuts.sort_unstable();
    let part = |at: usize| cuts.iter().filter(|cut| **cut <= at).count() as u8;
    let items = lines.into_iter().enumerate();
    items.map(|(at, line)| Item { line, part: part(at), order: random.next() }).collect()
}

/// Tries the laws that hold so far, and moves those that are broken over.
fn try_case(subject: &Subject, items: &[Item], from: &'static str, holds: &mut Vec<Law>, broken: &mut Vec<Finding>) {
    holds.retain(|&law| {
        if outcome(subject, law, items).is_ok() {
            return true;
        }
        let finding = shown(subject, law, items.to_vec(), from);
        // One law may be found broken while another is looked at; the fewest events show it best.
        match broken.iter_mut().find(|known: &&mut Finding| known.law == finding.law) {
            Some(known) if known.events.len() <= finding.events.len() => {}
            Some(known) => *known = finding,
            None => broken.push(finding),
        }
        false
    });
}

fn outcome(subject: &Subject, law: Law, items: &[Item]) -> Result<(), Broken> {
    law.check(&mut Trial::new(subject, items)?)
}

/// The finding on the fewest and shortest events.
fn shown(subject: &Subject, law: Law, items: Vec<Item>, from: &'static str) -> Finding {
    let mut items = smallest(items, |items| outcome(subject, law, items).is_err());
    shorten(subject, law, &mut items);
    let (named, says) = match outcome(subject, law, &items) {
        Err(broken) => named(law, broken),
        Ok(()) => (law, "it broke once and not again: it depends on something beside the events".to_owned()),
    };
    Finding { law: named, means: named.means(), says, events: labelled(law, &items), from }
}

/// Takes members out of events as long as the law stays broken.
fn shorten(subject: &Subject, law: Law, items: &mut [Item]) {
    let mut decoder = subject.decoder();
    for at in 0..items.len() {
        let Ok(Value::Object(event)) = serde_json::from_str::<Value>(&items[at].line) else { continue };
        for name in event.keys().filter(|name| *name != "type") {
            let Ok(Value::Object(mut shorter)) = serde_json::from_str::<Value>(&items[at].line) else { continue };
            shorter.remove(name);
            let line = Value::Object(shorter).to_string();
            if rejected(&mut decoder, &line).is_some() {
                continue;
            }
            let before = std::mem::replace(&mut items[at].line, line);
            if outcome(subject, law, items).is_ok() {
                items[at].line = before;
            }
        }
    }
}

/// Which law is broken, and in which way.
fn named(law: Law, broken: Broken) -> (Law, String) {
    match broken {
        Broken::Says(says) => (law, says),
        Broken::Failed(CallError::Refused(why)) if law == Law::SaveLoad => {
            (law, format!("it does not take what it saved itself: {why}"))
        }
        Broken::Failed(error) => (Law::Answers, failure(&error)),
        Broken::Differ(states) => {
            let (one, other) = *states;
            match first_difference(&one.report, &other.report) {
                Some(difference) => (law, format!("{difference}{}", bytes_too(&one, &other))),
                // They cannot be told apart from outside, so they should have been saved as the same.
                None if law == Law::SaveLoad => (law, different_bytes(&one, &other)),
                None => {
                    (Law::CanonicalSave, format!("{}, while looking at {}", different_bytes(&one, &other), law.name()))
                }
            }
        }
    }
}

fn failure(error: &CallError) -> String {
    match error {
        CallError::Trap { backtrace, .. } if !backtrace.is_empty() => {
            let frames: Vec<&str> = backtrace.lines().take(6).collect();
            format!("{error}; in {}", frames.join(", "))
        }
        other => other.to_string(),
    }
}

fn bytes_too(one: &Snapshot, other: &Snapshot) -> &'static str {
    if one.saved == other.saved { ", although both save the same bytes" } else { "" }
}

fn different_bytes(one: &Snapshot, other: &Snapshot) -> String {
    let same = one.saved.iter().zip(&other.saved).take_while(|(a, b)| a == b).count();
    format!(
        "the reports are equal, but the saved bytes ({} and {}) differ from byte {same} on",
        one.saved.len(),
        other.saved.len()
    )
}

fn labelled(law: Law, items: &[Item]) -> Vec<Shown> {
    let place = |item: &Item| 1 + items.iter().filter(|other| other.order < item.order).count();
    let part = |item: &Item| match law {
        Law::LateOrder => format!("{}.", place(item)),
        law if law.is_about_parts() => char::from(b'a' + item.part).to_string(),
        _ => String::new(),
    };
    items.iter().map(|item| Shown { part: part(item), event: item.line.clone() }).collect()
}
