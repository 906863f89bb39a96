//! Threads that the daemon cannot do without. Must not know what they do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use tally_storage::Storage;

use crate::context::Context;

/// A thread without which the daemon cannot go on: its error or panic ends it.
pub(crate) fn guarded<S: Storage>(
    context: &Arc<Context<S>>,
    name: &str,
    body: impl FnOnce(&Arc<Context<S>>) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let (context, what) = (context.clone(), name.to_owned());
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let body = AssertUnwindSafe(|| body(&context));
            let result = catch_unwind(body)
                .unwrap_or_else(|_| Err(anyhow::anyhow!("the {what} thread panicked; this is a bug")));
            if let Err(error) = result {
                context.fatal.stop(error);
            }
        })
        .with_context(|| format!("starting the {name} thread"))
}
