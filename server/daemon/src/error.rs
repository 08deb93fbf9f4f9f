//! What can stop the program, in words for whoever started it.

use std::{io, path::PathBuf};

/// Any source, kept for its text.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the program ends, and with which exit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings are to be mended.
    #[error(transparent)]
    Settings(#[from] starling_settings::Error),
    /// The data folder cannot be used.
    #[error("data folder: {}: {source}", .path.display())]
    DataFolder {
        /// The file or folder at fault.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the data folder, and cannot be asked to do it.
    #[error("{} is in use{}", .path.display(), .holder.map(|id| format!(" by process {id}")).unwrap_or_default())]
    DataInUse {
        /// The folder.
        path: PathBuf,
        /// Its process, if that is known.
        holder: Option<u32>,
    },
    /// `log.level` cannot be read.
    #[error("log.level: {filter:?}: {source}")]
    LogFilter {
        /// What it is set to.
        filter: String,
        /// Why.
        source: Source,
    },
    /// Logs cannot be set up.
    #[error("logs: {0}")]
    Logs(Source),
    /// A mistake of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The self-signed certificate.
    #[error("certificate: {}: {source}", .path.display())]
    Certificate {
        /// The file at fault.
        path: PathBuf,
        /// Why.
        source: Source,
    },
    /// Certificates that are configured.
    #[error("tls.certificates: {0}")]
    Tls(starling_stream::Error),
    /// The store.
    #[error("store: {0}")]
    Store(#[from] starling_store::Error),
    /// Listening for clients.
    #[error(transparent)]
    C2s(#[from] starling_c2s::Error),
    /// Listening for instances.
    #[error(transparent)]
    Router(#[from] starling_router::RouterError),
    /// Certificates between processes.
    #[error("link.tls: {0}")]
    LinkTls(#[from] starling_mtls::Error),
    /// Listening for something else.
    #[error("cannot listen on {address} ({role}): {source}")]
    Listen {
        /// What for.
        role: &'static str,
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A mistake of the program: a path of an extension.
    #[error("extension: {0}")]
    Extension(String),
    /// The running server did not do it.
    #[error("the server: {0}")]
    Admin(String),
    /// A server is not as clients need it.
    #[error("{what}: {source}")]
    Check {
        /// What was looked at.
        what: String,
        /// What is wrong with it.
        source: Source,
    },
    /// Whoever called the command made a mistake.
    #[error("{0}")]
    Usage(String),
    /// Reading or writing what the command was given.
    #[error("{what}: {source}")]
    Io {
        /// What was read or written.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// 2 for what is to be mended in settings or arguments, 1 for the rest.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::LogFilter { .. } | Self::Tls(_) | Self::LinkTls(_) | Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
