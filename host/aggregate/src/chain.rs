//! The chain hash over an aggregator's saved deltas: same log, same chain, on any machine.
//!
//! Link n+1 = BLAKE3(link n, frame of the cut, last sequence of the cut, length of the delta, delta), all integers
//! 64-bit little-endian. A cut at which the aggregator had no rows has an empty delta. The first link is made from the
//! aggregator's name, plugin digest and settings, and the frame from which it applies.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One link; shown and stored as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain([u8; 32]);

impl Chain {
    /// The first link of an aggregator's chain.
    pub fn start(name: &str, digest: &str, settings: &str, applies_from: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tally 2026 aggregator chain 1");
        for part in [name, digest, settings] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(&applies_from.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The link after this one.
    #[must_use]
    pub fn next(&self, frame: u64, last_sequence: u64, delta: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&frame.to_le_bytes());
        hasher.update(&last_sequence.to_le_bytes());
        hasher.update(&(delta.len() as u64).to_le_bytes());
        hasher.update(delta);
        Self(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({self})")
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(*hash.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_moves_the_chain() {
        let start = Chain::start("a", "d", "{}", 1);
        assert_ne!(start, Chain::start("ad", "", "{}", 1));
        assert_ne!(start, Chain::start("a", "d", "{}", 2));
        let next = start.next(7, 100, b"delta");
        assert_ne!(next, start.next(8, 100, b"delta"));
        assert_ne!(next, start.next(7, 101, b"delta"));
        assert_ne!(next, start.next(7, 100, b"delt"));
        assert_eq!(next, start.next(7, 100, b"delta"));
        let json = serde_json::to_string(&next).unwrap();
        assert_eq!(serde_json::from_str::<Chain>(&json).unwrap(), next);
    }
}
