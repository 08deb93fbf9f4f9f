//! Which settings a running server takes up, and which count after a restart.
//!
//! ```text
//!   what runs ─┬─► differs_from(what was read) ──► paths ─┬─ reloaded(): taken up
//!   what was   │                                          └─ others: need a restart
//!   read ──────┴─► taking_up(what was read) ──► what runs from then on
//! ```

use serde_json::Value;

use crate::{
    Error, Settings,
    schema::{Leaf, leaves},
};

/// The paths of all settings that a running server takes up when its file changes: `c2s.limits.depth`.
pub fn reloaded() -> impl Iterator<Item = &'static str> {
    leaves().iter().filter(|leaf| leaf.is_reloaded).map(|leaf| leaf.path.as_str())
}

impl Settings {
    /// The paths of settings that have another value in `other`.
    ///
    /// # Errors
    /// Paths of files that are not Unicode.
    pub fn differs_from(&self, other: &Self) -> Result<Vec<&'static str>, Error> {
        let (one, other) = (value(self)?, value(other)?);
        let differs = |leaf: &&Leaf| one.pointer(&pointer(&leaf.path)) != other.pointer(&pointer(&leaf.path));
        Ok(leaves().iter().filter(differs).map(|leaf| leaf.path.as_str()).collect())
    }

    /// These settings, with what a running server takes up as it is in `newer`.
    ///
    /// # Errors
    /// Paths of files that are not Unicode.
    pub fn taking_up(&self, newer: &Self) -> Result<Self, Error> {
        let (mut merged, newer) = (value(self)?, value(newer)?);
        for path in reloaded().map(pointer) {
            if let (Some(old), Some(new)) = (merged.pointer_mut(&path), newer.pointer(&path)) {
                *old = new.clone();
            }
        }
        serde_json::from_value(merged).map_err(unreadable)
    }
}

fn value(settings: &Settings) -> Result<Value, Error> {
    serde_json::to_value(settings).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Variable { name: "settings".to_owned(), reason: error.to_string() }
}

/// RFC 6901. No setting has a name with a slash or a tilde in it.
fn pointer(path: impl AsRef<str>) -> String {
    format!("/{}", path.as_ref().replace('.', "/"))
}
