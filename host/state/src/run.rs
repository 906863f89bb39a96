//! Saved deltas as the store lists them. Knows nothing of how they are stored.

/// One run: a saved delta, or several merged over a range of cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Frame number of the first cut it covers.
    pub first: u64,
    /// Frame number of the last cut it covers, inclusive; a run of one cut has `last == first`.
    pub last: u64,
    /// How often it was merged: 0 for a delta as it was cut. The caller's compaction decides what it means.
    pub level: u8,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the bytes.
    pub hash: [u8; 32],
}

impl RunInfo {
    /// Describes these bytes as the run of the cuts `first..=last`.
    pub fn new(first: u64, last: u64, level: u8, bytes: &[u8]) -> RunInfo {
        RunInfo { first, last, level, bytes: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() }
    }

    /// Whether these are the bytes that the run was described from.
    pub fn describes(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes.len() as u64 && self.hash == *blake3::hash(bytes).as_bytes()
    }
}

/// What is saved of one aggregator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The caller's description, opaque here: cursor, chain, digest, settings, state version.
    pub meta: Vec<u8>,
    /// Its runs, ascending, never overlapping.
    pub runs: Vec<RunInfo>,
}

/// What is wrong with a list of runs, if anything: each must be a range, and they must ascend without overlapping.
pub(crate) fn disorder(runs: &[RunInfo]) -> Option<String> {
    for run in runs {
        if run.first > run.last {
            return Some(format!("the run of cuts {}..={} is no range", run.first, run.last));
        }
    }
    runs.windows(2).find(|pair| pair[0].last >= pair[1].first).map(|pair| {
        format!(
            "the runs of cuts {}..={} and {}..={} overlap",
            pair[0].first, pair[0].last, pair[1].first, pair[1].last
        )
    })
}
