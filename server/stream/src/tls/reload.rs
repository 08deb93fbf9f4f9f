use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificates::{Certificates, Shared};
use super::pair::folders;
use crate::Error;

impl Certificates {
    /// Reads the files again whenever something changes in their folders, until `stop`; the task belongs to `tasks`. Many
    /// changes at once cost few readings: those that come while one is done make one more, and what reads the same as
    /// before changes nothing. Changes made before this returns are seen as well.
    ///
    /// # Errors
    /// [`Error::Watch`] when the system allows no watching, or a folder is not there.
    pub fn watch(&self, tasks: &TaskTracker, stop: CancellationToken) -> Result<(), Error> {
        let changed = Arc::new(Notify::new());
        let mut watch = Watch::new(Arc::clone(&changed))?;
        watch.follow(&self.0)?;
        // What changed between the first reading and the first watch has made no event.
        changed.notify_one();
        let certificates = self.clone();
        tasks.spawn(async move {
            while stop.run_until_cancelled(changed.notified()).await.is_some() {
                let certificates = certificates.clone();
                let reading = tokio::task::spawn_blocking(move || {
                    // Links may lead elsewhere now: watched first and read then, so that no change falls between.
                    if let Err(error) = watch.follow(&certificates.0) {
                        tracing::error!(%error, "a folder of certificates cannot be watched");
                    }
                    if let Err(error) = certificates.reload() {
                        tracing::error!(%error, "certificates cannot be read again");
                    }
                    watch
                });
                match reading.await {
                    Ok(returned) => watch = returned,
                    Err(error) => {
                        tracing::error!(%error, "certificates are watched no more");
                        return;
                    }
                }
            }
        });
        Ok(())
    }
}

struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    fn new(changed: Arc<Notify>) -> Result<Self, Error> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            changed.notify_one();
        })?;
        Ok(Self { watcher, folders: BTreeSet::new() })
    }

    fn follow(&mut self, shared: &Shared) -> Result<(), Error> {
        let paths = shared.files.iter().flat_map(|files| [&files.certificate, &files.key]);
        let wanted: BTreeSet<_> = paths.flat_map(|path| folders(path)).filter(|folder| folder.is_dir()).collect();
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
