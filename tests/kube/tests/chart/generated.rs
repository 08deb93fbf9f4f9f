//! What is written from something else is as that is now. `helm/generate` writes it anew: these tests, with
//! `STARLING_GOLDEN=write`.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use starling_kube_tests::assert_golden;

use crate::file;

#[test]
fn the_definition_in_the_chart_is_the_operator_s() {
    let text = serde_saphyr::to_string(&starling_operator::crd::definition()).unwrap();
    assert_golden(&file("starling/files/xmppservers.starling.im.yaml"), &text);
}

/// A value that has a comment.
#[derive(Debug, PartialEq, Eq)]
struct Documented {
    /// `image.tag`.
    path: String,
    comment: String,
}

/// The values with their comments, in the order of the file: lines above a key, as far as the next empty one.
fn documented(text: &str) -> Vec<Documented> {
    let (mut found, mut comment, mut above) = (Vec::new(), Vec::new(), Vec::<(usize, &str)>::new());
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let Some(text) = content.strip_prefix("# ") {
            comment.push(text);
            continue;
        }
        let is_key = |key: &&str| key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if let Some(key) = content.split_once(':').map(|(key, _)| key).filter(is_key) {
            above.retain(|(column, _)| *column < indent);
            above.push((indent, key));
            if !comment.is_empty() {
                let path: Vec<_> = above.iter().map(|(_, key)| *key).collect();
                found.push(Documented { path: path.join("."), comment: comment.join(" ") });
            }
        }
        comment.clear();
    }
    found
}

fn values() -> (String, Value) {
    let text = fs::read_to_string(file("starling/values.yaml")).unwrap();
    let values = serde_saphyr::from_str(&text).unwrap();
    (text, values)
}

fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    values.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or_else(|| panic!("no value {path}"))
}

#[test]
fn a_comment_belongs_to_the_value_below_it() {
    let text = "# Of the file.\n\na:\n  # Of b,\n  # at length.\n  b: 1\n  c: 2\n# Of d.\nd: {}\n";
    let of = |path: &str, comment: &str| Documented { path: path.to_owned(), comment: comment.to_owned() };
    assert_eq!(documented(text), [of("a.b", "Of b, at length."), of("d", "Of d.")]);
}

#[test]
fn the_readme_has_every_value_with_its_description() {
    let (text, values) = values();
    let documented = documented(&text);
    let paths: BTreeSet<_> = documented.iter().map(|value| value.path.as_str()).collect();
    let mut without = Vec::new();
    leaves(&values, "", &paths, &mut without);
    assert!(without.is_empty(), "values without a comment: {without:?}");

    let mut table = "| Value | Default | Meaning |\n|---|---|---|\n".to_owned();
    for Documented { path, comment } in &documented {
        // A bar would end the cell.
        let comment = comment.replace('|', "\\|");
        table.push_str(&format!("| `{path}` | `{}` | {comment} |\n", at(&values, path)));
    }
    let path = file("starling/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("in values.yaml. -->\n", "<!-- end -->");
    let (before, rest) = readme.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    assert_golden(&path, &format!("{before}{begin}{table}{end}{after}"));
}

/// Values that stand neither among these nor below one of them.
fn leaves(value: &Value, path: &str, documented: &BTreeSet<&str>, without: &mut Vec<String>) {
    if documented.contains(path) {
        return;
    }
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(inner, &path, documented, without);
            }
        }
        _ => without.push(path.to_owned()),
    }
}

/// What Helm gives to every chart, whatever its values.
const GLOBAL: &str = "global";

#[test]
fn the_schema_has_the_values_and_no_others() {
    let (text, values) = values();
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(file("starling/values.schema.json")).unwrap()).unwrap();
    let documented: BTreeSet<_> = documented(&text).into_iter().map(|value| value.path).collect();
    let mut known = BTreeSet::new();
    schema_leaves(&schema, "", &documented, &mut known);
    known.remove(GLOBAL);
    assert_eq!(known, documented);
    for path in &documented {
        assert!(!at(&values, path).is_null(), "{path}: Helm takes a value that is null for none");
    }
}

fn schema_leaves(schema: &Value, path: &str, documented: &BTreeSet<String>, known: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) if !documented.contains(path) => {
            assert_eq!(schema["additionalProperties"], false, "{path}: a misspelt value is to be refused");
            for (name, inner) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                schema_leaves(inner, &path, documented, known);
            }
        }
        _ => assert!(known.insert(path.to_owned())),
    }
}
