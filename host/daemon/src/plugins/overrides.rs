//! What operators asked for that the plugins directory does not say: aggregators that are paused, and versions that run in place of what lies
//! there. Kept in [`FILE`] in the data directory, durably. Must not know: what follows from it.
//!
//! The file is JSON with one line behind it: `blake3 ` and the BLAKE3 hash, in hex, of all before that line. A file without this line is read
//! too: it is from before there was one, or people wrote it.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tally_storage::Storage;

use super::registry;

/// The file in the data directory.
pub const FILE: &str = "overrides.json";

/// Begins the last line.
const CHECKSUM: &str = "blake3 ";

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
    /// What held before, where this was kept for a change that is not in the log yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Unless>,
}

/// A start finds out what became of a change: if its version is what the log has, it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unless {
    /// Digest of the version that is to run.
    pub runs: String,
    /// What holds if it does not.
    pub before: Box<Override>,
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
    /// The file says what `kept` was before.
    is_late: bool,
}

impl Overrides {
    /// Reads them; there are none where there is no file.
    pub fn load<S: Storage>(data: &S) -> anyhow::Result<Self> {
        let bytes = match registry::read_file(data, FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.with_context(|| format!("reading {}", data.describe(FILE)))?,
        };
        let json = whole(&bytes).with_context(|| {
            format!(
                "{} is damaged: put back a copy; or look through it and remove its last line; or remove it, and nothing is paused or held",
                data.describe(FILE)
            )
        })?;
        let kept = serde_json::from_slice(json).with_context(|| {
            format!("{} does not read; mend it, or remove it, and nothing is paused or held", data.describe(FILE))
        })?;
        Ok(Self { kept, ..Self::default() })
    }

    /// Decides what was kept for changes that may not have been made, by the digest of what runs of an aggregator.
    pub fn settle(&mut self, runs: impl Fn(&str) -> Option<String>) {
        for (name, over) in &mut self.kept {
            if let Some(unless) = over.unless.take() {
                self.is_late = true;
                if runs(name).as_deref() != Some(&*unless.runs) {
                    *over = *unless.before;
                }
            }
        }
        self.kept.retain(|_, over| *over != Override::default());
    }

    /// What holds for `name`.
    pub fn of(&self, name: &str) -> Override {
        let over = self.tried.get(name).or(self.kept.get(name)).cloned().unwrap_or_default();
        Override { unless: None, ..over }
    }

    /// Digests of the versions that are held, or were before a change that may not be made.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        let before = self.kept.values().filter_map(|of| Some(&*of.unless.as_ref()?.before));
        self.kept.values().chain(before).filter_map(|of| Some(of.held.as_ref()?.digest.as_str()))
    }

    /// Those who are paused.
    pub fn paused(&self) -> impl Iterator<Item = &String> {
        self.kept.iter().filter(|(_, of)| of.paused).map(|(name, _)| name)
    }

    /// Until it is set this holds for `name`.
    pub fn try_out(&mut self, name: &str, to: Override) {
        self.tried.insert(name.to_owned(), to);
    }

    /// From now on this holds for `name`, once it is durable.
    pub fn set<S: Storage>(&mut self, data: &S, name: &str, to: Override) -> anyhow::Result<()> {
        let mut kept = self.kept.clone();
        match to == Override::default() {
            true => kept.remove(name),
            false => kept.insert(name.to_owned(), to),
        };
        if kept != self.kept || self.is_late {
            self.write(data, &kept)?;
            self.kept = kept;
            self.is_late = false;
        }
        self.tried.remove(name);
        Ok(())
    }

    /// From now on this holds for `name`; it becomes durable later, and is what a start finds out before.
    pub fn set_late(&mut self, name: &str, to: Override) {
        let before = self.kept.insert(name.to_owned(), to.clone());
        self.is_late |= before.unwrap_or_default() != to;
        self.kept.retain(|_, over| *over != Override::default());
        self.tried.remove(name);
    }

    /// Makes durable what is not yet.
    pub fn make_up<S: Storage>(&mut self, data: &S) -> anyhow::Result<()> {
        if self.is_late {
            self.write(data, &self.kept)?;
            self.is_late = false;
        }
        Ok(())
    }

    fn write<S: Storage>(&self, data: &S, kept: &BTreeMap<String, Override>) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(kept).expect("plain data serializes") + "\n";
        let bytes = format!("{json}{}", checksum(json.as_bytes()));
        registry::replace_file(data, FILE, bytes.as_bytes()).with_context(|| format!("writing {}", data.describe(FILE)))
    }
}

/// The last line of a file.
fn checksum(json: &[u8]) -> String {
    format!("{CHECKSUM}{}\n", blake3::hash(json).to_hex())
}

/// The file without its last line, which must be right if it is there.
fn whole(bytes: &[u8]) -> anyhow::Result<&[u8]> {
    let line = format!("\n{CHECKSUM}");
    let Some(at) = bytes.windows(line.len()).rposition(|there| there == line.as_bytes()) else { return Ok(bytes) };
    let (json, last) = bytes.split_at(at + 1);
    ensure!(last == checksum(json).as_bytes(), "its checksum is not that of its bytes");
    Ok(json)
}

#[cfg(test)]
mod tests {
    use tally_testkit::MemStorage;

    use super::*;

    #[test]
    fn a_change_that_the_log_does_not_have_was_not_made() {
        let data = MemStorage::new();
        let held = |digest: &str| Some(Held { digest: digest.into(), instead_of: "f".into(), because: "b".into() });
        let before = Override { held: held("old"), ..Override::default() };
        let mut overrides = Overrides::default();
        for (name, before) in [("a", before.clone()), ("b", before.clone()), ("c", Override::default())] {
            let unless = Some(Unless { runs: "new".into(), before: Box::new(before) });
            overrides.set(&data, name, Override { paused: false, held: held("new"), unless }).expect("works");
        }
        let mut found = Overrides::load(&data).expect("reads");
        found.settle(|name| (name != "c").then(|| if name == "a" { "new".into() } else { "old".into() }));
        let new = Override { held: held("new"), ..Override::default() };
        assert_eq!((found.of("a"), found.of("b"), found.of("c")), (new.clone(), before.clone(), Override::default()));
        // What was found out stays so.
        found.make_up(&data).expect("works");
        let mut found = Overrides::load(&data).expect("reads");
        found.settle(|_| None);
        assert_eq!((found.of("a"), found.of("b"), found.of("c")), (new, before, Override::default()));
    }

    #[test]
    fn what_was_asked_for_is_there_after_a_power_loss_and_nothing_else() {
        let data = MemStorage::new();
        let mut overrides = Overrides::load(&data).expect("there is none");
        let held = Held { digest: "d".into(), instead_of: "e".into(), because: "rolled back".into() };
        let both = Override { paused: true, held: Some(held), unless: None };
        overrides.set(&data, "a", both.clone()).expect("works");
        overrides.set(&data, "b", Override { paused: true, ..Override::default() }).expect("works");
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

    #[test]
    fn a_changed_byte_is_refused_and_a_file_without_a_checksum_is_read() {
        let data = MemStorage::new();
        let mut overrides = Overrides::load(&data).expect("there is none");
        let held = Held { digest: "d".into(), instead_of: "e".into(), because: "promoted".into() };
        overrides.set(&data, "a", Override { paused: true, held: Some(held), unless: None }).expect("works");
        let bytes = data.contents(FILE).expect("it is there");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                data.overwrite(FILE, changed);
                let error = format!("{:#}", Overrides::load(&data).expect_err("damage"));
                assert!(error.contains("overrides.json") && error.contains("remove it"), "{error}");
            }
        }
        let json = bytes.windows(7).position(|there| there == CHECKSUM.as_bytes()).expect("its last line");
        for without in [&bytes[..json], bytes[..json].trim_ascii_end()] {
            data.overwrite(FILE, without.to_vec());
            assert_eq!(Overrides::load(&data).expect("reads"), overrides);
        }
    }
}
