//! Shadows at the doors: starts, compares and drops them, and says what became of that in the doors' terms.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Value, json};
use tally_query::{QueryError, Since};

use super::{Answers, stopping};
use crate::plugins::controller::Status;
use crate::plugins::shadow::Uncompared;

/// How long the running version may take until it has everything that is acknowledged.
const PATIENCE: Duration = Duration::from_secs(10);

impl Answers {
    /// Each with its shadow.
    pub(super) fn with_shadows(&self, mut statuses: Vec<Status>) -> Vec<Status> {
        for status in &mut statuses {
            status.shadow = self.shadows.status(&status.name);
        }
        statuses
    }

    pub(super) async fn start_shadow(
        &self,
        name: &str,
        component: Vec<u8>,
        from: Option<Since>,
    ) -> Result<Value, QueryError> {
        self.ensure_known(name)?;
        let (shadows, aggregator) = (self.shadows.clone(), name.to_owned());
        // It is compiled, and the saved state is loaded.
        let started = tokio::task::spawn_blocking(move || shadows.start(&aggregator, component, from)).await;
        let status =
            started.map_err(|_| QueryError::internal("not_shadowed", "starting the shadow ended by itself"))?;
        let status = status.map_err(|reason| QueryError::new(409, "not_shadowed", format!("{reason:#}")))?;
        Ok(json!({ "name": name, "shadow": status }))
    }

    pub(super) async fn compare_shadow(&self, name: &str, rows: u32) -> Result<Value, QueryError> {
        self.ensure_known(name)?;
        let runs = self.context.totals.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name);
        if runs && self.shadows.status(name).is_some() {
            // With everything that is acknowledged, unless that takes too long.
            let full = self.context.progress.facts().is_disk_full();
            let last = Some(self.context.published().last_sequence).filter(|_| !full);
            let fresh = async { self.wait_until_saved(name, self.fresh_cut(last).await?, last).await };
            if let Ok(waited) = tokio::time::timeout(PATIENCE, fresh).await {
                waited?;
            }
        }
        let compared = self.shadows.compare(name, rows as usize).await;
        let compared = compared.map_err(|error| {
            let message = error.to_string();
            match error {
                Uncompared::NoShadow(_) => QueryError::not_found("no_shadow", message),
                Uncompared::CatchingUp(_) => QueryError::timeout("catching_up", message),
                Uncompared::NotRunning(_) | Uncompared::Failed(_) => QueryError::new(409, "not_compared", message),
            }
        })?;
        serde_json::to_value(compared).map_err(|error| QueryError::internal("not_rendered", error.to_string()))
    }

    pub(super) async fn stop_shadow(&self, name: &str) -> Result<Value, QueryError> {
        let (shadows, aggregator) = (self.shadows.clone(), name.to_owned());
        // The call that it is in comes to its end first.
        let stopped = tokio::task::spawn_blocking(move || shadows.stop(&aggregator)).await.map_err(|_| stopping())?;
        let no_shadow = || QueryError::not_found("no_shadow", Uncompared::NoShadow(name.to_owned()).to_string());
        let stopped = stopped.ok_or_else(no_shadow)?;
        Ok(json!({ "name": name, "dropped": stopped.attached.digest }))
    }

    pub(super) fn ensure_known(&self, name: &str) -> Result<(), QueryError> {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        if statuses.iter().any(|status| status.name == name) {
            return Ok(());
        }
        let message = format!("there is no aggregator {name:?}; see `tally plugin list`");
        Err(QueryError::not_found("unknown_aggregator", message))
    }
}
