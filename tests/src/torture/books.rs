//! The oracle: what each producer sent and what it was acknowledged, and what has to be found of it. Line `i` of a producer
//! is a function of the producer and `i`, and what survives of its lines is always a beginning of them, so one number per
//! producer says which events must be there, and everything else is counted from it. Shares nothing with the product.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde_json::Value;

use super::random::mix;

/// The actions, in the order of the columns that count them.
const ACTIONS: [(&str, &str); 6] = [
    ("view", "views"),
    ("play", "plays"),
    ("pause", "pauses"),
    ("unmute", "unmutes"),
    ("carousel_left", "carousel_left"),
    ("carousel_right", "carousel_right"),
];
const POSTS: u64 = 16;
const USERS: u64 = 500;

/// How a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines over the Unix socket; names its stream and resumes where it is told.
    NamedUnix,
    /// The same over TCP.
    NamedTcp,
    /// Lines with event ids over the Unix socket; sends again what was not acknowledged.
    IdsUnix,
    /// Bodies of lines with event ids by HTTP; sends again what was not acknowledged.
    IdsHttp,
    /// Lines over the Unix socket without a name; sends nothing twice.
    Anonymous,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::NamedUnix, Kind::NamedTcp, Kind::IdsUnix, Kind::IdsHttp, Kind::Anonymous];

    /// Names its stream.
    pub fn is_named(self) -> bool {
        matches!(self, Kind::NamedUnix | Kind::NamedTcp)
    }

    /// Has event ids.
    pub fn has_ids(self) -> bool {
        matches!(self, Kind::IdsUnix | Kind::IdsHttp)
    }
}

/// A producer's own account.
#[derive(Debug)]
pub struct Lane {
    /// How it sends.
    pub kind: Kind,
    /// Which producer it is; part of its posts and users.
    pub number: u64,
    /// Lines `0..acked` are acknowledged.
    pub acked: AtomicU64,
    /// Lines `0..sent` were written, or were begun to be.
    pub sent: AtomicU64,
    /// How many of the acknowledged were said to be duplicates.
    pub duplicates: AtomicU64,
    /// Where another producer with event ids was when the oldest line without an acknowledgement was first sent.
    pub other_then: AtomicU64,
}

/// What a line is.
enum Made {
    Action { post: u64, user: u64, action: usize },
    Homepage { user: u64 },
    Invalid,
}

impl Clone for Lane {
    fn clone(&self) -> Self {
        let copy = |number: &AtomicU64| AtomicU64::new(number.load(SeqCst));
        let Self { kind, number, acked, sent, duplicates, other_then } = self;
        Self {
            kind: *kind,
            number: *number,
            acked: copy(acked),
            sent: copy(sent),
            duplicates: copy(duplicates),
            other_then: copy(other_then),
        }
    }
}

impl Lane {
    fn new(kind: Kind, number: u64) -> Self {
        Self { kind, number, acked: 0.into(), sent: 0.into(), duplicates: 0.into(), other_then: 0.into() }
    }

    /// The name of its stream.
    pub fn name(&self) -> String {
        format!("{:?}-{}", self.kind, self.number)
    }

    fn made(&self, line: u64) -> Made {
        let hash = mix(line.wrapping_mul(31).wrapping_add(self.number << 40));
        // What is counted elsewhere than per post needs a producer that is told where it stands.
        match (self.kind.is_named(), hash % 37, hash % 23) {
            (true, 0, _) => Made::Invalid,
            (true, _, 0) => Made::Homepage { user: (hash >> 32) % USERS },
            _ => Made::Action {
                post: self.number * 100 + (hash >> 8) % POSTS,
                user: (hash >> 32) % USERS,
                action: ((hash >> 16) % 6) as usize,
            },
        }
    }

    /// Appends a line.
    pub fn write(&self, line: u64, text: &mut String) {
        let number = self.number;
        let result = match self.made(line) {
            Made::Invalid => writeln!(text, "{{\"type\":\"action\",\"user_id\":\"u{number}-"),
            Made::Homepage { user } => {
                writeln!(text, "{{\"type\":\"homepage_fetch\",\"user_id\":\"u{number}-{user}\"}}")
            }
            Made::Action { post, user, action } => {
                text.push('{');
                if self.kind.has_ids() {
                    write!(text, "\"event_id\":\"{number}-{line}\",").expect("a String takes everything");
                }
                // Every minute has a leap second here.
                let second = line / 50 % 61;
                writeln!(
                    text,
                    "\"type\":\"action\",\"timestamp\":\"2026-06-30T23:59:{second:02}Z\",\"user_id\":\"u{number}-{user}\",\
                     \"resource_type\":\"posts:{post}\",\"action\":\"{}\"}}",
                    ACTIONS[action].0
                )
            }
        };
        result.expect("a String takes everything");
    }

    /// How many of these lines are rejected.
    pub fn invalid(&self, lines: std::ops::Range<u64>) -> u64 {
        lines.filter(|line| matches!(self.made(*line), Made::Invalid)).count() as u64
    }

    /// Acknowledged up to here.
    pub fn acked(&self) -> u64 {
        self.acked.load(SeqCst)
    }

    /// Written up to here.
    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }
}

/// Counts of a daemon, as it answers them.
#[derive(Debug)]
pub struct Answers {
    /// `/v1/status`.
    pub status: Value,
    /// Summary and posts of `video-actions`.
    pub actions: Value,
    /// Summary of `homepage-fetch`.
    pub homepage: Value,
    /// Where each named producer is told to resume.
    pub resumes: BTreeMap<u64, u64>,
}

/// What a check found out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Lines that are there and were not acknowledged.
    pub unacknowledged: u64,
    /// Lines that were sent and are not there.
    pub lost_in_flight: u64,
}

/// What must be there.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Per producer, how many of its lines were found by the last check.
    settled: BTreeMap<u64, u64>,
    posts: BTreeMap<u64, [u64; 6]>,
    visitors: HashSet<(u64, u64)>,
    fetchers: HashSet<(u64, u64)>,
    fetches: u64,
    invalid: u64,
    accepted: u64,
}

impl Books {
    /// New producers, which have sent nothing.
    pub fn lanes() -> Vec<Lane> {
        Kind::ALL.into_iter().zip(1..).map(|(kind, number)| Lane::new(kind, number)).collect()
    }

    /// Accepted events found by the last check.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Compares the answers of a daemon to which nobody sends with what must be there, and takes note of what is. Panics
    /// with the difference.
    pub fn check(&mut self, lanes: &[Lane], answers: &Answers) -> Seen {
        let found = posts_of(&answers.actions);
        let mut seen = Seen::default();
        for lane in lanes {
            let (acked, sent) = (lane.acked(), lane.sent());
            let count = |posts: &BTreeMap<u64, [u64; 6]>| {
                let of_lane = posts.range(lane.number * 100..(lane.number + 1) * 100);
                of_lane.map(|(_, counts)| counts.iter().sum::<u64>()).sum::<u64>()
            };
            let before = self.settled.get(&lane.number).copied().unwrap_or(0);
            let present = match answers.resumes.get(&lane.number) {
                Some(resume) => *resume,
                None => {
                    let (found, known) = (count(&found), count(&self.posts));
                    assert!(found >= known, "{}: {known} events were there, {found} are", lane.name());
                    before + (found - known)
                }
            };
            let name = lane.name();
            assert!(present >= acked, "{name}: {acked} lines were acknowledged, {present} are there");
            assert!(present <= sent, "{name}: {sent} lines were sent, {present} are there");
            seen.unacknowledged += present - acked;
            seen.lost_in_flight += sent - present;
            for line in before..present {
                self.add(lane, line);
            }
            self.settled.insert(lane.number, present);
            if lane.kind == Kind::Anonymous {
                // What is there of it is only known now: it goes on behind that.
                lane.acked.store(present, SeqCst);
            }
            lane.sent.store(present.max(lane.acked()), SeqCst);
        }
        assert_eq!(found, self.posts, "posts");
        self.check_counts(answers);
        seen
    }

    fn check_counts(&self, answers: &Answers) {
        let status = &answers.status;
        let ledger = &status["ledger"];
        let terms = balanced(ledger);
        assert_eq!(status["sequence"], self.accepted, "the last sequence: {status}");
        assert_eq!(terms.accepted, self.accepted, "accepted: {ledger}");
        assert_eq!(terms.rejected, self.invalid, "rejected: {ledger}");
        assert_eq!(terms.dropped, 0, "dropped: {ledger}");
        let summary = &answers.actions["summary"];
        let actions: u64 = self.posts.values().flatten().sum();
        assert_eq!(summary["total_events"], actions, "actions: {summary}");
        assert_eq!(summary["total_visitors"], self.visitors.len(), "visitors: {summary}");
        let summary = &answers.homepage["summary"];
        assert_eq!(summary["homepage_fetches"], self.fetches, "homepage fetches: {summary}");
        assert_eq!(summary["unique_visitors"], self.fetchers.len(), "visitors of the homepage: {summary}");
    }

    fn add(&mut self, lane: &Lane, line: u64) {
        match lane.made(line) {
            Made::Invalid => {
                self.invalid += 1;
                return;
            }
            Made::Homepage { user } => {
                self.fetches += 1;
                self.fetchers.insert((lane.number, user));
            }
            Made::Action { post, user, action } => {
                self.posts.entry(post).or_default()[action] += 1;
                self.visitors.insert((lane.number, user));
            }
        }
        self.accepted += 1;
    }
}

fn posts_of(answer: &Value) -> BTreeMap<u64, [u64; 6]> {
    let rows = answer["tables"]["posts"].as_array().unwrap_or_else(|| panic!("no posts: {answer}"));
    let row = |row: &Value| {
        let post = row["post_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("a post: {row}"));
        (post, ACTIONS.map(|(_, column)| row[column].as_u64().unwrap_or_else(|| panic!("no {column}: {row}"))))
    };
    rows.iter().map(row).collect()
}

/// The terms of a ledger, each summed over its reasons.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Accepted.
    pub accepted: u64,
    /// Rejected, for whatever reason.
    pub rejected: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Dropped, for whatever reason.
    pub dropped: u64,
}

/// The terms of a ledger, which must add up to what was received.
pub fn balanced(ledger: &Value) -> Terms {
    let one = |name: &str| ledger[name].as_u64().unwrap_or_else(|| panic!("no {name}: {ledger}"));
    let all = |name: &str| -> u64 {
        let reasons = ledger[name].as_object().unwrap_or_else(|| panic!("no {name}: {ledger}"));
        reasons.values().map(|count| count.as_u64().expect("a count")).sum()
    };
    let terms = Terms {
        accepted: one("accepted"),
        rejected: all("rejected"),
        duplicate: one("duplicate"),
        dropped: all("dropped"),
    };
    let sum = terms.accepted + terms.rejected + terms.duplicate + terms.dropped;
    assert_eq!(one("received"), sum, "the ledger does not balance: {ledger}");
    terms
}
