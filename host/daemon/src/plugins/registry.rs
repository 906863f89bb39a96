//! The content-addressed store of plugin versions: `plugins/<digest>.wasm` in the data directory, written durably before
//! the log names a digest. Loaded and configured versions are shared as long as somebody needs them; a version is read back when the log
//! asks for it. Which may go is decided elsewhere ([`super::Retired`]).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use tally_plugin::{Component, Configured, Digest, Engine};
use tally_storage::{RealStorage, Storage, StorageFile};

/// The folder in the data directory.
const FOLDER: &str = "plugins";
/// How the file of a version ends, behind its digest.
const ENDING: &str = ".wasm";
/// How it ends while it is written.
const UNFINISHED: &str = ".tmp";

/// See the module.
pub struct Registry<S = RealStorage> {
    engine: Engine,
    data: S,
    compiled: Compiled,
    configured: Mutex<HashMap<(String, String), Configured>>,
}

/// Compiled components by digest, which depend on nothing but their bytes: several registries with the same engine, one after the other
/// or side by side, need not compile them again. What is stored is read all the same.
#[derive(Clone, Default)]
pub struct Compiled(Arc<Mutex<HashMap<Digest, Component>>>);

impl Compiled {
    fn get(&self, engine: &Engine, bytes: &[u8]) -> anyhow::Result<Component> {
        let digest = Digest::of(bytes);
        if let Some(found) = self.map().get(&digest) {
            return Ok(found.clone());
        }
        let component = engine.load(bytes)?;
        self.map().insert(digest, component.clone());
        Ok(component)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Digest, Component>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Storage> Registry<S> {
    /// A registry in the data directory; nothing is created before the first [`Registry::keep`].
    pub fn new(engine: Engine, data: S, compiled: Compiled) -> Self {
        Self { engine, data, compiled, configured: Mutex::default() }
    }

    /// The engine that compiles and runs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Validates and compiles `bytes` and stores them durably.
    pub fn keep(&self, bytes: &[u8]) -> anyhow::Result<Component> {
        let component = self.compiled.get(&self.engine, bytes)?;
        let digest = component.digest.to_string();
        store(&self.data, &digest, bytes).with_context(|| format!("storing the plugin as {}", self.path(&digest)))?;
        Ok(component)
    }

    /// Validates, compiles and configures `bytes`, and keeps nothing of it but what the compilation cache has.
    pub fn look_at(&self, bytes: &[u8], settings: &str) -> anyhow::Result<Configured> {
        let known = self.compiled.map().get(&Digest::of(bytes)).cloned();
        let component = known.map_or_else(|| self.engine.load(bytes), Ok)?;
        Ok(component.configure(settings)?)
    }

    /// A component with settings, shared.
    pub fn configure(&self, component: &Component, settings: &str) -> anyhow::Result<Configured> {
        let key = (component.digest.to_string(), settings.to_owned());
        if let Some(found) = self.cache().get(&key) {
            return Ok(found.clone());
        }
        let configured = component.configure(settings)?;
        self.cache().insert(key, configured.clone());
        Ok(configured)
    }

    /// A version that the log names.
    pub fn configured(&self, digest: &str, settings: &str) -> anyhow::Result<Configured> {
        if let Some(found) = self.cache().get(&(digest.to_owned(), settings.to_owned())) {
            return Ok(found.clone());
        }
        let bytes = read(&self.data, digest).with_context(|| {
            format!("the log names the plugin version {digest}, which should be at {}", self.path(digest))
        })?;
        let found = Digest::of(&bytes).to_string();
        if found != digest {
            bail!(
                "the stored plugin {} was changed: its digest is {found}; put the original bytes back",
                self.path(digest)
            );
        }
        self.configure(&self.compiled.get(&self.engine, &bytes)?, settings)
    }

    /// The digests of all stored versions.
    pub fn stored(&self) -> anyhow::Result<Vec<String>> {
        let names = self.names().with_context(|| format!("listing {}", self.data.describe(FOLDER)))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(ENDING)).map(str::to_owned).collect())
    }

    /// Removes stored versions, and what a process that ended while it stored one has left. A power loss may bring them back.
    pub fn remove(&self, digests: &[String]) -> anyhow::Result<()> {
        let unfinished = self.names().unwrap_or_default().into_iter().filter(|name| name.ends_with(UNFINISHED));
        for name in digests.iter().map(|digest| file_name(digest)).chain(unfinished) {
            let name = format!("{FOLDER}/{name}");
            self.data.remove(&name).with_context(|| format!("removing {}", self.data.describe(&name)))?;
        }
        Ok(())
    }

    /// Gives up the memory of versions that are not needed soon, and of settings that nothing runs with. They are read back when they are.
    pub fn forget(&self, is_needed: impl Fn(&str) -> bool) {
        self.cache().retain(|_, configured| Arc::strong_count(&configured.manifest) > 1);
        self.compiled.map().retain(|digest, _| is_needed(&digest.to_string()));
    }

    fn names(&self) -> io::Result<Vec<String>> {
        match self.data.list()?.iter().any(|name| name == FOLDER) {
            true => self.data.folder(FOLDER)?.list(),
            false => Ok(Vec::new()),
        }
    }

    fn path(&self, digest: &str) -> String {
        self.data.describe(&format!("{FOLDER}/{}", file_name(digest)))
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<(String, String), Configured>> {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_name(digest: &str) -> String {
    format!("{digest}{ENDING}")
}

/// Stores a version durably. What is there already is compared, so that a damaged file is mended by whoever still has the bytes.
fn store<S: Storage>(data: &S, digest: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = data.folder(FOLDER)?;
    if read(data, digest).ok().as_deref() != Some(bytes) {
        write(&folder, &format!("{digest}{UNFINISHED}"), &file_name(digest), bytes)?;
    }
    // A process that ended right after the renaming left the name to the mercy of the next power loss.
    folder.sync_dir()
}

/// Replaces a file of the data directory, durably and all at once.
pub(super) fn replace_file<S: Storage>(data: &S, name: &str, bytes: &[u8]) -> io::Result<()> {
    write(data, &format!("{name}.tmp"), name, bytes)?;
    data.sync_dir()
}

fn write<S: Storage>(folder: &S, temporary: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = match folder.open(temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder.create(temporary)?,
        opened => opened?,
    };
    file.set_len(0)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    folder.rename(temporary, name)
}

fn read<S: Storage>(data: &S, digest: &str) -> io::Result<Vec<u8>> {
    read_file(data, &format!("{FOLDER}/{}", file_name(digest)))
}

/// All of a file of the data directory.
pub(super) fn read_file<S: Storage>(data: &S, name: &str) -> io::Result<Vec<u8>> {
    let file = data.open(name)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    let read = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use tally_testkit::{Fault, MemStorage};

    use super::*;

    /// Each operation of storing meets each fault; then the next process, after a power loss or without one, stores the same, and from
    /// then on it is there, whatever the power does.
    #[test]
    fn what_was_stored_is_there_whatever_happened_before() {
        let bytes = (0..9000_u32).map(|at| (at * at) as u8).collect::<Vec<_>>();
        let whole = MemStorage::new();
        store(&whole, "digest", &bytes).expect("nothing is wrong");
        for operation in 1..=whole.operations() {
            for (fault, seed) in Fault::ALL.into_iter().flat_map(|fault| (0..16).map(move |seed| (fault, seed))) {
                let mut data = MemStorage::new();
                data.seed(seed);
                data.inject(operation, fault);
                let stored = store(&data, "digest", &bytes);
                if seed % 2 == 0 || matches!(fault, Fault::PowerLoss | Fault::PowerLossBefore) {
                    data = data.crash(seed);
                    let found = read(&data, "digest").ok();
                    assert!(found.as_ref().is_none_or(|found| *found == bytes), "half a plugin has its name");
                    assert!(stored.is_err() || found.is_some(), "{operation}, {fault:?}: it was said to be stored");
                }
                data.restart();
                store(&data, "digest", &bytes).expect("the disk is well again");
                for seed in 0..16 {
                    let found = read(&data.crash(seed), "digest").expect("is there");
                    assert!(found == bytes, "{operation}, {fault:?}");
                }
            }
        }
    }

    #[test]
    fn damaged_bytes_are_replaced() {
        let data = MemStorage::new();
        store(&data, "digest", b"good").expect("works");
        data.overwrite("plugins/digest.wasm", b"gOod".to_vec());
        store(&data, "digest", b"good").expect("works");
        assert_eq!(read(&data, "digest").expect("is there"), b"good");
        assert_eq!(data.names(), ["plugins", "plugins/digest.wasm"]);
    }
}
