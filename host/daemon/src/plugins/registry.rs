//! The content-addressed store of plugin versions: `plugins/<digest>.wasm` in the data directory, written durably before
//! the log names a digest. Loaded and configured versions are shared; a version is read back when the log asks for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use tally_plugin::{Component, Configured, Digest, Engine};

/// See the module.
pub struct Registry {
    engine: Engine,
    folder: PathBuf,
    configured: Mutex<HashMap<(String, String), Configured>>,
}

impl Registry {
    /// A registry over `data_dir`; nothing is created before the first [`Registry::keep`].
    pub fn new(engine: Engine, data_dir: &Path) -> Self {
        Self { engine, folder: data_dir.join("plugins"), configured: Mutex::default() }
    }

    /// The engine that compiles and runs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Validates and compiles `bytes` and stores them durably.
    pub fn keep(&self, bytes: &[u8]) -> anyhow::Result<Component> {
        let component = self.engine.load(bytes)?;
        let path = self.path(&component.digest.to_string());
        if !path.exists() {
            write_durably(&self.folder, &path, bytes)
                .with_context(|| format!("storing the plugin as {}", path.display()))?;
        }
        Ok(component)
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
        let path = self.path(digest);
        let bytes = std::fs::read(&path).with_context(|| {
            format!("the log names the plugin version {digest}, which should be at {}", path.display())
        })?;
        let found = Digest::of(&bytes).to_string();
        if found != digest {
            bail!(
                "the stored plugin {} was changed: its digest is {found}; put the original bytes back",
                path.display()
            );
        }
        self.configure(&self.engine.load(&bytes)?, settings)
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Configured>> {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_durably(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if !folder.exists() {
        std::fs::create_dir_all(folder)?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}
