//! Logs: one line per event on standard error, for people or as JSON.

use std::io::{self, IsTerminal as _};

use starling_settings::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::reload;

use crate::error::{Error, Result};

/// The hold on what is logged.
pub(crate) struct Logs(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl Logs {
    /// Logs what `filter` lets through from now on.
    ///
    /// # Errors
    /// [`Error::LogFilter`] when it cannot be read, [`Error::Logs`] when logs have ended.
    pub(crate) fn set_filter(&self, filter: &str) -> Result<()> {
        (self.0)(parse_filter(filter)?).map_err(|error| Error::Logs(error.into()))
    }
}

/// Sends the process's events to standard error: for people, coloured on a terminal unless `NO_COLOR` is set; or one JSON
/// object per line, with an event's fields beside `timestamp`, `level`, `target` and `message`.
///
/// # Errors
/// [`Error::LogFilter`] when `filter` cannot be read, [`Error::Logs`] when logs were set up before.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<Logs> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_timer(SystemTime);
    // Whether a line is logged is asked once for each place in the program that logs, and remembered until the filter
    // changes: the lock around the filter is not on anybody's way.
    let (logs, started) = match format {
        LogFormat::Human => {
            let colours =
                io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let builder = builder.compact().with_ansi(colours).with_filter_reloading();
            let handle = builder.reload_handle();
            (Logs(Box::new(move |filter| handle.reload(filter))), builder.try_init())
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            (Logs(Box::new(move |filter| handle.reload(filter))), builder.try_init())
        }
    };
    started.map_err(Error::Logs)?;
    Ok(logs)
}

/// Whenever a ConfigMap or a Secret changes, the folder that it was in is gone before it can be watched no more. The watcher of
/// files says so, as if that were news.
const OF_NO_USE: &str = "notify::inotify=warn";

/// Reads a filter such as `info,starling_c2s=debug`.
///
/// # Errors
/// [`Error::LogFilter`] when it cannot be read.
pub(crate) fn parse_filter(filter: &str) -> Result<EnvFilter> {
    EnvFilter::builder()
        .parse(filter)
        .and_then(|parsed| Ok(parsed.add_directive(OF_NO_USE.parse()?)))
        .map_err(|source| Error::LogFilter { filter: filter.to_owned(), source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_names_itself() {
        parse_filter("info,starling_c2s=debug").unwrap();
        let error = parse_filter("info,starling_c2s=loud").unwrap_err().to_string();
        assert!(error.contains("starling_c2s=loud"), "{error}");
    }
}
