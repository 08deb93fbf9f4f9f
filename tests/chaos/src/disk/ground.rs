//! The filesystem under the server, and what is done to it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Failure, server::Server};

/// Bytes of the small filesystem: many times what a run writes.
const SIZE: &str = "96m";
const BALLAST: &str = "ballast";

/// Where the run's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// In a mount namespace of its own: what it mounts, nobody else sees, and goes with it.
    Own,
    /// Nothing can be mounted.
    Shared,
}

impl Namespace {
    /// Tries whether something can be mounted in a namespace of one's own.
    pub async fn is_possible() -> bool {
        let Ok(folder) = tempfile::tempdir() else { return false };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs"]).arg(folder.path());
        command.output().await.is_ok_and(|output| output.status.success())
    }
}

/// A folder that can be filled.
pub struct Ground {
    folder: TempDir,
    namespace: Namespace,
}

impl Ground {
    /// One with room.
    ///
    /// # Errors
    /// If there is none.
    pub async fn new(namespace: Namespace) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        if namespace == Namespace::Own {
            mount(&["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"], folder.path()).await?;
        }
        Ok(Self { folder, namespace })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no room for the server.
    ///
    /// # Errors
    /// If that does not work.
    pub async fn fill(&self, server: &Server) -> Result<(), Failure> {
        // What the write-ahead log has room for already would go on being written for a while.
        let mut connection = connect(server).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        connection.close().await?;
        match self.namespace {
            Namespace::Own => {
                let mut ballast = File::create(self.folder().join(BALLAST))?;
                for piece in [1 << 20, 4096, 1] {
                    let bytes = vec![0_u8; piece];
                    loop {
                        match ballast.write(&bytes) {
                            Ok(0) => break,
                            Ok(_) => {}
                            Err(error) if error.kind() == ErrorKind::StorageFull => break,
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
                Ok(())
            }
            Namespace::Shared => {
                let log = server.database().ok_or("no database")?.with_extension("db-wal");
                let bytes = fs::metadata(log).map_or(0, |metadata| metadata.len());
                limit(server, &bytes.to_string()).await
            }
        }
    }

    /// Makes room again. The server may have been killed.
    ///
    /// # Errors
    /// If that does not work.
    pub async fn empty(&self, server: &Server) -> Result<(), Failure> {
        match (self.namespace, server.pid()) {
            (Namespace::Own, _) => Ok(fs::remove_file(self.folder().join(BALLAST))?),
            (Namespace::Shared, Ok(_)) => allow_writing(server).await,
            // The limit went with the process.
            (Namespace::Shared, Err(_)) => Ok(()),
        }
    }

    /// Makes the filesystem read-only, while nobody writes to it; false if that is not possible here.
    ///
    /// # Errors
    /// If it does not work where it should.
    pub async fn make_read_only(&mut self) -> Result<bool, Failure> {
        if self.namespace == Namespace::Own {
            mount(&["-o", "remount,ro"], self.folder()).await?;
        }
        Ok(self.namespace == Namespace::Own)
    }

    /// Undoes that.
    ///
    /// # Errors
    /// If it does not work.
    pub async fn make_writable(&mut self) -> Result<(), Failure> {
        mount(&["-o", "remount,rw"], self.folder()).await
    }

    /// Gives the filesystem back.
    ///
    /// # Errors
    /// If something still uses it.
    pub async fn leave(self) -> Result<(), Failure> {
        if self.namespace == Namespace::Own {
            run("umount", &[], self.folder()).await?;
        }
        Ok(self.folder.close()?)
    }
}

async fn mount(arguments: &[&str], folder: &Path) -> Result<(), Failure> {
    run("mount", arguments, folder).await
}

async fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<(), Failure> {
    let output = Command::new(program).args(arguments).arg(folder).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Lets no write of the server's process to any file succeed.
///
/// # Errors
/// If that does not work.
pub(super) async fn forbid_writing(server: &Server) -> Result<(), Failure> {
    limit(server, "0").await
}

/// Lets it write again.
///
/// # Errors
/// If that does not work.
pub(super) async fn allow_writing(server: &Server) -> Result<(), Failure> {
    limit(server, "unlimited").await
}

/// The soft limit alone: the other could not be raised again without privileges.
async fn limit(server: &Server, bytes: &str) -> Result<(), Failure> {
    let (pid, limit) = (server.pid()?.to_string(), format!("--fsize={bytes}:"));
    let output = Command::new("prlimit").args(["--pid", &pid, &limit]).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("prlimit: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// SQLite's write lock in this process, which is not the server's.
pub(super) struct Lock(SqliteConnection);

/// Takes the lock.
///
/// # Errors
/// If it does not come.
pub(super) async fn lock(server: &Server) -> Result<Lock, Failure> {
    let mut connection = connect(server).await?;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
    Ok(Lock(connection))
}

impl Lock {
    /// Gives it back, nothing changed.
    ///
    /// # Errors
    /// If that does not work.
    pub(super) async fn release(mut self) -> Result<(), Failure> {
        sqlx::query("ROLLBACK").execute(&mut self.0).await?;
        Ok(self.0.close().await?)
    }
}

async fn connect(server: &Server) -> Result<SqliteConnection, Failure> {
    let database: PathBuf = server.database().ok_or("no database")?;
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(Duration::from_secs(20));
    Ok(SqliteConnection::connect_with(&options).await?)
}
