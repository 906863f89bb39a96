//! Sign-ups by referrer, in bounded memory. The same aggregator stands beside this one in C, JavaScript and Python; all four
//! save equal bytes and give equal reports for equal events. Written as they are, without the SDK's own maps and sketches.
//!
//! What is kept: totals; the referrers of lowest rank; the lowest ranks of users. A rank is the host's hash of the text as a float: of 64
//! bits 53 are left, which is what JavaScript sees of a hash. Whatever is among the lowest of all was among the lowest ever since it was first
//! seen, so what is kept of it is complete, however events were split and merged. Other referrers are the difference to the total.

use std::cmp::Ordering;

use tally_sdk::{
    Aggregator, Decimal, Event, LoadError, NoSettings, PerText, Question, Reader, Refusal, Report, State, Text,
};

/// Referrers that are counted one by one.
const REFERRERS: usize = 256;
/// Ranks of users that are kept: up to so many are counted exactly, more with a standard error of 3%.
const USERS: usize = 1024;
/// The most that one sign-up may have paid, in cents.
const MOST_PAID: i64 = 1_000_000_000;
/// 2^64: no rank is higher.
const HIGHEST: f64 = 18_446_744_073_709_551_616.0;

/// One sign-up.
#[derive(Event)]
#[event(type = "signup")]
pub struct Signup<'a> {
    #[field("/user_id")]
    user: Text<'a>,
    #[field("/referrer")]
    referrer: Option<Text<'a>>,
    #[field("/paid")]
    paid: Option<Decimal<2>>,
}

#[derive(Clone, Debug)]
struct Referrer {
    rank: f64,
    text: Vec<u8>,
    signups: u64,
    paid: u64,
}

impl Referrer {
    fn place(&self, rank: f64, text: &[u8]) -> Ordering {
        self.rank.total_cmp(&rank).then_with(|| self.text.as_slice().cmp(text))
    }
}

/// The state.
#[derive(Debug, Default)]
pub struct Signups {
    signups: u64,
    paid: u64,
    direct: u64,
    /// By rank and text, no more than [`REFERRERS`].
    referrers: Vec<Referrer>,
    /// Ascending, no more than [`USERS`].
    users: Vec<f64>,
    /// Where the texts of this batch stand in `referrers`, if they do.
    places: PerText<Option<u32>>,
    /// Users of this batch that were looked at.
    seen: PerText<()>,
}

impl Signups {
    /// Where this referrer stands, put in if need be; none if it ranks behind those that are kept.
    fn place(&mut self, rank: f64, text: &[u8]) -> Option<usize> {
        match self.referrers.binary_search_by(|referrer| referrer.place(rank, text)) {
            Ok(place) => Some(place),
            Err(REFERRERS) => None,
            Err(place) => {
                self.referrers.insert(place, Referrer { rank, text: text.to_vec(), signups: 0, paid: 0 });
                self.referrers.truncate(REFERRERS);
                self.places.clear();
                Some(place)
            }
        }
    }

    fn user(&mut self, rank: f64) {
        if self.users.get(USERS - 1).is_some_and(|highest| rank >= *highest) {
            return;
        }
        if let Err(place) = self.users.binary_search_by(|user| user.total_cmp(&rank)) {
            self.users.insert(place, rank);
            self.users.truncate(USERS);
        }
    }

    fn user_count(&self) -> u64 {
        match self.users.get(USERS - 1) {
            None => self.users.len() as u64,
            Some(last) => ((USERS - 1) as f64 * HIGHEST / last) as u64,
        }
    }
}

impl Aggregator for Signups {
    const NAME: &'static str = "signups";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Sign-ups by referrer, and who signed up";
    const STATE_VERSION: &'static str = "1";
    const REFUSALS: &'static [&'static str] = &["paid"];

    type Settings = NoSettings;
    type Event<'a> = Signup<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn apply(&mut self, event: &Signup<'_>) -> Result<(), Refusal> {
        let paid = event.paid.map_or(0, |paid| paid.scaled);
        if !(0..=MOST_PAID).contains(&paid) {
            return Err(Refusal("paid"));
        }
        self.signups += 1;
        self.paid += paid as u64;
        match event.referrer {
            None => self.direct += 1,
            Some(text) => {
                let place = match self.places.get(text) {
                    Some(place) => place.map(|place| place as usize),
                    None => {
                        let place = self.place(text.hash() as f64, text.as_bytes());
                        self.places.set(text, place.map(|place| place as u32));
                        place
                    }
                };
                if let Some(place) = place {
                    self.referrers[place].signups += 1;
                    self.referrers[place].paid += paid as u64;
                }
            }
        }
        if self.seen.get(event.user).is_none() {
            self.seen.set(event.user, ());
            self.user(event.user.hash() as f64);
        }
        Ok(())
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        let kept: u64 = self.referrers.iter().map(|referrer| referrer.signups).sum();
        report
            .summary()
            .counter("signups", [self.signups])
            .counter("paid", [cents(self.paid)])
            .counter("direct", [self.direct])
            .gauge("users", [self.user_count()])
            .gauge("users_exact", [self.users.len() < USERS])
            .gauge("other_referrers", [self.signups - self.direct - kept]);
        let page =
            question.page(&self.referrers, |a, b| b.signups.cmp(&a.signups).then_with(|| a.place(b.rank, &b.text)));
        report
            .table("referrers", page.left_out)
            .key("referrer", page.rows.iter().map(|referrer| String::from_utf8_lossy(&referrer.text).into_owned()))
            .counter("signups", page.rows.iter().map(|referrer| referrer.signups))
            .counter("paid", page.rows.iter().map(|referrer| cents(referrer.paid)));
        Ok(())
    }
}

fn cents(sum: u64) -> Decimal<2> {
    Decimal { scaled: i64::try_from(sum).unwrap_or(i64::MAX) }
}

impl State for Signups {
    fn save(&self, out: &mut Vec<u8>) {
        [self.signups, self.paid, self.direct].into_iter().for_each(|count| out.extend(count.to_le_bytes()));
        out.extend((self.referrers.len() as u32).to_le_bytes());
        for referrer in &self.referrers {
            let numbers = [referrer.rank.to_bits(), referrer.signups, referrer.paid];
            numbers.into_iter().for_each(|number| out.extend(number.to_le_bytes()));
            out.extend((referrer.text.len() as u32).to_le_bytes());
            out.extend(&referrer.text);
        }
        out.extend((self.users.len() as u32).to_le_bytes());
        self.users.iter().for_each(|user| out.extend(user.to_le_bytes()));
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        (self.signups, self.paid, self.direct) = (saved.u64()?, saved.u64()?, saved.u64()?);
        for _ in 0..bounded(saved.count(28)?, REFERRERS)? {
            let (rank, signups, paid) = (rank(saved)?, saved.u64()?, saved.u64()?);
            let text = saved.text()?.as_bytes().to_vec();
            if self.referrers.last().is_some_and(|last| last.place(rank, &text).is_ge()) {
                return Err(LoadError::new("its referrers are out of order"));
            }
            self.referrers.push(Referrer { rank, text, signups, paid });
        }
        for _ in 0..bounded(saved.count(8)?, USERS)? {
            let rank = rank(saved)?;
            if self.users.last().is_some_and(|last| *last >= rank) {
                return Err(LoadError::new("its users are out of order"));
            }
            self.users.push(rank);
        }
        let kept = self.referrers.iter().try_fold(self.direct, |sum, referrer| sum.checked_add(referrer.signups));
        match kept {
            Some(kept) if kept <= self.signups => Ok(()),
            _ => Err(LoadError::new("its parts are more than its total")),
        }
    }

    fn merge(&mut self, later: &Self) {
        self.signups += later.signups;
        self.paid += later.paid;
        self.direct += later.direct;
        for referrer in &later.referrers {
            if let Some(place) = self.place(referrer.rank, &referrer.text) {
                self.referrers[place].signups += referrer.signups;
                self.referrers[place].paid += referrer.paid;
            }
        }
        later.users.iter().for_each(|user| self.user(*user));
    }
}

fn rank(saved: &mut Reader<'_>) -> Result<f64, LoadError> {
    let rank = f64::from_bits(saved.u64()?);
    if (0.0..=HIGHEST).contains(&rank) && rank.is_sign_positive() {
        return Ok(rank);
    }
    Err(LoadError::new("a rank is none"))
}

fn bounded(count: usize, most: usize) -> Result<usize, LoadError> {
    if count <= most { Ok(count) } else { Err(LoadError::new(format!("{count} entries where {most} may be"))) }
}

tally_sdk::export!(Signups);

#[cfg(test)]
mod tests {
    use super::*;
    use tally_sdk::testing::{Harness, check_laws};

    fn events(count: usize) -> Vec<String> {
        let event = |i: usize| {
            let (user, site, cents) = (i * 7919 % 3001, i * i % 701, i % 997);
            format!(r#"{{"type":"signup","user_id":"u{user}","referrer":"https://{site}.example","paid":{cents}.25}}"#)
        };
        (0..count).map(event).collect()
    }

    #[test]
    fn counts_and_refuses() {
        let mut harness = Harness::<Signups>::new("{}");
        let refused = harness.apply(&[
            r#"{"type":"signup","user_id":"a","referrer":"x","paid":2.50}"#,
            r#"{"type":"signup","user_id":"b","referrer":"y"}"#,
            r#"{"type":"signup","user_id":"a","referrer":"x","paid":0.01}"#,
            r#"{"type":"signup","user_id":"c","paid":-1}"#,
            r#"{"type":"signup","user_id":"d"}"#,
        ]);
        assert_eq!(refused, [(3, "paid".to_owned())]);
        let (signups, paid, users) = (harness.summary("signups"), harness.summary("paid"), harness.summary("users"));
        assert_eq!([signups, paid, users], ["4", "251", "3"]);
        let (rows, left_out) = harness.table("referrers", 0, 1);
        assert_eq!((rows, left_out), (vec![["x", "2", "251"].map(str::to_owned).to_vec()], 1));
    }

    #[test]
    fn more_than_is_kept_is_estimated() {
        let mut harness = Harness::<Signups>::new("{}");
        harness.apply(&events(20_000));
        let number = |column: &str| harness.summary(column).parse::<u64>().unwrap();
        assert_eq!((number("signups"), harness.summary("users_exact").as_str()), (20_000, "false"));
        assert!(number("users").abs_diff(3001) < 300, "{}", number("users"));
        let (rows, _) = harness.table("referrers", 0, 0);
        let kept: u64 = rows.iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
        assert_eq!((rows.len(), kept + number("other_referrers")), (REFERRERS, 20_000));
    }

    #[test]
    fn the_laws_hold() {
        check_laws::<Signups>("{}", &events(300));
    }

    #[test]
    fn what_was_not_saved_so_is_refused() {
        let mut harness = Harness::<Signups>::new("{}");
        harness.apply(&events(50));
        let saved = harness.save();
        for end in 0..saved.len() {
            assert!(Harness::<Signups>::load("{}", "1", &saved[..end]).is_err(), "{end} bytes");
        }
        let mut more = saved.clone();
        more[0] = 1;
        assert!(Harness::<Signups>::load("{}", "1", &more).is_err(), "parts that are more than the total");
    }
}
