//! Settings from environment variables.

use toml::{Table, Value};

use crate::{
    Error,
    schema::{Leaf, leaves, variable},
};

const PREFIX: &str = "STARLING_";

/// Puts the variables that name a setting over what is in `table`.
pub(crate) fn apply(table: &mut Table, environment: impl IntoIterator<Item = (String, String)>) -> Result<(), Error> {
    put(table, environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)), |leaf| &leaf.variable)
}

/// Puts values over what is in `table`, by the settings' paths.
pub(crate) fn overlay<'a>(table: &mut Table, values: impl IntoIterator<Item = (&'a str, String)>) -> Result<(), Error> {
    put(table, values, |leaf| &leaf.path)
}

/// Puts values over what is in `table`; `key` is what they are named by. Whoever is wrong is told of the name that they wrote.
fn put<N: AsRef<str>>(
    table: &mut Table,
    values: impl IntoIterator<Item = (N, String)>,
    key: fn(&Leaf) -> &str,
) -> Result<(), Error> {
    for (name, value) in values {
        let name = name.as_ref();
        let Some(leaf) = leaves().iter().find(|leaf| key(leaf) == name) else {
            let nearest = leaves().iter().map(key).min_by_key(|known| distance(name, known)).unwrap_or_default();
            return Err(Error::UnknownVariable { name: name.to_owned(), nearest: nearest.to_owned() });
        };
        let value = parse(leaf, value).ok_or_else(|| Error::Variable {
            name: name.to_owned(),
            reason: format!("not one value as TOML writes it ({})", leaf.kind),
        })?;
        set(table, &leaf.path, value);
    }
    Ok(())
}

/// The variable that sets what stands at this path, or the path itself if it is none.
pub(crate) fn name_of(path: &str) -> String {
    let known = leaves().iter().find(|leaf| path == leaf.path || path.starts_with(&format!("{}[", leaf.path)));
    known.map_or_else(|| path.to_owned(), |leaf| variable(&leaf.path))
}

fn parse(leaf: &Leaf, text: String) -> Option<Value> {
    if leaf.is_text {
        return Some(Value::String(text));
    }
    // `"off"`, for what can be switched off, may stand without its quotes.
    if text == "off" {
        return Some(Value::String(text));
    }
    // One value and nothing behind it: a line break in it would begin another setting. What it is may be a secret: it is
    // not told.
    let table = toml::from_str::<Table>(&format!("value = {text}")).ok().filter(|table| table.len() == 1);
    table?.remove("value")
}

fn set(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// Levenshtein.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in two.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&row, j) + usize::from(a != *b);
            next.push(replaced.min(at(&row, j + 1) + 1).min(at(&next, j) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
