//! What operators asked for that the plugins directory does not say: aggregators that are paused, and versions that run in place of what lies
//! there. Kept in [`FILE`] in the data directory, durably. Must not know: what follows from it.

use std::collections::BTreeMap;
use std::io;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tally_storage::Storage;

use super::registry;

/// The file in the data directory.
pub const FILE: &str = "overrides.json";

/// What holds for one aggregator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// It does not run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What runs in place of what lies in the plugins directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// A version that runs in place of a file, until the plugins directory has another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Digest of the version that runs.
    pub digest: String,
    /// Digest of the file that it runs in place of.
    pub instead_of: String,
    /// Why, for people: `rolled back` or `promoted`.
    pub because: String,
}

impl Held {
    /// For people who wonder why the file does not run.
    pub fn reason(&self) -> String {
        format!("{}: it runs in place of the file, until the plugins directory has another one", self.because)
    }
}

/// By aggregator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    kept: BTreeMap<String, Override>,
    /// What holds while something is tried, and is not kept.
    tried: BTreeMap<String, Override>,
}

impl Overrides {
    /// Reads them; there are none where there is no file.
    pub fn load<S: Storage>(data: &S) -> anyhow::Result<Self> {
        let bytes = match registry::read_file(data, FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.with_context(|| format!("reading {}", data.describe(FILE)))?,
        };
        let kept = serde_json::from_slice(&bytes).with_context(|| {
            format!("{} does not read; mend it, or remove it, and nothing is paused or held", data.describe(FILE))
        })?;
        Ok(Self { kept, tried: BTreeMap::new() })
    }

    /// What holds for `name`.
    pub fn of(&self, name: &str) -> Override {
        self.tried.get(name).or(self.kept.get(name)).cloned().unwrap_or_default()
    }

    /// Digests of the versions that are held.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        self.kept.values().filter_map(|of| Some(of.held.as_ref()?.digest.as_str()))
    }

    /// Those who are paused.
    pub fn paused(&self) -> impl Iterator<Item = &String> {
        self.kept.iter().filter(|(_, of)| of.paused).map(|(name, _)| name)
    }

    /// Until it is set, or tried no more, this holds for `name`.
    pub fn try_out(&mut self, name: &str, to: Override) {
        self.tried.insert(name.to_owned(), to);
    }

    /// What is kept holds again for `name`.
    pub fn try_no_more(&mut self, name: &str) {
        self.tried.remove(name);
    }

    /// From now on this holds for `name`, once it is durable.
    pub fn set<S: Storage>(&mut self, data: &S, name: &str, to: Override) -> anyhow::Result<()> {
        let mut kept = self.kept.clone();
        match to == Override::default() {
            true => kept.remove(name),
            false => kept.insert(name.to_owned(), to),
        };
        if kept != self.kept {
            let bytes = serde_json::to_vec_pretty(&kept).expect("plain data serializes");
            registry::replace_file(data, FILE, &bytes).with_context(|| format!("writing {}", data.describe(FILE)))?;
            self.kept = kept;
        }
        self.tried.remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tally_testkit::MemStorage;

    use super::*;

    #[test]
    fn what_was_asked_for_is_there_after_a_power_loss_and_nothing_else() {
        let data = MemStorage::new();
        let mut overrides = Overrides::load(&data).expect("there is none");
        let held = Held { digest: "d".into(), instead_of: "e".into(), because: "rolled back".into() };
        let both = Override { paused: true, held: Some(held) };
        overrides.set(&data, "a", both.clone()).expect("works");
        overrides.set(&data, "b", Override { paused: true, held: None }).expect("works");
        overrides.set(&data, "b", Override::default()).expect("works");
        for seed in 0..16 {
            let found = Overrides::load(&data.crash(seed)).expect("reads");
            assert_eq!(found, overrides);
            assert_eq!((found.of("a"), found.of("b")), (both.clone(), Override::default()));
            assert_eq!(found.paused().collect::<Vec<_>>(), ["a"]);
        }
        let data = data.crash(0);
        data.restart();
        data.overwrite(FILE, b"{\"a\":{\"pausd\":true}}".to_vec());
        let error = format!("{:#}", Overrides::load(&data).expect_err("a typing error"));
        assert!(error.contains("overrides.json does not read; mend it"), "{error}");
    }
}
