//! A running daemon's way to a changed configuration: reads it again, says what differs. Must not know: how a change is
//! applied.

use crate::config::{Changes, Config, Loaded, Sources};

/// Changes from which level on lines are logged; the error says what is wrong with the level.
pub type SetLogLevel = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What a reload needs.
pub struct Reload {
    /// Where the configuration comes from.
    pub sources: Sources,
    /// How the daemon's log lines are changed.
    pub set_log_level: SetLogLevel,
}

impl Reload {
    /// Reads the configuration as it is now and takes on into `in_force` what a running daemon can; gives what differed. None,
    /// with the reasons logged, if it is wrong: then the one in force stays.
    pub fn read(&self, in_force: &mut Config) -> Option<Changes> {
        let Loaded { config, warnings } = match self.sources.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                let error = anyhow::Error::new(error);
                tracing::error!("the configuration is not taken, the one in force stays: {error:#}");
                return None;
            }
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let changes = in_force.take_live(config);
        for change in &changes.live {
            tracing::info!(key = change.key, old = change.old, new = change.new, "changed");
        }
        for change in &changes.restart {
            tracing::warn!(key = change.key, old = change.old, new = change.new, "needs a restart");
        }
        Some(changes)
    }

    /// Logs from this level on, or says why not.
    pub fn set_log_level(&self, level: &str) {
        if let Err(error) = (self.set_log_level)(level) {
            tracing::error!("logs.level stays as it is: {error}");
        }
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Reload").field("sources", &self.sources).finish_non_exhaustive()
    }
}
