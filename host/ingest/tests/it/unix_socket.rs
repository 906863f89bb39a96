//! The socket's file: permissions, what is in its way, what is left behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use tally_ingest::{SourceError, UnixConfig, UnixSource};
use tokio::runtime::Runtime;

use crate::harness::Daemon;

fn bind(path: impl Into<PathBuf>) -> Result<UnixSource, SourceError> {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(UnixSource::bind(UnixConfig::new(path)))
}

fn refusal(path: impl Into<PathBuf>) -> String {
    bind(path).expect_err("refused").to_string()
}

fn stale_socket(path: &Path) {
    drop(UnixListener::bind(path).expect("binds"));
    assert!(path.exists(), "a listener leaves its file behind");
}

#[test]
fn its_permissions_are_as_configured() {
    let mode = |daemon: Daemon| {
        let metadata = fs::metadata(&daemon.path).expect("a file");
        assert!(metadata.file_type().is_socket());
        daemon.stop();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(Daemon::start()), 0o660);
    assert_eq!(mode(Daemon::with(|config| config.mode = 0o600)), 0o600);
}

#[test]
fn a_stale_file_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    stale_socket(&path);
    let daemon = Daemon::with(|config| config.path = path);
    let mut client = daemon.connect();
    client.send("one\n");
    client.finish();
    client.until_closed();
    assert_eq!(daemon.stop_texts(), ["one"]);
}

#[test]
fn a_live_socket_is_left_alone() {
    let daemon = Daemon::start();
    let refusal = refusal(&daemon.path);
    assert!(refusal.contains("a process listens on it already"), "{refusal}");
    let mut client = daemon.connect();
    client.send("one\n");
    client.finish();
    client.until_closed();
    assert_eq!(daemon.stop_texts(), ["one"]);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    fs::write(&path, "keep me").expect("writes");
    assert!(refusal(&path).contains("is not a socket"));
    assert_eq!(fs::read_to_string(&path).expect("reads"), "keep me");
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing");
    let refusal = refusal(missing.join("s"));
    let expected = format!("its folder {} does not exist", missing.display());
    assert!(refusal.contains(&expected), "{refusal}");
}

#[test]
fn a_path_is_as_long_as_an_address_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let room = 107 - folder.path().as_os_str().len() - 1;
    let longest = folder.path().join("s".repeat(room));
    drop(bind(&longest).expect("107 bytes fit"));
    let refusal = refusal(folder.path().join("s".repeat(room + 1)));
    assert!(refusal.contains("has 108 bytes, at most 107 are possible"), "{refusal}");
}

#[test]
fn the_file_goes_with_the_source_unless_it_is_another_ones() {
    let daemon = Daemon::start();
    let path = daemon.path.clone();
    daemon.stop();
    assert!(!path.exists());

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let daemon = Daemon::with(|config| config.path = path.clone());
    fs::remove_file(&path).expect("removes");
    let other = UnixListener::bind(&path).expect("binds");
    daemon.stop();
    assert!(path.exists());
    drop(other);
}

#[test]
fn of_many_starting_at_once_over_a_stale_file_one_listens() {
    for _ in 0..100 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        stale_socket(&path);
        let barrier = Barrier::new(4);
        let start = || {
            let runtime = Runtime::new().expect("a runtime");
            barrier.wait();
            let source = runtime.block_on(UnixSource::bind(UnixConfig::new(&path)));
            (runtime, source)
        };
        let starts: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().expect("joins")).collect()
        });
        let listening = starts.iter().filter(|(_, source)| source.is_ok()).count();
        assert_eq!(listening, 1, "{starts:?}");
        std::os::unix::net::UnixStream::connect(&path).expect("it is there");
    }
}
