//! Where a cluster is kept, and the lock of whoever keeps it.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::Said;

/// The socket by which PostgreSQL's superuser comes in, below the folder; a socket's path has at most 107 bytes.
const LONGEST_SOCKET: &str = "postgres/socket/.s.PGSQL.15432";
const SOCKET_PATH: usize = 107;

/// The folder of a cluster.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// As it has to be named to be found again: nothing by default.
    option: Option<PathBuf>,
}

impl Folder {
    /// This one, or by default the same every time.
    pub(super) fn new(named: Option<PathBuf>) -> Said<Self> {
        let path = named.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("starling-cluster-{}", user())));
        let path = std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let option = named.is_some().then(|| path.clone());
        Ok(Self { path, option })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The command that does something to this cluster.
    pub(super) fn command(&self, options: &str) -> String {
        match &self.option {
            None => format!("tests/cluster/up {options}"),
            Some(path) => format!("tests/cluster/up --data {} {options}", path.display()),
        }
    }

    /// Makes it if it is not there. Whoever has made it before must be the same user: there are keys in it.
    pub(super) fn prepare(&self) -> Said<()> {
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        // Root's PostgreSQL is another user, who has to get to its own part.
        let mode = if is_root() { 0o711 } else { 0o700 };
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match DirBuilder::new().mode(mode).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let found = fs::symlink_metadata(&self.path).map_err(failed)?;
        if !found.is_dir() || found.uid() != user() {
            return Err(format!("{} is not a folder of this user: name another by --data", self.path.display()));
        }
        let length = self.path.join(LONGEST_SOCKET).as_os_str().len();
        if length > SOCKET_PATH {
            let most = SOCKET_PATH - LONGEST_SOCKET.len() - 1;
            return Err(format!("{} is too long for the sockets in it: {most} bytes at most", self.path.display()));
        }
        Ok(())
    }

    /// The lock, for as long as the file is open. `None`: somebody has it.
    pub(super) fn try_lock(&self) -> Said<Option<File>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(format!("{}: {error}", self.path.display())),
        }
    }

    /// Waits for the lock, and lets it go.
    pub(super) fn wait_for_lock(&self) -> Said<()> {
        self.lock_file()?.lock().map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn lock_file(&self) -> Said<File> {
        let opened = File::options().create(true).append(true).open(self.path.join("lock"));
        opened.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Files in /proc/self are the process's user's.
fn user() -> u32 {
    fs::metadata("/proc/self").map(|metadata| metadata.uid()).unwrap_or_default()
}

pub(super) fn is_root() -> bool {
    user() == 0
}
