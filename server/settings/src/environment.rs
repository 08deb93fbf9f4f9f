//! Settings from environment variables.

use toml::{Table, Value};

use crate::{
    Error,
    schema::{Leaf, leaves, variable},
};

const PREFIX: &str = "STARLING_";

/// Puts the variables that name a setting over what is in `table`.
pub(crate) fn apply(table: &mut Table, environment: impl IntoIterator<Item = (String, String)>) -> Result<(), Error> {
    let variables: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    if variables.is_empty() {
        return Ok(());
    }
    let leaves = leaves();
    for (name, value) in variables {
        let Some(leaf) = leaves.iter().find(|leaf| leaf.variable == name) else {
            let nearest = nearest(&name, leaves);
            return Err(Error::UnknownVariable { name, nearest });
        };
        let value = parse(leaf, value)?;
        set(table, &leaf.path, value);
    }
    Ok(())
}

/// Puts values over what is in `table`, by the settings' paths.
pub(crate) fn overlay<'a>(table: &mut Table, values: impl IntoIterator<Item = (&'a str, String)>) -> Result<(), Error> {
    let leaves = leaves();
    for (path, value) in values {
        let Some(leaf) = leaves.iter().find(|leaf| leaf.path == path) else {
            let nearest = leaves.iter().min_by_key(|leaf| distance(path, &leaf.path));
            let nearest = nearest.map(|leaf| leaf.path.clone()).unwrap_or_default();
            return Err(Error::UnknownVariable { name: path.to_owned(), nearest });
        };
        // Whoever wrote a path is told of that, not of a variable.
        let value = parse(leaf, value).map_err(|error| match error {
            Error::Variable { reason, .. } => Error::Variable { name: path.to_owned(), reason },
            other => other,
        })?;
        set(table, path, value);
    }
    Ok(())
}

/// The variable that sets what stands at this path, or the path itself if it is none.
pub(crate) fn name_of(path: &str) -> String {
    let known = leaves().iter().find(|leaf| path == leaf.path || path.starts_with(&format!("{}[", leaf.path)));
    known.map_or_else(|| path.to_owned(), |leaf| variable(&leaf.path))
}

fn parse(leaf: &Leaf, text: String) -> Result<Value, Error> {
    if leaf.is_text {
        return Ok(Value::String(text));
    }
    // `"off"`, for what can be switched off, may stand without its quotes.
    if text == "off" {
        return Ok(Value::String(text));
    }
    // One value and nothing behind it: a line break in it would begin another setting. What it is may be a secret: it is
    // not told.
    let table = toml::from_str::<Table>(&format!("value = {text}")).ok().filter(|table| table.len() == 1);
    table.and_then(|mut table| table.remove("value")).ok_or_else(|| Error::Variable {
        name: leaf.variable.clone(),
        reason: format!("not one value as TOML writes it ({})", leaf.kind),
    })
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

fn nearest(name: &str, leaves: &[Leaf]) -> String {
    let best = leaves.iter().min_by_key(|leaf| distance(name, &leaf.variable));
    best.map(|leaf| leaf.variable.clone()).unwrap_or_default()
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
