//! Characters and names (XML 1.0 §2.2, §2.3; Namespaces in XML 1.0 §3).

/// XML 1.0 §2.2, production 2.
pub(crate) const fn is_char(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// XML 1.0 §2.3, production 4, without the colon.
const fn is_name_start(character: char) -> bool {
    matches!(character,
        'A'..='Z' | '_' | 'a'..='z'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// XML 1.0 §2.3, production 4a, without the colon.
const fn is_name(character: char) -> bool {
    is_name_start(character)
        || matches!(character, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

const START: u8 = 1;
const REST: u8 = 2;

/// The two classes of each ASCII character, so that the usual names need one look per byte.
const ASCII: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        let character = byte as u8 as char;
        if is_name_start(character) {
            table[byte] |= START;
        }
        if is_name(character) {
            table[byte] |= REST;
        }
        byte += 1;
    }
    table
};

fn is_ncname(name: &str) -> bool {
    let bytes = name.as_bytes();
    let class = |byte: u8| ASCII.get(usize::from(byte)).copied().unwrap_or(0);
    let Some((first, rest)) = bytes.split_first() else { return false };
    if class(*first) & START != 0 && rest.iter().all(|byte| class(*byte) & REST != 0) {
        return true;
    }
    let mut characters = name.chars();
    characters.next().is_some_and(is_name_start) && characters.all(is_name)
}

/// Splits a qualified name at its colon: prefix (empty if none) and local part. `None`: it is no qualified name.
pub(crate) fn split_checked(name: &str) -> Option<(&str, &str)> {
    let (prefix, local) = match name.split_once(':') {
        None => ("", name),
        Some((prefix, local)) if is_ncname(prefix) => (prefix, local),
        Some(_) => return None,
    };
    is_ncname(local).then_some((prefix, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_standard() {
        for good in ["a", "_", "a-b.c9", "é", "日本", "a:b", "x\u{b7}"] {
            assert!(split_checked(good).is_some(), "{good:?}");
        }
        for bad in ["", "9", "-a", ".a", ":a", "a:", "a:b:c", "a b", "\u{d7}", "a\u{2000}", "a:9", "\u{b7}"] {
            assert!(split_checked(bad).is_none(), "{bad:?}");
        }
        assert_eq!(split_checked("stream:stream"), Some(("stream", "stream")));
    }
}
