use std::path::Path;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificates::{Certificates, Shared};
use crate::{Error, FileWatch};

impl Certificates {
    /// Reads the files again whenever something changes in their folders, until `stop`; the task belongs to `tasks`. Many
    /// changes at once cost few readings: those that come while one is done make one more, and what reads the same as
    /// before changes nothing. Changes made before this returns are seen as well.
    ///
    /// # Errors
    /// [`Error::Watch`] when the system allows no watching, or a folder is not there.
    pub fn watch(&self, tasks: &TaskTracker, stop: CancellationToken) -> Result<(), Error> {
        let mut watch = FileWatch::new(self.0.paths())?;
        let certificates = self.clone();
        tasks.spawn(async move {
            while stop.run_until_cancelled(watch.changed()).await.is_some() {
                let certificates = certificates.clone();
                let reading = tokio::task::spawn_blocking(move || {
                    if let Err(error) = watch.follow(certificates.0.paths()) {
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

impl Shared {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().flat_map(|files| [files.certificate.as_path(), files.key.as_path()])
    }
}
