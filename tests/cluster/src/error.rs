//! What can go wrong.

use std::{io, path::PathBuf, process::ExitStatus};

use crate::Name;

/// Why something was not done. Its text is for whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is called so.
    #[error("there is no {0:?} in this cluster")]
    Unknown(String),
    /// It was to be ended, paused or asked.
    #[error("{0} is not running")]
    NotRunning(Name),
    /// It was to be started.
    #[error("{0} is running already")]
    Running(Name),
    /// Servers that sentinels watch are ended by [`crate::Cluster::fail_over`].
    #[error("{0} is more than one server, which is not ended or started as one")]
    NotOne(Name),
    /// It ended instead of becoming ready, or by a failure when it was asked to.
    #[error("{name} has ended ({status}); the end of its log, {}:\n{tail}", log.display())]
    Ended {
        /// Who.
        name: Name,
        /// How.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// It was waited for long enough.
    #[error("{name} {what}; the end of its log, {}:\n{tail}", log.display())]
    Slow {
        /// Who.
        name: Name,
        /// What was waited for.
        what: &'static str,
        /// Its log.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// The processes do not see each other.
    #[error("not everybody sees everybody: {0}")]
    NotWhole(String),
    /// `starlingd` is not where it is looked for.
    #[error(transparent)]
    NoProgram(#[from] starling_backends::NotBuilt),
    /// A command of `starlingd` failed.
    #[error("starlingd {what}: {errors}")]
    Command {
        /// What was asked for.
        what: String,
        /// What it printed.
        errors: String,
    },
    /// A setting that is none.
    #[error("setting {path}: {problem}")]
    Setting {
        /// Which.
        path: String,
        /// Why not.
        problem: String,
    },
    /// A file, a folder or a process.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Names what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
