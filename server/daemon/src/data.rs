//! The data folder: where it is, who may look into it, and who holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folder that the `data` setting names.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder {
    /// Absolute, without symbolic links.
    path: PathBuf,
}

impl DataFolder {
    /// The folder at `path` (or what a symbolic link there leads to), made with mode 0700 if there is none.
    ///
    /// # Errors
    /// [`Error::DataFolder`] when it can neither be found nor made, or is no folder.
    pub(crate) fn prepare(path: &Path) -> Result<Self> {
        let failed = |source| Error::DataFolder { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        // Absolute, so that nothing depends on the working directory later on.
        let path = fs::canonicalize(path).map_err(failed)?;
        Ok(Self { path })
    }

    /// The SQLite database.
    #[must_use]
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("starling.db")
    }

    /// The Unix socket on which a running server takes orders.
    #[must_use]
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }

    /// Where the self-signed certificate and its key are.
    #[must_use]
    pub(crate) fn tls(&self) -> PathBuf {
        self.path.join("tls")
    }

    /// Takes the folder for this process, until the lock is dropped or the process ends in any way.
    ///
    /// # Errors
    /// [`Error::DataInUse`] when another process has it, [`Error::DataFolder`] when the lock file cannot be written.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.path.join("lock");
        let failed = |source| Error::DataFolder { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::DataInUse { path: self.path.clone(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // For the message that the next one gets; the lock itself is flock(2) on the open file.
        note_holder(&mut file).map_err(failed)?;
        Ok(Lock { _file: file })
    }
}

/// The hold on a data folder; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

fn note_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    write!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Writes `content` to `path` by way of a new file beside it, so that a reader sees the old content or the new.
///
/// # Errors
/// What the file system says.
pub(crate) fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_new_folder_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataFolder::prepare(&parent.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(&data.path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_symbolic_link_is_followed_once_and_for_all() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link) = (parent.path().join("real"), parent.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(DataFolder::prepare(&link).unwrap().path, fs::canonicalize(&real).unwrap());
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(DataFolder::prepare(file.path()), Err(Error::DataFolder { .. })));
    }

    #[test]
    fn the_second_holder_learns_who_the_first_is() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataFolder::prepare(parent.path()).unwrap();
        let lock = data.lock().unwrap();
        let Err(Error::DataInUse { holder, .. }) = data.lock() else { panic!("locked twice") };
        assert_eq!(holder, Some(std::process::id()));
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn a_replaced_file_has_the_new_content_and_mode() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("key");
        fs::write(&path, "old").unwrap();
        fs::write(parent.path().join("key.new"), "left over").unwrap();
        replace_file(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
