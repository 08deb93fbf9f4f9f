//! XEP-0474: the server signs, within SCRAM, what it advertised, so that nobody in the middle can have shortened it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::hash::Hash;

/// Between the names of a list (XEP-0474 §6.1). Not a character of XML 1.0.
const BETWEEN_NAMES: char = '\u{1e}';
/// Between the two lists.
const BETWEEN_LISTS: char = '\u{1f}';

/// The value of the attribute `h` of the server's first message: both lists sorted by octets. `types` is empty where
/// XEP-0440 was not used.
pub(super) fn hash<'a>(
    hash: Hash,
    mechanisms: impl Iterator<Item = &'a str>,
    types: impl Iterator<Item = &'a str>,
) -> String {
    let mut text = String::with_capacity(160);
    join(&mut text, mechanisms.collect());
    let types: Vec<_> = types.collect();
    if !types.is_empty() {
        text.push(BETWEEN_LISTS);
        join(&mut text, types);
    }
    STANDARD.encode(hash.digest(text.as_bytes()))
}

fn join(text: &mut String, mut names: Vec<&str>) {
    names.sort_unstable();
    for (index, name) in names.into_iter().enumerate() {
        if index > 0 {
            text.push(BETWEEN_NAMES);
        }
        text.push_str(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xep0474_6_3_the_example() {
        let mechanisms = ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"];
        let types = ["tls-server-end-point", "tls-exporter"];
        let found = hash(Hash::Sha1, mechanisms.into_iter(), types.into_iter());
        assert_eq!(found, "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
    }

    #[test]
    fn xep0474_6_1_without_xep0440_the_second_separator_is_left_out() {
        let found = hash(Hash::Sha256, ["PLAIN", "SCRAM-SHA-256"].into_iter(), std::iter::empty());
        let expected = STANDARD.encode(Hash::Sha256.digest(b"PLAIN\x1eSCRAM-SHA-256"));
        assert_eq!(found, expected);
    }
}
