//! The Unix socket's file: who owns the name, and how long.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::watch;

use super::endpoints::Needs;
use super::server::{Context, accept};
use crate::api::Port;

/// Owner and group may connect; whoever may, may steer.
const MODE: u32 = 0o660;
/// Binding takes milliseconds; who holds the lock for longer is stuck.
const TURN: Duration = Duration::from_secs(10);
/// Pending connections.
const BACKLOG: i32 = 128;

/// The admin socket, bound. Dropping it removes its file, unless the name has become somebody else's meanwhile.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our file: the name alone does not tell whether it is still ours.
    identity: (u64, u64),
}

impl UnixSocket {
    /// Binds, and listens. A file that a dead process left is replaced; a living one's is an error, and so is any other file.
    /// The folder is made if only it is missing.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Self::bind_as_is(path)
            .map_err(|error| io::Error::new(error.kind(), format!("admin socket {}: {error}", path.display())))
    }

    fn bind_as_is(path: &Path) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        match fs::DirBuilder::new().mode(0o755).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("cannot make the folder {}: {error}", folder.display()),
                ));
            }
            _ => {}
        }
        // Two processes that start at once would both find the stale file and the slower one would remove the faster one's.
        let turn = File::open(folder)?;
        wait_for(&turn)?;
        remove_stale(path)?;

        let address = SockAddr::unix(path).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path is too long for a Unix socket (107 bytes); choose another with --socket",
            )
        })?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // On Linux the file gets this mode, less the umask, in the moment it appears: nobody can slip in before the chmod below.
        let _ = fchmod(&socket, Mode::from_raw_mode(MODE));
        socket.bind(&address)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let file = fs::symlink_metadata(path)?;
        Ok(Self {
            listener: UnixListener::from(std::os::fd::OwnedFd::from(socket)),
            path: path.to_owned(),
            identity: (file.dev(), file.ino()),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves every route until it is dropped; must be polled inside a tokio runtime.
    pub async fn serve(self, port: Port, ready: watch::Receiver<bool>) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let context = Context::new(port, ready, Needs::Steering, std::sync::Arc::default(), None);
        accept(listener, context).await
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Waits for the lock on a folder, but not for a process that is stuck with it. Threads are not there yet, so it may block.
fn wait_for(folder: &File) -> io::Result<()> {
    let deadline = Instant::now() + TURN;
    loop {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes way, if nobody lives behind the name.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of this name that is not a socket; remove it or choose another with --socket",
        ));
    }
    // Not blocking, because a process that hangs with a full queue would make us hang too.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("another sluice is running (socket {}); stop it or choose another with --socket", path.display()),
        )),
    }
}
