//! The plugins directory: which files there are, read once each, and a watch that rings when something changes.
//! Knows nothing of aggregators.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use notify::{RecursiveMode, Watcher};

/// A file must have been left alone for so long before it is read: whoever copies it may still be writing.
const SETTLED: Duration = Duration::from_millis(60);

/// Identifies one content of one file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

/// A `*.wasm` file.
#[derive(Clone, Debug)]
pub struct PluginFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it looked like.
    pub stamp: Stamp,
}

impl PluginFile {
    /// The file's bytes, read once; none when it changed while being read, which the watch will report again.
    pub fn read(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let bytes = std::fs::read(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        Ok((stamp(&self.path).ok() == Some(self.stamp)).then_some(bytes))
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp { length: metadata.len(), modified: metadata.modified().ok() })
}

/// The plugin files by name without ending. Hidden files are passed over: tools write through them.
pub fn list(folder: &Path) -> anyhow::Result<BTreeMap<String, PluginFile>> {
    let mut files = BTreeMap::new();
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("reading the plugins directory {}; create it or set plugins_dir", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let (Some(stem), Some("wasm")) =
            (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str()))
        else {
            continue;
        };
        if stem.starts_with('.') || !path.is_file() {
            continue;
        }
        // A file that vanished in between is simply not there.
        if let Ok(stamp) = stamp(&path) {
            files.insert(stem.to_owned(), PluginFile { path: path.clone(), stamp });
        }
    }
    Ok(files)
}

/// Watches the folder: rings once a change has settled, until the receiver is gone. The thread and the watch end with it.
pub fn watch(folder: &Path, ring: impl Fn() -> bool + Send + 'static) -> anyhow::Result<()> {
    let (to_us, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let reads_only = matches!(&event, Ok(event) if event.kind.is_access() && !is_close_after_write(&event.kind));
        if !reads_only {
            // The watch thread below has ended only when the daemon does.
            let _ = to_us.send(());
        }
    })
    .context("starting to watch the plugins directory")?;
    watcher
        .watch(folder, RecursiveMode::NonRecursive)
        .with_context(|| format!("watching the plugins directory {}", folder.display()))?;
    std::thread::Builder::new().name("plugin-watch".into()).spawn(move || {
        let _watcher = watcher;
        while events.recv().is_ok() {
            while events.recv_timeout(SETTLED).is_ok() {}
            if !ring() {
                return;
            }
        }
    })?;
    Ok(())
}

fn is_close_after_write(kind: &notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write)))
}
