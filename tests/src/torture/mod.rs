//! The torture of the real binary: faults from outside, at random moments under load, and after each of them the same check
//! of everything against an oracle that lives outside the daemon. A small part of it runs with the tests, all of it with
//! `cargo xtask torture`.

pub mod books;
pub mod clocks;
pub mod disk;
pub mod inject;
pub mod kills;
pub mod life;
pub mod load;
pub mod lock;
pub mod random;
pub mod records;
pub mod report;
pub mod signals;
pub mod site;
pub mod swaps;
pub mod versions;
