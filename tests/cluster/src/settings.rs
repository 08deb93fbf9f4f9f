//! The settings' file of a process: `tests/open.toml`, and what differs from that.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use toml::{Table, Value};

use crate::{Error, Result};

/// As open as tests want it.
const OPEN: &str = include_str!("../../open.toml");

/// The settings of one process.
#[derive(Clone, Debug)]
pub(crate) struct Settings(Table);

impl Settings {
    /// Those of `tests/open.toml`.
    pub(crate) fn open() -> Result<Self> {
        toml::from_str(OPEN).map(Self).map_err(|error| wrong("tests/open.toml", error))
    }

    /// Sets `path`, keys joined by points, to `value`, TOML.
    pub(crate) fn set(&mut self, path: &str, value: &str) -> Result<()> {
        let mut parsed: Table = toml::from_str(&format!("value = {value}")).map_err(|error| wrong(path, error))?;
        let value = parsed.remove("value").ok_or_else(|| wrong(path, "no value"))?;
        let (folders, key) = path.rsplit_once('.').map_or((None, path), |(folders, key)| (Some(folders), key));
        let mut table = &mut self.0;
        for folder in folders.into_iter().flat_map(|folders| folders.split('.')) {
            let inner = table.entry(folder).or_insert_with(|| Value::Table(Table::new()));
            table = inner.as_table_mut().ok_or_else(|| wrong(path, "not in a table"))?;
        }
        table.insert(key.to_owned(), value);
        Ok(())
    }

    /// The same, to a text.
    pub(crate) fn set_text(&mut self, path: &str, text: &str) -> Result<()> {
        self.set(path, &Value::String(text.to_owned()).to_string())
    }

    /// The same, to a list of texts.
    pub(crate) fn set_list(&mut self, path: &str, texts: &[String]) -> Result<()> {
        let list = texts.iter().cloned().map(Value::String).collect();
        self.set(path, &Value::Array(list).to_string())
    }

    /// Writes them, for nobody else to read.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = toml::to_string(&self.0).map_err(|error| wrong("all", error))?;
        let failed = |source| Error::Io { what: file.display().to_string(), source };
        let mut open = OpenOptions::new();
        let mut out = open.write(true).create(true).truncate(true).mode(0o600).open(file).map_err(failed)?;
        out.write_all(text.as_bytes()).map_err(failed)
    }
}

fn wrong(path: &str, problem: impl ToString) -> Error {
    Error::Setting { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_takes_the_place_of_what_was_there() {
        let mut settings = Settings::open().unwrap();
        settings.set("c2s.limits.connections", "3").unwrap();
        settings.set_text("data", "a \"folder\"").unwrap();
        settings.set_list("link.routers", &["one:1".to_owned(), "two:2".to_owned()]).unwrap();
        let limits = &settings.0["c2s"]["limits"];
        assert_eq!((limits["connections"].as_integer(), limits["accept_per_second"].as_str()), (Some(3), Some("off")));
        assert_eq!(settings.0["data"].as_str(), Some("a \"folder\""));
        assert_eq!(settings.0["link"]["routers"].as_array().unwrap().len(), 2);
        settings.set("domains.one", "1").unwrap_err();
        settings.set("data", "no TOML").unwrap_err();
    }
}
