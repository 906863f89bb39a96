//! Which stored plugin versions may go: those that nothing names any more. What runs is named by the plan, what saved state by the state
//! store, and whatever was in a plan by the log, as long as that holds a frame from before it left the plan. Must not know: the plugins
//! directory, threads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use tally_aggregate::{Entries, Entry, Plan};
use tally_storage::Storage;
use tally_wal::{Reader, View};

use crate::aggregator::Meta;
use crate::context::Context;

/// See the module.
#[derive(Debug)]
pub struct Retired {
    /// Where each stored version that is not in the plan left it last: the frame of that barrier, or a later one. By digest; without an entry
    /// a version is in the plan, or never was.
    left: BTreeMap<String, u64>,
    /// The versions with this frame left in an earlier life, and where was not looked up yet.
    unread: u64,
}

impl Retired {
    /// At the beginning of a life: any stored version that does not run may have left the plan just before.
    pub fn new<S: Storage>(context: &Context<S>, plan: &Plan) -> anyhow::Result<Self> {
        let unread = context.tail.last();
        let mut left: BTreeMap<_, _> = context.registry.stored()?.into_iter().map(|digest| (digest, unread)).collect();
        left.retain(|digest, _| !is_in(plan, digest));
        Ok(Self { left, unread })
    }

    /// A plan has taken the place of another, by the barrier in this frame.
    pub fn replaced(&mut self, before: &Plan, now: &Plan, frame: u64) {
        self.left.extend(digests(before).map(|digest| (digest.to_owned(), frame)));
        self.left.retain(|digest, _| !is_in(now, digest));
    }

    /// Removes the stored versions that nothing names, but for those in use. Nobody may be storing one. Gives the digests that somebody may
    /// soon ask for: in use, of saved state, or between where an aggregator is in the log and its end.
    ///
    /// Once in a life it may have to read the whole log.
    pub fn clear_away<S: Storage>(
        &mut self,
        context: &Context<S>,
        mut in_use: BTreeSet<String>,
    ) -> anyhow::Result<BTreeSet<String>> {
        // In this order: what is saved meanwhile was named by the log as it was before.
        let first_frame = context.reader().first_frame();
        let snapshot = context.store.snapshot()?;
        for name in snapshot.aggregators()? {
            if let Some(saved) = snapshot.load(&name)? {
                in_use.extend(Meta::from_bytes(&name, &saved.meta)?.versions().map(str::to_owned));
            }
        }
        let mut unnamed = context.registry.stored()?;
        unnamed.retain(|digest| !in_use.contains(digest));
        let is_unread = |digest: &String| self.unread >= first_frame && self.left.get(digest) == Some(&self.unread);
        if unnamed.iter().any(is_unread) {
            self.read(&mut context.reader()).context("looking for plugin versions in the log")?;
        }
        unnamed.retain(|digest| self.left.get(digest).is_none_or(|left| *left < first_frame));
        context.registry.remove(&unnamed)?;
        if !unnamed.is_empty() {
            tracing::info!(versions = unnamed.len(), "removed stored plugin versions that nothing names any more");
        }
        self.left.retain(|digest, _| !unnamed.contains(digest));

        let facts = context.progress.facts();
        let follow = facts.saved.iter().filter(|(name, _)| !facts.quarantined.contains_key(*name));
        let behind = follow.map(|(_, meta)| meta.frame).min().unwrap_or(u64::MAX);
        in_use.extend(self.left.iter().filter(|(_, left)| **left > behind).map(|(digest, _)| digest.clone()));
        Ok(in_use)
    }

    /// Looks up where those left of which that is not known.
    fn read<S: Storage>(&mut self, reader: &mut Reader<S>) -> anyhow::Result<()> {
        let mut left: BTreeMap<String, u64> = BTreeMap::new();
        let mut plan = Plan::default();
        reader.seek(reader.first_frame())?;
        while reader.position() <= self.unread
            && reader.advance()?
            && let Some(View { number, body, .. }) = reader.current()
        {
            for entry in Entries::new(body) {
                match entry.with_context(|| format!("frame {number} of the log"))? {
                    Entry::Opening(control) => plan = control.plan,
                    Entry::Barrier(barrier) => {
                        let Some(next) = barrier.plan else { continue };
                        left.extend(digests(&plan).map(|digest| (digest.to_owned(), number)));
                        plan = next;
                    }
                    _ => {}
                }
            }
        }
        for (digest, frame) in self.left.iter_mut().filter(|(_, frame)| **frame == self.unread) {
            *frame = left.get(digest).copied().unwrap_or(0);
        }
        self.unread = 0;
        Ok(())
    }
}

fn is_in(plan: &Plan, digest: &str) -> bool {
    plan.aggregators.values().any(|attached| attached.digest == digest)
}

fn digests(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.aggregators.values().map(|attached| attached.digest.as_str())
}
