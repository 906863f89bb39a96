//! Who gets in by which door and what it takes, what a reload changes, that an event counts once, and that nothing
//! acknowledged is lost whatever the durability: the daemon as a real process.

mod access;
mod durability;
mod identity;
mod orders;
mod reload;
mod secrets;
