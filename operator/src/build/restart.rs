//! Which settings need a restart.

use crate::{hash, validate::Written};

/// A hash of all settings but those that a running `starlingd` takes up by itself when its file changes: pods carry it, and
/// are replaced when it changes. Certificates, keys, authorities and passwords are read again as well, but their contents
/// stand in no setting.
#[must_use]
pub fn settings_hash(written: &Written) -> String {
    without(&written.text, starling_settings::reloaded())
}

fn without<'a>(text: &str, reloaded: impl Iterator<Item = &'a str>) -> String {
    let Ok(mut table) = text.parse::<toml::Table>() else {
        // It was read once already.
        return hash::long(text.as_bytes());
    };
    for path in reloaded {
        remove(&mut table, path);
    }
    hash::long(table.to_string().as_bytes())
}

/// Takes a setting away, or a whole section, and sections that become empty.
fn remove(table: &mut toml::Table, path: &str) {
    let Some((section, rest)) = path.split_once('.') else {
        table.remove(path);
        return;
    };
    if let Some(toml::Value::Table(inner)) = table.get_mut(section) {
        remove(inner, rest);
        if inner.is_empty() {
            table.remove(section);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reloaded_does_not_count_and_all_else_does() {
        let reloaded = ["log.level", "c2s.limits"];
        let hash = |text: &str| without(text, reloaded.into_iter());
        let base = hash("domains = [\"a\"]\n");
        assert_eq!(hash("domains = [\"a\"]\n[log]\nlevel = \"debug\"\n[c2s.limits]\ndepth = 32\n"), base);
        assert_ne!(hash("domains = [\"b\"]\n"), base);
        assert_ne!(hash("domains = [\"a\"]\n[log]\nformat = \"json\"\n"), base);
    }
}
