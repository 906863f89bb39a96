//! What a Rust plugin author depends on: write a struct for the state and a struct for the event, and get a component.
//!
//! ```
//! use tally_sdk::{Aggregator, Count, Distinct, Event, NoSettings, Question, Refusal, Report, State, Text};
//!
//! /// One line of the log, read from its JSON by the host; text is borrowed, never copied.
//! #[derive(Event)]
//! #[event(type = "signup")]
//! pub struct Signup<'a> {
//!     #[field("/user_id")]
//!     user: Text<'a>,
//!     #[field("/referrer", prefix = "https://", refuse = "referrer")]
//!     referrer: Option<Text<'a>>,
//! }
//!
//! /// What is kept.
//! #[derive(State)]
//! pub struct Signups {
//!     signups: Count,
//!     referred: Count,
//!     users: Distinct,
//! }
//!
//! impl Aggregator for Signups {
//!     const NAME: &'static str = "signups";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!     const SUMMARY: &'static str = "Counts sign-ups and who signed up";
//!     const STATE_VERSION: &'static str = "1";
//!     type Settings = NoSettings;
//!     type Event<'a> = Signup<'a>;
//!
//!     fn new(_: &NoSettings) -> Result<Self, String> {
//!         Ok(Self { signups: Count::default(), referred: Count::default(), users: Distinct::default() })
//!     }
//!
//!     fn apply(&mut self, event: &Signup<'_>) -> Result<(), Refusal> {
//!         self.signups.add(1);
//!         self.referred.add(u64::from(event.referrer.is_some()));
//!         self.users.insert(event.user);
//!         Ok(())
//!     }
//!
//!     fn report(&self, _: &Question, report: &mut Report) -> Result<(), String> {
//!         report
//!             .summary()
//!             .counter("signups", [self.signups])
//!             .counter("referred", [self.referred])
//!             .gauge("users", [self.users.len()]);
//!         Ok(())
//!     }
//! }
//!
//! tally_sdk::export!(Signups);
//! ```
//!
//! Build it with `cargo build --target wasm32-unknown-unknown` and `crate-type = ["cdylib", "rlib"]`; test it natively with
//! [`testing::Harness`], and its laws with [`testing::check_laws`].
//!
//! # Building blocks
//!
//! | Block | What it answers | Error | Memory | Saved |
//! |---|---|---|---|---|
//! | [`Count`] | how often | none | 8 bytes | 8 bytes |
//! | [`Sum`] | the sum of integers or decimals | none | 16 bytes | 16 bytes |
//! | [`Min`], [`Max`] | the least, the greatest | none | 16 bytes | 9 bytes |
//! | [`Stats`] | count, sum, mean, variance | none in what is kept; 2^-50 of what is answered | 64 bytes | 48 bytes |
//! | [`Histogram`] | how many between given bounds | none | 16 bytes per bound | 16 bytes per bound |
//! | [`Quantiles`] | median, p99, ... | none up to a bound; beyond, 0.8 % of the value | some 20 bytes per different value; then at most 59 KiB | 16 bytes per different value; then 12 per bucket in use |
//! | [`Distinct`] | how many different texts | none but for equal hashes: n^2 / 2^65 | 10 to 18 bytes per text | 8 bytes per text |
//! | [`ApproxDistinct`] | how many different texts, in bounded memory | as above up to a bound; beyond, a standard error of 0.8 % | as above; then 16 KiB | 8 bytes per text; then 16 KiB |
//! | [`Groups`] | anything per text | none | text, value and some 30 bytes per text | text, 4 bytes and value per text |
//! | [`BottomK`] | anything per text for `K` texts, and for all others together | none in each; which texts is chosen by hash | `2 K` entries of the above | `K` entries of the above |
//! | [`Series`], [`PerHour`], [`PerDay`] | anything per time bucket for the newest, and for all older together | none | 8 bytes and value per bucket | 8 bytes and value per bucket |
//! | [`Leaderboard`] | who leads, without a scan | none | 4 to 12 bytes per entry | nothing: it follows from the rest |
//! | [`PerText`] | something worked out once per text and batch | none | one entry per text of a batch | nothing |
//!
//! Errors and sizes are those of the default parameters; where something can be estimated, the block says whether it is (`is_exact`) and how well. Blocks
//! go into one another: `PerDay<Groups<Stats>, 31>`, `BottomK<ApproxDistinct, 1000>`.
//!
//! # The laws
//!
//! They are what the host's promises rest on, bit for bit: applying `a ++ b` equals applying `a`, applying `b` and
//! merging; merging is associative with the empty state as identity; equal states save to equal bytes. The building blocks
//! obey them, and so does any struct of them with `#[derive(State)]`: what a block keeps is a function of what was put in, whatever
//! the order, splits and merges. A float mean, a t-digest and Space-Saving do not. The sandbox has no clock, no randomness and no I/O, so
//! nothing else can get in.
//!
//! The SDK knows the contract in `wit/` and nothing of the host.

mod aggregator;
mod approx_distinct;
mod block;
#[cfg(test)]
mod block_laws;
mod bottom_k;
mod distinct;
mod event;
mod groups;
mod guest;
mod histogram;
mod leaderboard;
pub mod log;
mod number;
mod quantiles;
mod question;
mod report;
mod series;
mod state;
mod stats;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod text;
mod value;
#[doc(hidden)]
pub mod wire;

pub use aggregator::{Aggregator, NoSettings, Ordering, Refusal};
pub use approx_distinct::ApproxDistinct;
pub use block::{Count, Sum};
pub use bottom_k::BottomK;
pub use distinct::Distinct;
pub use event::{Binding, Event, Row, Schema};
pub use groups::Groups;
#[doc(hidden)]
pub use guest::Component;
pub use histogram::Histogram;
pub use leaderboard::Leaderboard;
pub use number::{Decimal, Timestamp};
pub use quantiles::Quantiles;
pub use question::{Page, Question};
pub use report::{Cell, Report, TableBuilder};
pub use series::{PerDay, PerHour, Series};
pub use state::{LoadError, Reader, State};
pub use stats::{Max, Min, Stats};
pub use tally_sdk_macros::{Event, State};
pub use text::{Json, PerText, Text};
pub use value::{Prefixed, Value};

/// Makes the aggregator a component when the crate is compiled to Wasm; does nothing in native builds and tests.
#[macro_export]
macro_rules! export {
    ($aggregator:ty) => {
        #[cfg(target_family = "wasm")]
        #[doc(hidden)]
        type TallyExportedComponent = $crate::Component<$aggregator>;
        #[cfg(target_family = "wasm")]
        $crate::wire::export_component!(TallyExportedComponent with_types_in $crate::wire);
    };
}

/// The code of that page is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/state-versions.md")]
pub struct StateVersions;
