//! The socket's file: permissions, what is in its way, what is left behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use tally_net::{BindError, Listener, Peer};
use tokio::runtime::Runtime;

fn bind(path: impl Into<PathBuf>) -> Result<Listener, BindError> {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(Listener::unix(&path.into(), 0o660))
}

fn refusal(path: impl Into<PathBuf>) -> String {
    bind(path).expect_err("refused").to_string()
}

fn stale_socket(path: &Path) {
    drop(UnixListener::bind(path).expect("binds"));
    assert!(path.exists(), "a listener leaves its file behind");
}

#[tokio::test]
async fn its_permissions_are_as_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    for mode in [0o660, 0o600] {
        let path = folder.path().join("s");
        let _listener = Listener::unix(&path, mode).await.expect("binds");
        let metadata = fs::metadata(&path).expect("a file");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
    }
}

#[tokio::test]
async fn a_stale_file_is_replaced_and_a_peer_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    stale_socket(&path);
    let listener = Listener::unix(&path, 0o660).await.expect("binds");
    let _client = std::os::unix::net::UnixStream::connect(&path).expect("connects");
    let accepted = listener.accept().await.expect("accepts");
    let Peer::Unix { pid, uid, .. } = accepted.peer() else { panic!("a Unix peer") };
    assert_eq!(*pid, Some(std::process::id() as i32));
    assert_eq!(*uid, std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).expect("a file")));
}

#[tokio::test]
async fn a_live_socket_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let listener = Listener::unix(&path, 0o660).await.expect("binds");
    let refusal = Listener::unix(&path, 0o660).await.expect_err("refused").to_string();
    assert!(refusal.contains("a process listens on it already"), "{refusal}");
    // The first connection is the question whether anybody listens.
    listener.accept().await.expect("accepts");
    let _client = std::os::unix::net::UnixStream::connect(&path).expect("connects");
    listener.accept().await.expect("accepts");
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
fn the_file_goes_with_the_listener_unless_it_is_another_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    drop(bind(&path).expect("binds"));
    assert!(!path.exists());

    let listener = bind(&path).expect("binds");
    fs::remove_file(&path).expect("removes");
    let other = UnixListener::bind(&path).expect("binds");
    drop(listener);
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
            let listener = runtime.block_on(Listener::unix(&path, 0o660));
            (runtime, listener)
        };
        let starts: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().expect("joins")).collect()
        });
        let listening = starts.iter().filter(|(_, listener)| listener.is_ok()).count();
        assert_eq!(listening, 1, "{starts:?}");
        std::os::unix::net::UnixStream::connect(&path).expect("it is there");
    }
}
