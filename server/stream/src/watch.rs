//! Files whose changes are noticed, wherever links lead: certificates here, the settings in the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::Error;

/// Notices when files may have new content. It watches their folders: a file may be replaced, come and go, or be reached
/// by a link that is turned elsewhere.
#[derive(Debug)]
pub struct FileWatch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

impl FileWatch {
    /// Watches `files`. The first change is reported at once: what changed between an earlier reading and this call has made
    /// no event.
    ///
    /// # Errors
    /// [`Error::Watch`] when the system allows no watching, or a folder is not there.
    pub fn new<'p>(files: impl IntoIterator<Item = &'p Path>) -> Result<Self, Error> {
        let changed = Arc::new(Notify::new());
        let noticed = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            noticed.notify_one();
        })?;
        let mut watch = Self { watcher, folders: BTreeSet::new(), changed };
        watch.follow(files)?;
        watch.changed.notify_one();
        Ok(watch)
    }

    /// Returns when something has changed since it returned last. Nothing is lost if it is dropped before; many changes
    /// may be told as one. Call [`follow`](Self::follow) then, and read after that.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Watches where the paths lead now, and nothing else: to be called before the files are read, so that no change falls
    /// between. It reads links: on a runtime's thread, call it by `spawn_blocking`.
    ///
    /// # Errors
    /// As [`FileWatch::new`]; what could be watched is.
    pub fn follow<'p>(&mut self, files: impl IntoIterator<Item = &'p Path>) -> Result<(), Error> {
        let wanted: BTreeSet<_> = files.into_iter().flat_map(folders).filter(|folder| folder.is_dir()).collect();
        for gone in self.folders.difference(&wanted) {
            // A folder that was removed is watched no more already.
            self.watcher.unwatch(gone).unwrap_or_else(|error| tracing::debug!(%error, "unwatch"));
        }
        self.folders.retain(|folder| wanted.contains(folder));
        for folder in wanted {
            // Also one that is watched already: it may be another folder of the same name by now.
            self.watcher.watch(&folder, RecursiveMode::NonRecursive)?;
            self.folders.insert(folder);
        }
        Ok(())
    }
}

/// Whether an event tells of reading, which our own reading causes too, or of a write that will be followed by a close.
const fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        EventKind::Modify(ModifyKind::Data(_)) => cfg!(target_os = "linux"),
        _ => false,
    }
}

/// The folders in which something changes when the file at `path` gets new content: its own, and that of each symbolic link
/// on the way (Kubernetes swaps `..data`, which lies beside the file's own link).
fn folders(path: &Path) -> Vec<PathBuf> {
    const MOST_LINKS: usize = 16;
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    let mut links = 0;
    while let Some(path) = open.pop() {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut follow = |link: &Path, open: &mut Vec<PathBuf>| {
            let Ok(target) = fs::read_link(link) else { return };
            links += 1;
            if links <= MOST_LINKS {
                let from = link.parent().unwrap_or_else(|| Path::new("."));
                open.push(from.join(target));
            }
        };
        follow(&path, &mut open);
        // The folder may itself be reached by a link: when that changes, so does the file.
        if fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_symlink()) {
            let name = path.file_name().unwrap_or_default();
            if let (Ok(target), Some(above)) = (fs::read_link(&folder), folder.parent()) {
                links += 1;
                found.push(if above.as_os_str().is_empty() { PathBuf::from(".") } else { above.to_owned() });
                if links <= MOST_LINKS {
                    open.push(above.join(target).join(name));
                }
            }
        }
        found.push(folder);
    }
    found.sort();
    found.dedup();
    found
}
