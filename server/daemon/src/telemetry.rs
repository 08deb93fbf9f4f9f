//! Logs: one line per event on standard error, for people or as JSON.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::error::{Error, Result};

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people: coloured on a terminal, unless `NO_COLOR` is set.
    Human,
    /// One JSON object per line; an event's fields stand beside `timestamp`, `level`, `target` and `message`.
    Json,
}

/// Sends the process's events to standard error.
///
/// # Errors
/// [`Error::LogFilter`] when `filter` cannot be read, [`Error::Logs`] when logs were set up before.
pub(crate) fn start(format: Format, filter: &str) -> Result<()> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_timer(SystemTime);
    match format {
        Format::Human => {
            let colours =
                io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            builder.compact().with_ansi(colours).try_init()
        }
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(Error::Logs)
}

/// Reads a filter such as `info,starling_c2s=debug`.
///
/// # Errors
/// [`Error::LogFilter`] when it cannot be read.
pub(crate) fn parse_filter(filter: &str) -> Result<EnvFilter> {
    EnvFilter::builder()
        .parse(filter)
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
