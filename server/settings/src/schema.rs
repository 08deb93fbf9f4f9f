//! The settings as their schema knows them: the one source of names, types and texts.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::Settings;

/// One setting.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// `c2s.limits.depth`.
    pub(crate) path: String,
    /// The name of its environment variable.
    pub(crate) variable: String,
    /// For people: `integer`, `list`, …
    pub(crate) kind: String,
    /// A variable's value is taken as it is, not as TOML.
    pub(crate) is_text: bool,
    pub(crate) text: String,
    pub(crate) default: Value,
    /// A running server takes up another value.
    pub(crate) is_reloaded: bool,
}

/// What marks a setting, or a whole table, that a running server takes up: `#[schemars(extend("x-reloaded" = true))]`.
const RELOADED: &str = "x-reloaded";

/// A table of settings.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// `c2s.limits`; empty for the top.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) leaves: Vec<Leaf>,
}

/// All settings, in the order in which they stand in the types' tables.
pub(crate) fn sections() -> Vec<Section> {
    let generator = SchemaSettings::default().with(|settings| settings.inline_subschemas = true).into_generator();
    let schema = generator.into_root_schema_for::<Settings>().to_value();
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let mut sections = Vec::new();
    walk("", &schema, &defaults, false, &mut sections);
    sections
}

/// Every setting.
pub(crate) fn leaves() -> &'static [Leaf] {
    static LEAVES: LazyLock<Vec<Leaf>> =
        LazyLock::new(|| sections().into_iter().flat_map(|section| section.leaves).collect());
    &LEAVES
}

fn walk(path: &str, schema: &Value, default: &Value, is_reloaded: bool, sections: &mut Vec<Section>) {
    let at = sections.len();
    sections.push(Section { path: path.to_owned(), text: text_of(schema), leaves: Vec::new() });
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = default.get(name).cloned().unwrap_or_default();
        let is_reloaded = is_reloaded || property.get(RELOADED).and_then(Value::as_bool) == Some(true);
        if property.get("properties").is_some() {
            walk(&path, property, &default, is_reloaded, sections);
            continue;
        }
        let leaf = Leaf {
            variable: variable(&path),
            kind: kind(property),
            is_text: property.get("type").and_then(Value::as_str) == Some("string") || is_choice(property),
            text: text_of(property),
            default,
            path,
            is_reloaded,
        };
        if let Some(section) = sections.get_mut(at) {
            section.leaves.push(leaf);
        }
    }
}

/// `c2s.limits.depth` is `STARLING_C2S_LIMITS_DEPTH`.
pub(crate) fn variable(path: &str) -> String {
    format!("STARLING_{}", path.replace('.', "_").to_uppercase())
}

fn text_of(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ")
}

fn is_choice(schema: &Value) -> bool {
    schema.get("oneOf").is_some() || schema.get("enum").is_some()
}

fn kind(schema: &Value) -> String {
    if is_choice(schema) {
        return "choice".to_owned();
    }
    if schema.get("anyOf").is_some() {
        return "integer or \"off\"".to_owned();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => "list".to_owned(),
        Some(other) => other.to_owned(),
        None => "value".to_owned(),
    }
}
