//! What the state store keeps of an aggregator beside its runs.

use serde::{Deserialize, Serialize};
use tally_aggregate::{AggregatorLedger, Attached, Chain};

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
    /// False once events were deleted from the log before they were applied.
    pub complete: bool,
    /// The plugin, settings and state version that saved it.
    pub attached: Attached,
    /// The newest cut whose whole total is saved as one run, for an anchor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Box<Pinned>>,
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
            complete: true,
            attached: attached.clone(),
            pinned: None,
        }
    }

    /// Where the log goes on for this aggregator.
    pub fn position(&self) -> Position {
        Position { frame: self.frame, cut: self.cut }
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
