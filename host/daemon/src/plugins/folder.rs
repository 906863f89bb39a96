//! The plugins directory: its plugin files, read anew at each look, and a watch that rings when something changes.
//! Knows nothing of aggregators.
//!
//! What has the name of a plugin file and cannot be read as one is there all the same, with the reason: a pipe, a folder or a link that
//! leads nowhere must not look as if the plugin had been taken away. No length or time of change is trusted to tell old bytes from new:
//! a file may be written twice within what a file system takes for one moment, or get its old time back.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use notify::{RecursiveMode, Watcher};

/// A file must have been left alone for so long before it is read: whoever copies it may still be writing.
const SETTLED: Duration = Duration::from_millis(60);

/// The bytes of each plugin file, by its name without the ending `.wasm`, or why they cannot be read; at most `limit` bytes of each. Hidden
/// files are passed over: tools write through them.
pub fn read(folder: &Path, limit: usize) -> anyhow::Result<BTreeMap<String, Result<Vec<u8>, String>>> {
    let mut files = BTreeMap::new();
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("reading the plugins directory {}; create it or set plugins_dir", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let Some(stem) = path.file_stem().filter(|_| path.extension().is_some_and(|ending| ending == "wasm")) else {
            continue;
        };
        if stem.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Some(name) = stem.to_str() else {
            let reason = format!("the name of {} is not UTF-8: give it another one", path.display());
            files.entry(stem.to_string_lossy().into_owned()).or_insert(Err(reason));
            continue;
        };
        if let Some(bytes) = read_file(&path, limit).map_err(|error| format!("{error:#}")).transpose() {
            files.insert(name.to_owned(), bytes);
        }
    }
    Ok(files)
}

/// The bytes of a plugin file; none if it vanished meanwhile.
fn read_file(path: &Path, limit: usize) -> anyhow::Result<Option<Vec<u8>>> {
    let shown = path.display();
    // First looked at: opening a device may do something.
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(target) => bail!("{shown} is a link to {}, which is not there", target.display()),
            Err(_) => return Ok(None),
        },
        looked => check(path, &looked.with_context(|| format!("looking at {shown}"))?, limit)?,
    }
    // Whatever has taken its place since: nobody waits until somebody writes into a pipe.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = opened.with_context(|| format!("opening {shown}"))?;
    let look = |file: &File| file.metadata().with_context(|| format!("looking at {shown}"));
    let before = look(&file)?;
    check(path, &before, limit)?;
    let mut bytes = Vec::new();
    (&file).take(before.len() + 1).read_to_end(&mut bytes).with_context(|| format!("reading {shown}"))?;
    let after = look(&file)?;
    let stamp = |seen: &Metadata| (seen.len(), seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec());
    ensure!(
        stamp(&before) == stamp(&after) && bytes.len() as u64 == after.len(),
        "{shown} changed while it was read; it is read again when its writer leaves it alone"
    );
    Ok(Some(bytes))
}

fn check(path: &Path, seen: &Metadata, limit: usize) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(!seen.is_dir(), "{shown} is a directory; a plugin is a file");
    ensure!(seen.is_file(), "{shown} is neither a file nor a link to one");
    let bytes = seen.len();
    ensure!(bytes <= limit as u64, "{shown} has {bytes} bytes; a plugin may have {limit}");
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn whatever_has_the_name_of_a_plugin_is_there_or_says_why_it_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, bytes) in [("a.wasm", "one"), ("A.wasm", "two"), ("long.wasm", "longer"), ("empty.wasm", "")] {
            std::fs::write(at(name), bytes).unwrap();
        }
        for passed_over in [".hidden.wasm", "b.wasm.tmp", "notes.txt", "wasm", ".wasm"] {
            std::fs::write(at(passed_over), "x").unwrap();
        }
        std::fs::create_dir(at("folder.wasm")).unwrap();
        symlink("a.wasm", at("link.wasm")).unwrap();
        symlink("nothing", at("dangling.wasm")).unwrap();
        symlink("round.wasm", at("round.wasm")).unwrap();
        symlink("/dev/zero", at("device.wasm")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe.wasm"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"b\xff.wasm");
        std::fs::write(folder.path().join(name), "x").unwrap();

        let files = read(folder.path(), 5).unwrap();
        let expected = [
            ("A", Ok("two")),
            ("a", Ok("one")),
            ("b\u{fffd}", Err("is not UTF-8")),
            ("dangling", Err("is a link to nothing, which is not there")),
            ("device", Err("is neither a file nor a link to one")),
            ("empty", Ok("")),
            ("folder", Err("is a directory")),
            ("link", Ok("one")),
            ("long", Err("has 6 bytes; a plugin may have 5")),
            ("pipe", Err("is neither a file nor a link to one")),
            ("round", Err("looking at")),
        ];
        assert_eq!(files.len(), expected.len(), "{:?}", files.keys());
        for ((name, file), (expected_name, expected)) in files.iter().zip(expected) {
            assert_eq!(name, expected_name);
            match (file, expected) {
                (Ok(bytes), Ok(text)) => assert_eq!(bytes, text.as_bytes(), "{name}"),
                (Err(reason), Err(text)) => assert!(reason.contains(text), "{name}: {reason}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
