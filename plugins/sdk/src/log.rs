//! Messages to whoever runs the daemon. The only thing a plugin can ask of its host.

use crate::wire::tally::aggregator::log;

/// Something an author wants seen while developing.
pub fn debug(message: &str) {
    write(log::Level::Debug, message);
}

/// Something worth knowing.
pub fn info(message: &str) {
    write(log::Level::Info, message);
}

/// Something that should be looked at.
pub fn warn(message: &str) {
    write(log::Level::Warn, message);
}

/// Something that went wrong.
pub fn error(message: &str) {
    write(log::Level::Error, message);
}

#[cfg(target_family = "wasm")]
fn write(level: log::Level, message: &str) {
    log::write(level, message);
}

/// There is no host in native tests.
#[cfg(not(target_family = "wasm"))]
fn write(level: log::Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
