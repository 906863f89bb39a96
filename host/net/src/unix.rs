//! The socket's file: made with its final permissions before anybody can connect, replaced only when stale, removed at the end if still ours.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::listener::BindError;

/// The longest socket path, in bytes: what the kernel's address has room for, less the terminating zero.
pub const MAX_PATH_BYTES: usize = 107;
/// Connections that may wait to be accepted.
pub(crate) const BACKLOG: u32 = 1024;
/// How long a listener has to answer before it counts as alive but busy.
const PROBE: Duration = Duration::from_secs(1);
/// How often the folder's lock is tried, and the pause between.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The file of a bound socket; removed when dropped, unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Binds and listens.
pub(crate) async fn listen(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), BindError> {
    if path.as_os_str().as_bytes().len() > MAX_PATH_BYTES {
        return Err(BindError::PathTooLong { path: path.into() });
    }
    let failed = |action| move |error| BindError::Io { path: path.into(), action, error };
    // Held until the new socket listens: of two daemons starting at once, one must see the other's socket as alive, not as stale.
    let _folder = lock_folder(path).await?;
    remove_stale(path).await?;
    let socket = UnixSocket::new_stream().map_err(failed("creating it"))?;
    socket.bind(path).map_err(failed("binding"))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("setting its permissions"))?;
    let identity = identity(path).map_err(failed("looking at it"))?;
    let listener = socket.listen(BACKLOG).map_err(failed("listening"))?;
    Ok((listener, SocketFile { path: path.into(), identity }))
}

/// An exclusive lock of the socket's folder. A folder that another program keeps locked, or that cannot be locked, is used without.
async fn lock_folder(path: &Path) -> Result<Option<File>, BindError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(BindError::NoFolder { path: path.into(), folder: folder.into() });
        }
        Err(_) => return Ok(None),
    };
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(_)) => break,
        }
    }
    Ok(None)
}

async fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |action| move |error| BindError::Io { path: path.into(), action, error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("looking at what is there")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing a socket file that nobody listens on");
            fs::remove_file(path).map_err(failed("removing the stale socket file"))
        }
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Its backlog is full.
        Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => Err(BindError::InUse { path: path.into() }),
        Ok(Err(error)) => Err(failed("asking whether a process listens on it")(error)),
        Ok(Ok(_)) | Err(_) => Err(BindError::InUse { path: path.into() }),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
