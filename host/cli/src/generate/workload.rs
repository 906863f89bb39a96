//! What a line looks like: which kind it is, who did what when. Knows nothing of pacing or output.

use super::faults;
use super::popularity::{Exponent, Popularity};
use super::random::{Draws, Purpose, Share, below};
use super::timestamp::{self, START};

/// Number of users, all written with six digits.
pub const USERS: u32 = 1_000_000;
/// Number of posts; their ids follow [`FIRST_POST`].
pub const POSTS: u32 = 10_000;
const FIRST_POST: u32 = 10_000;

/// Actions, each with the bound of its share in percent.
const ACTIONS: [(u32, &str); 6] =
    [(60, "view"), (80, "play"), (88, "pause"), (94, "unmute"), (97, "carousel_left"), (100, "carousel_right")];

/// How far back a timestamp out of order may lie, in milliseconds.
const DISORDER: u32 = 60_000;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No daemon accepts it.
    Invalid,
    /// Accepted; nobody asked for its type.
    Unsubscribed,
    /// Accepted; `video-actions` refuses it.
    Refused,
    /// A `homepage_fetch`.
    Homepage,
    /// An `action`.
    Action,
}

/// Which part of the lines is of which kind.
pub struct Mix {
    /// Bounds of invalid, unsubscribed, refused and homepage, in 2^-32.
    bounds: [u64; 4],
    disorder: u64,
    wide: bool,
}

impl Mix {
    /// None when the parts are more than the whole.
    pub fn new(
        invalid: Share,
        unsubscribed: Share,
        refused: Share,
        homepage: Share,
        disorder: Share,
        wide: bool,
    ) -> Option<Mix> {
        let mut bounds = [invalid, unsubscribed, refused, homepage].map(Share::parts);
        for next in 1..bounds.len() {
            bounds[next] += bounds[next - 1];
        }
        (bounds[3] <= 1 << 32).then_some(Mix { bounds, disorder: disorder.parts(), wide })
    }

    fn kind(&self, bits: u32) -> Kind {
        const KINDS: [Kind; 4] = [Kind::Invalid, Kind::Unsubscribed, Kind::Refused, Kind::Homepage];
        let found = self.bounds.iter().position(|bound| u64::from(bits) < *bound);
        found.map_or(Kind::Action, |index| KINDS[index])
    }
}

/// An endless stream of lines.
pub struct Workload {
    seed: u64,
    next: u64,
    mix: Mix,
    users: Popularity,
    posts: Popularity,
    in_order: timestamp::Writer,
    out_of_order: timestamp::Writer,
}

/// What all kinds of lines are written from.
pub struct Line {
    /// Its random numbers.
    pub draws: Draws,
    /// Its timestamp.
    pub timestamp: [u8; 24],
    /// Six digits.
    pub user: [u8; 6],
    /// Five digits.
    pub post: [u8; 5],
    /// The action.
    pub action: &'static str,
    /// Whether it carries properties.
    pub wide: bool,
}

impl Workload {
    /// Starts at line 0.
    pub fn new(seed: u64, mix: Mix) -> Self {
        Workload {
            seed,
            next: 0,
            mix,
            users: Popularity::zipf(USERS, Exponent::One),
            posts: Popularity::zipf(POSTS, Exponent::OneAndATenth),
            in_order: timestamp::Writer::new(),
            out_of_order: timestamp::Writer::new(),
        }
    }

    /// Appends the next line, with its newline, and says what it is.
    pub fn line(&mut self, to: &mut Vec<u8>) -> Kind {
        let draws = Draws::new(self.seed, self.next);
        let kind_bits = draws.get(Purpose::Kind);
        let line = Line {
            draws,
            timestamp: self.timestamp(draws.get(Purpose::Time)),
            user: digits(scattered(self.users.draw(draws.get(Purpose::User)), USERS)),
            post: digits(FIRST_POST + scattered(self.posts.draw(draws.get(Purpose::Post)), POSTS)),
            action: action(kind_bits as u32),
            wide: self.mix.wide,
        };
        self.next += 1;
        let kind = self.mix.kind((kind_bits >> 32) as u32);
        match kind {
            Kind::Invalid => faults::invalid(&line, to),
            Kind::Unsubscribed => faults::unsubscribed(&line, to),
            Kind::Refused => faults::refused(&line, to),
            Kind::Homepage => line.homepage(to),
            Kind::Action => line.action(to),
        }
        to.push(b'\n');
        kind
    }

    fn timestamp(&mut self, bits: u64) -> [u8; 24] {
        let place = START + self.next as i64;
        if (bits & 0xffff_ffff) < self.mix.disorder {
            let back = 1 + below((bits >> 32) as u32, DISORDER);
            return *self.out_of_order.text(place - i64::from(back));
        }
        *self.in_order.text(place)
    }
}

impl Line {
    /// An action as the schema has it.
    pub fn action(&self, to: &mut Vec<u8>) {
        self.head("action", to);
        to.extend_from_slice(b"\",\"resource_type\":\"posts:");
        to.extend_from_slice(&self.post);
        to.extend_from_slice(b"\",\"action\":\"");
        to.extend_from_slice(self.action.as_bytes());
        self.tail(to);
    }

    /// A fetch of the home page.
    pub fn homepage(&self, to: &mut Vec<u8>) {
        self.head("homepage_fetch", to);
        self.tail(to);
    }

    /// `{"type":...,"timestamp":...,"user_id":"u_...`, with the last string open.
    pub fn head(&self, event_type: &str, to: &mut Vec<u8>) {
        to.extend_from_slice(b"{\"type\":\"");
        to.extend_from_slice(event_type.as_bytes());
        to.extend_from_slice(b"\",\"timestamp\":\"");
        to.extend_from_slice(&self.timestamp);
        to.extend_from_slice(b"\",\"user_id\":\"u_");
        to.extend_from_slice(&self.user);
    }

    /// Closes the open string and the object.
    fn tail(&self, to: &mut Vec<u8>) {
        if self.wide {
            self.properties(to);
        } else {
            to.extend_from_slice(b"\"}");
        }
    }

    /// What an application adds for itself: nested, with escapes, numbers and text beyond ASCII; nobody subscribes to it.
    fn properties(&self, to: &mut Vec<u8>) {
        const PLANS: [&str; 4] = ["free", "plus", "team", "enterprise"];
        const PATHS: [&str; 4] = ["/", "/watch", "/collections/caf\u{e9}", "/search?q=\\\"live\\\""];
        let bits = self.draws.get(Purpose::Detail);
        to.extend_from_slice(b"\",\"properties\":{\"plan\":\"");
        to.extend_from_slice(PLANS[(bits & 3) as usize].as_bytes());
        to.extend_from_slice(b"\",\"session\":{\"id\":\"s-");
        to.extend_from_slice(&digits::<9>(below((bits >> 32) as u32, 1_000_000_000)));
        to.extend_from_slice(b"\",\"page_views\":");
        to.extend_from_slice(&digits::<3>(100 + (bits >> 2 & 255) as u32));
        to.extend_from_slice(b",\"new\":");
        to.extend_from_slice(if bits & 1024 == 0 { b"true" } else { b"false" });
        to.extend_from_slice(b",\"referrer\":null},\"page\":{\"path\":\"");
        to.extend_from_slice(PATHS[(bits >> 11 & 3) as usize].as_bytes());
        to.extend_from_slice(b"\",\"title\":\"A page about moving pictures\",\"locale\":\"en-GB\"},");
        to.extend_from_slice(
            b"\"viewport\":{\"width\":1440,\"height\":900,\"scale\":1.5},\"experiments\":[\"player-v2\",",
        );
        to.extend_from_slice(b"\"autoplay-off\"],\"timings\":[12.25,0.5,3e2,-1],\"device\":{\"os\":\"linux\",");
        to.extend_from_slice(b"\"app\":\"web 4.18.2\",\"memory_gb\":16}}}");
    }
}

fn action(bits: u32) -> &'static str {
    let percent = below(bits, 100);
    ACTIONS.iter().find(|(bound, _)| percent < *bound).map_or("view", |(_, name)| name)
}

/// Moves ranks apart, so that neighbours in popularity are not neighbours by id. A bijection: the factor is prime and
/// divides neither count.
fn scattered(rank: u32, count: u32) -> u32 {
    ((u64::from(rank) * 611_953 + 123) % u64::from(count)) as u32
}

/// `value` with exactly N digits.
fn digits<const N: usize>(mut value: u32) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattering_loses_nobody() {
        for count in [USERS, POSTS] {
            let mut seen: Vec<u32> = (0..count).map(|rank| scattered(rank, count)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..count), "{count}");
        }
    }

    #[test]
    fn actions_have_their_shares() {
        // Ten thousand evenly spaced numbers, each at the beginning of its part.
        let bits = |n: u64| ((n << 32).div_ceil(10_000)) as u32;
        let share = |name: &str| (0..10_000).filter(|n| action(bits(*n)) == name).count();
        assert_eq!([share("view"), share("play"), share("pause")], [6000, 2000, 800]);
        assert_eq!([share("unmute"), share("carousel_left"), share("carousel_right")], [600, 300, 300]);
    }

    #[test]
    fn shares_beyond_the_whole_are_refused() {
        let [half, more] = ["0.5", "0.6"].map(|text| text.parse::<Share>().unwrap_or_default());
        let none = Share::default();
        assert!(Mix::new(half, half, none, none, more, false).is_some());
        assert!(Mix::new(half, none, none, more, none, false).is_none());
    }
}
