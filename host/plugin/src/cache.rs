//! Compiled components on disk, so that a restart compiles nothing.
//!
//! One file per component and engine, `<digest>-<engine>.cwasm`: the magic `TALLYCW1`, the BLAKE3 of what follows keyed to
//! the file's own name, then wasmtime's serialised code. Compiled code is trusted code, so a file counts only if its hash
//! is right; the directory is made for its owner alone, and whoever can write there can replace the daemon's log as well.
//! A file that is missing, torn, or for another engine is compiled anew: the cache can cost time, never a plugin.

use crate::digest::Digest;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::component::Component;

const MAGIC: &[u8; 8] = b"TALLYCW1";
const HEADER: usize = MAGIC.len() + 32;

/// Most files kept; the oldest go first. A hundred builds of a plugin under development stay well below a gigabyte.
const MAX_FILES: usize = 64;

/// The cache of one engine.
pub(crate) struct Cache {
    dir: PathBuf,
    engine: String,
    /// Two threads that compile the same component must not write into one temporary file.
    writes: AtomicU64,
}

impl Cache {
    pub(crate) fn new(dir: PathBuf, engine: String) -> Self {
        Self { dir, engine, writes: AtomicU64::new(0) }
    }

    /// The compiled component, if it is there and what it should be.
    pub(crate) fn get(&self, engine: &wasmtime::Engine, digest: &Digest) -> Option<Component> {
        let name = self.name(digest);
        let path = self.dir.join(&name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.complain("read", &path, &error),
        };
        let Some(code) = checked(&name, &bytes) else {
            return self.complain("use", &path, &"its checksum is wrong");
        };
        match deserialize(engine, code) {
            Ok(component) => {
                tracing::debug!(path = %path.display(), "took a compiled plugin from the cache");
                Some(component)
            }
            Err(error) => self.complain("use", &path, &error),
        }
    }

    /// Keeps the compiled component. A failure is logged and costs the next start a compilation.
    pub(crate) fn put(&self, digest: &Digest, component: &Component) {
        let name = self.name(digest);
        let path = self.dir.join(&name);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| self.write(&name, &code));
        if let Err(error) = written {
            self.complain::<()>("write", &path, &error);
        }
    }

    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        make_private(&self.dir)?;
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{name}.{}-{write}.tmp", std::process::id()));
        let result = write_file(&temporary, &[MAGIC, checksum(name, code).as_bytes(), code])
            .and_then(|()| fs::rename(&temporary, self.dir.join(name)));
        if result.is_err() {
            // What matters is the error above; a leftover is removed by the next pruning.
            let _ = fs::remove_file(&temporary);
        }
        result?;
        prune(&self.dir)
    }

    fn name(&self, digest: &Digest) -> String {
        format!("{digest}-{}.cwasm", self.engine)
    }

    fn complain<T>(&self, what: &str, path: &Path, error: &dyn std::fmt::Display) -> Option<T> {
        tracing::warn!(
            path = %path.display(),
            "could not {what} a compiled plugin ({error}); it is compiled anew where needed"
        );
        None
    }
}

/// The code in a cache file, if file and name belong together and nothing is missing.
fn checked<'a>(name: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (header, code) = bytes.split_at_checked(HEADER)?;
    let (magic, sum) = header.split_at(MAGIC.len());
    (magic == MAGIC && sum == checksum(name, code).as_bytes()).then_some(code)
}

fn checksum(name: &str, code: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("tally compiled component 1");
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(code);
    hasher.finalize()
}

#[allow(
    unsafe_code,
    reason = "wasmtime offers no safe way to load compiled code. Sound because the bytes are what `put` wrote on this \
              machine for this very component and engine: they carry the checksum under the file's name, and stand in \
              a directory that only the daemon's own user can write"
)]
fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    unsafe { Component::deserialize(engine, code) }
}

fn write_file(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    // Not synced: a file that a power cut tears fails its checksum.
    Ok(())
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Removes the oldest files beyond the limit, other engines' included, and temporary files of processes that died.
fn prune(dir: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let known = |extension: &std::ffi::OsStr| extension == "cwasm" || extension == "tmp";
        if path.extension().is_some_and(known) {
            // Another process may have removed it in the meantime.
            if let Ok(modified) = path.metadata().and_then(|metadata| metadata.modified()) {
                files.push((modified, path));
            }
        }
    }
    files.sort();
    let surplus = files.len().saturating_sub(MAX_FILES);
    for (_, path) in files.into_iter().take(surplus) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_to_a_file_or_its_name_is_noticed() {
        let code = b"machine code";
        let mut file = [&MAGIC[..], checksum("a", code).as_bytes(), code].concat();
        assert_eq!(checked("a", &file), Some(&code[..]));
        assert_eq!(checked("b", &file), None, "under another name");
        for length in 0..file.len() {
            assert_eq!(checked("a", &file[..length]), None, "cut to {length} bytes");
        }
        for index in 0..file.len() {
            file[index] ^= 1;
            assert_eq!(checked("a", &file), None, "byte {index} changed");
            file[index] ^= 1;
        }
    }

    #[test]
    fn the_oldest_files_go_and_foreign_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str, age: u64| {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(10_000 - age);
            file.set_modified(time).unwrap();
        };
        touch("notes.txt", 9_000);
        touch("killed.tmp", 8_000);
        touch("old.cwasm", 7_000);
        (0..MAX_FILES as u64).for_each(|age| touch(&format!("{age}.cwasm"), age));
        prune(dir.path()).unwrap();
        let exists = |name: &str| dir.path().join(name).exists();
        assert!(exists("notes.txt") && exists("0.cwasm") && exists("63.cwasm"));
        assert!(!exists("killed.tmp") && !exists("old.cwasm"));
    }
}
