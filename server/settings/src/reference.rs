//! Documentation made from the types.

use std::fmt::Write as _;

use serde_json::Value;

use crate::schema::{Leaf, Section, sections};

/// All settings, with defaults and variables, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         Settings come from a file in TOML (`--config FILE`), and from environment variables, which override it. The \
         name of a setting's variable is `STARLING_` and its path in upper case, with `_` for `.`. What is of type \
         `string` or `choice` stands there as it is, without quotes; all else as in TOML, `off` with or without its \
         quotes:\n\n\
         ```sh\n\
         STARLING_DATA=/var/lib/starling\n\
         STARLING_C2S_STARTTLS_LISTEN='[\"0.0.0.0:5222\", \"[::]:5222\"]'\n\
         STARLING_C2S_LIMITS_CONNECTIONS=off\n\
         ```\n\n\
         An unknown setting is an error, in the file and in the environment: no other variable may begin with \
         `STARLING_`.\n\n\
         `starlingd run` reads its file again when it changes, and on SIGHUP. What is marked with *read again while \
         running* counts from then on; all else counts after a restart. A file with a mistake anywhere changes \
         nothing.\n",
    );
    for section in sections() {
        let title = if section.path.is_empty() { "At the top".to_owned() } else { format!("`[{}]`", section.path) };
        push(&mut out, format_args!("\n## {title}\n\n"));
        if !section.path.is_empty() {
            push(&mut out, format_args!("{}\n\n", section.text));
        }
        if section.leaves.is_empty() {
            continue;
        }
        out.push_str("| setting | type | default | what it does |\n|---|---|---|---|\n");
        for leaf in &section.leaves {
            let mut text = leaf.text.replace('|', "\\|");
            if leaf.is_reloaded {
                text.push_str(" *Read again while running.*");
            }
            push(
                &mut out,
                format_args!(
                    "| `{}`<br>`{}` | {} | `{}` | {text} |\n",
                    leaf.path,
                    leaf.variable,
                    leaf.kind,
                    written(&leaf.default)
                ),
            );
        }
    }
    out
}

/// A file with every setting at its default, each with its text.
#[must_use]
pub fn default_toml() -> String {
    let mut out = String::new();
    for Section { path, text, leaves } in sections() {
        if leaves.is_empty() {
            continue;
        }
        if !path.is_empty() {
            push(&mut out, format_args!("\n# {text}\n[{path}]\n"));
        }
        for Leaf { path, text, default, variable, is_reloaded, .. } in &leaves {
            for line in wrapped(text, 110) {
                push(&mut out, format_args!("# {line}\n"));
            }
            if *is_reloaded {
                out.push_str("# Read again while running.\n");
            }
            let name = path.rsplit('.').next().unwrap_or(path);
            push(&mut out, format_args!("# {variable}\n{name} = {}\n", written(default)));
        }
    }
    out
}

/// A value as TOML writes it.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes everything.
    out.write_fmt(text).unwrap_or_default();
}
