//! The extension containers, one file each, and the one list of them.

mod disco;
mod legacy_session;
mod ping;

use crate::extension::Extension;

/// Every container of this server. To add one: a file beside these, and a line here.
#[must_use]
pub fn all() -> Vec<Box<dyn Extension>> {
    vec![Box::new(disco::Disco), Box::new(ping::Ping), Box::new(legacy_session::LegacySession)]
}
