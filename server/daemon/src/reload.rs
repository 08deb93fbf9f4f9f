//! Settings that are read again while the server runs: when their file changes, and on SIGHUP.
//!
//! ```text
//!   FileWatch ─► changed(), quiet ─┐                       ┌─ faulty: the old ones stay, an error is logged
//!   SIGHUP ────────────────────────┴─► read, check whole ──┴─ good ─► Server::apply, log level
//! ```
//!
//! The environment stays as it was at the start, and goes over the file each time.

use std::{
    future::pending,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use starling_settings::Settings;
use starling_stream::FileWatch;
use tokio::{task::spawn_blocking, time::timeout};
use tracing::{error, info, warn};

use crate::{Applied, Result, Server, parts::Parts, telemetry::Logs};

/// A file that is written in several steps is read when nothing has happened to it for this long: nobody tells which step is
/// the last, and an empty file is a good one.
const QUIET: Duration = Duration::from_millis(100);
/// One that never comes to rest is read all the same.
const UNQUIET: Duration = Duration::from_secs(2);

/// Where settings come from.
pub(crate) struct Source {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Source {
    /// A file, if there is one, and over it the environment of this process, with `roles` in the place of what it says of them if
    /// there are any.
    pub(crate) fn new(file: Option<PathBuf>, roles: &[String]) -> Self {
        // Names and values that are not Unicode cannot be settings.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut environment: Vec<_> = environment.filter(|(name, _)| name.starts_with("STARLING_")).collect();
        if !roles.is_empty() {
            environment.push(("STARLING_ROLES".to_owned(), format!("{roles:?}")));
        }
        Self { file, environment }
    }

    /// The settings as they are now.
    ///
    /// # Errors
    /// [`Error::Settings`](crate::Error::Settings).
    pub(crate) fn read(&self) -> Result<Settings> {
        Ok(Settings::load(self.file.as_deref(), self.environment.iter().cloned())?)
    }

    /// The same, checked as `starlingd config check` does. Files of certificates are looked at if others are asked for than
    /// before: those that are shown are watched, and may be half replaced at this moment.
    fn read_whole(&self, before: &Settings) -> Result<Settings> {
        let settings = self.read()?;
        let parts = Parts::new(&settings)?;
        if settings.tls != before.tls {
            parts.check_files()?;
        }
        Ok(settings)
    }
}

/// Why settings are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody wants it, and to hear of it.
    Asked,
    /// Something has happened to the file. It may say the same.
    Changed,
}

/// The settings of this process, and what is done when they change.
pub(crate) struct Reload {
    source: Arc<Source>,
    logs: Logs,
    /// The newest that were good.
    settings: Settings,
    /// Why what was read last was not.
    fault: Option<String>,
    /// `None`: there is no file, or it cannot be watched.
    watch: Option<FileWatch>,
}

impl Reload {
    /// `settings` are what `source` gave.
    pub(crate) fn new(source: Arc<Source>, settings: Settings, logs: Logs) -> Self {
        Self { source, logs, settings, fault: None, watch: None }
    }

    /// The newest settings that were good.
    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The newest settings that were good: a run begins with them. What is wrong with newer ones is told in each run.
    pub(crate) fn begin(&mut self) -> &Settings {
        self.fault = None;
        self.watch = self.source.file.as_deref().and_then(|file| match FileWatch::new([file]) {
            Ok(watch) => Some(watch),
            Err(error) => {
                warn!(file = %file.display(), %error, "The settings' file is not watched: SIGHUP reads it again");
                None
            }
        });
        &self.settings
    }

    /// Returns when the file may say something else. Dropped, it may forget that: then the settings are to be read again, or
    /// the run ends.
    pub(crate) async fn changed(&self) {
        let Some(watch) = &self.watch else { return pending().await };
        watch.changed().await;
        let latest = Instant::now() + UNQUIET;
        while Instant::now() < latest && timeout(QUIET, watch.changed()).await.is_ok() {}
    }

    /// Reads the settings again, and has `server` and the logs take up what they can. Dropped in between, it has done nothing,
    /// and does not watch any more.
    pub(crate) async fn read_again(&mut self, server: &Server, cause: Cause) {
        let (source, before, mut watch) = (Arc::clone(&self.source), self.settings.clone(), self.watch.take());
        let reading = spawn_blocking(move || {
            if let (Some(watch), Some(file)) = (&mut watch, source.file.as_deref())
                && let Err(error) = watch.follow([file])
            {
                warn!(file = %file.display(), %error, "The settings' file cannot be watched; SIGHUP reads it again");
            }
            (watch, source.read_whole(&before))
        });
        match reading.await {
            Ok((watch, read)) => {
                self.watch = watch;
                self.take_up(server, read, cause);
            }
            Err(error) => error!(%error, "Settings not read again, and watched no more"),
        }
    }

    fn take_up(&mut self, server: &Server, read: Result<Settings>, cause: Cause) {
        let is_known = match &read {
            Ok(settings) => self.fault.is_none() && *settings == self.settings,
            Err(error) => self.fault.as_ref().is_some_and(|fault| *fault == error.to_string()),
        };
        if is_known && cause == Cause::Changed {
            return;
        }
        let newer = read.as_ref().ok().cloned();
        match server.apply(read) {
            Ok(applied) => {
                if let Some(newer) = newer {
                    self.settings = newer;
                }
                self.fault = None;
                if let Err(error) = self.logs.set_filter(&self.settings.log.level) {
                    error!(%error, "Logs go on as they were");
                }
                tell(&applied);
            }
            Err(error) => {
                error!(%error, "Settings cannot be used as they are now; the old ones stay");
                self.fault = Some(error.to_string());
            }
        }
    }
}

fn tell(applied: &Applied) {
    let Applied { taken_up, restart_needed } = applied;
    if taken_up.is_empty() {
        info!("Settings read again; there is nothing to take up");
    } else {
        info!(settings = taken_up.join(" "), "Settings taken up");
    }
    if !restart_needed.is_empty() {
        warn!(settings = restart_needed.join(" "), "Settings differ from what runs until a restart");
    }
}
