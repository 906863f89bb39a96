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
//! The laws are what the host's promises rest on, bit for bit: applying `a ++ b` equals applying `a`, applying `b` and
//! merging; merging is associative with the empty state as identity; equal states save to equal bytes. The building blocks
//! ([`Count`], [`Sum`], [`Distinct`], [`Groups`]) obey them, and so does any struct of them with `#[derive(State)]`.
//! A float mean does not. The sandbox has no clock, no randomness and no I/O, so nothing else can get in.
//!
//! The SDK knows the contract in `wit/` and nothing of the host.

mod aggregator;
mod block;
mod distinct;
mod event;
mod groups;
mod guest;
pub mod log;
mod number;
mod question;
mod report;
mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod text;
mod value;
#[doc(hidden)]
pub mod wire;

pub use aggregator::{Aggregator, NoSettings, Ordering, Refusal};
pub use block::{Count, Sum};
pub use distinct::Distinct;
pub use event::{Binding, Event, Row, Schema};
pub use groups::Groups;
#[doc(hidden)]
pub use guest::Component;
pub use number::{Decimal, Timestamp};
pub use question::{Page, Question};
pub use report::{Cell, Report, TableBuilder};
pub use state::{LoadError, Reader, State};
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
