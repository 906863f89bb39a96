//! Hostile plugins: whatever a component does, one event is skipped and dead-lettered, or the plugin is quarantined or never
//! taken, with the reason in `plugin list`; every other plugin and all ingestion go on, and `verify` finds every hash equal.

mod calls;
mod components;
mod events;
mod kills;
mod questions;
mod resume;
mod traffic;
