//! What the state store keeps of an aggregator beside its runs.

use serde::{Deserialize, Serialize};
use tally_aggregate::{AggregatorLedger, Attached, Chain};
use tally_state::RunInfo;

use crate::feed::Position;

/// As of the last saved cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The cut.
    pub cut: u64,
    /// The frame that holds it.
    pub frame: u64,
    /// Sequence of the last event before it.
    pub last_sequence: u64,
    /// When it was taken, microseconds since the Unix epoch; 0 before the first one and in stores of older versions.
    #[serde(default)]
    pub cut_at: i64,
    /// The chain over all saved deltas.
    pub chain: Chain,
    /// Cumulative ledger.
    pub ledger: AggregatorLedger,
    /// Ledger as of the last flush.
    pub flushed_ledger: AggregatorLedger,
    /// The last flush among the cuts: runs behind it make up the open window.
    pub flushed_cut: u64,
    /// Greatest event time seen, never beyond arrival; microseconds since the Unix epoch.
    pub watermark: Option<i64>,
    /// The cut behind which the first event comes that it was given. None in stores of older versions.
    #[serde(default)]
    pub began: Option<u64>,
    /// False once events were deleted from the log before they were applied.
    pub complete: bool,
    /// The plugin, settings and state version that saved it.
    pub attached: Attached,
    /// Runs that were saved under a state version from before that of `attached`, by their first and last cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older_runs: Vec<OlderRun>,
    /// Its state was forgotten on purpose: there are no runs, and whatever begins under its name begins anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_forgotten: bool,
    /// The newest cut whose whole total is saved as one run, for an anchor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Box<Pinned>>,
}

/// A run that was saved under an older state version. It is loaded as such until it is merged with others or pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OlderRun {
    /// Its first cut.
    pub first: u64,
    /// Its last cut.
    pub last: u64,
    /// The state version.
    pub state_version: String,
}

/// What was saved at an anchor's cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    /// As of that cut.
    pub meta: Meta,
    /// BLAKE3 of the saved total, in hexadecimal.
    pub hash: String,
}

impl Pinned {
    /// What an anchor says of it: cut, chain and hash.
    pub fn known(&self) -> (u64, Chain, String) {
        (self.meta.cut, self.meta.chain, self.hash.clone())
    }
}

impl Meta {
    /// The state of an aggregator that has seen nothing, attached at the cut at `position`.
    pub fn start(name: &str, attached: &Attached, position: Position, last_sequence: u64) -> Self {
        Self {
            cut: position.cut,
            frame: position.frame,
            last_sequence,
            cut_at: 0,
            chain: Chain::start(name, &attached.digest, &attached.settings, attached.applies_after),
            ledger: AggregatorLedger::default(),
            flushed_ledger: AggregatorLedger::default(),
            flushed_cut: position.cut,
            watermark: None,
            began: Some(position.cut),
            complete: true,
            attached: attached.clone(),
            older_runs: Vec::new(),
            is_forgotten: false,
            pinned: None,
        }
    }

    /// The cut behind which the first event comes that it was given; 0, the beginning of everything, where that is not known.
    pub fn began(&self) -> u64 {
        self.began.unwrap_or(0)
    }

    /// Where the log goes on for this aggregator.
    pub fn position(&self) -> Position {
        Position { frame: self.frame, cut: self.cut }
    }

    /// The state version under which a run was saved.
    pub fn state_version_of(&self, run: &RunInfo) -> &str {
        let is_it = |older: &&OlderRun| (older.first, older.last) == (run.first, run.last);
        self.older_runs.iter().find(is_it).map_or(&self.attached.state_version, |older| &older.state_version)
    }

    /// Digests of the plugin versions that it takes to go on from here, and from what is pinned.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        let pinned = self.pinned.as_ref().map(|pinned| pinned.meta.attached.digest.as_str());
        pinned.into_iter().chain([self.attached.digest.as_str()])
    }

    /// The same with another version attached, before which these runs were saved.
    pub fn attach(&mut self, attached: &Attached, runs: &[RunInfo]) {
        if self.attached.state_version != attached.state_version {
            let older = |run: &RunInfo| OlderRun {
                first: run.first,
                last: run.last,
                state_version: self.state_version_of(run).to_owned(),
            };
            self.older_runs = runs.iter().map(older).collect();
            self.older_runs.retain(|older| older.state_version != attached.state_version);
        }
        self.attached = attached.clone();
    }

    /// As stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data serializes")
    }

    /// From the state store.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|e| anyhow::anyhow!("the state store's entry of aggregator {name} does not read: {e}"))
    }
}
