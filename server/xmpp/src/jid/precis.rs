//! Localparts and resourceparts: RFC 7622 §3.3 and §3.4, the PRECIS profiles UsernameCaseMapped and OpaqueString
//! (RFC 8265).

use unicode_normalization::UnicodeNormalization;

/// RFC 7622 §3.3.1: what the IdentifierClass allows and an address cannot hold.
const FORBIDDEN_IN_LOCAL: &[char] = &['"', '&', '\'', '/', ':', '<', '>', '@'];

/// ASCII that needs no preparation.
pub(super) fn is_plain_local(local: &str) -> bool {
    !local.is_empty()
        && local.bytes().all(|byte| {
            byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !FORBIDDEN_IN_LOCAL.contains(&char::from(byte))
        })
}

/// ASCII that needs no preparation.
pub(super) fn is_plain_resource(resource: &str) -> bool {
    !resource.is_empty() && resource.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// UsernameCaseMapped: widths are mapped, case is folded, the rest must be of the IdentifierClass.
pub(super) fn local(text: &str) -> Option<String> {
    let narrow: String = text.chars().map(narrow).collect();
    let prepared: String = narrow.to_lowercase().nfc().collect();
    let is_identifier = |character: char| match character {
        '!'..='~' => !FORBIDDEN_IN_LOCAL.contains(&character),
        '\0'..=' ' | '\u{7f}' => false,
        // RFC 8264 §9.17: what has a compatibility equivalent is not for identifiers.
        other => {
            (other.is_alphanumeric() || is_mark(other)) && std::iter::once(other).nfkc().eq(std::iter::once(other))
        }
    };
    (!prepared.is_empty() && prepared.chars().all(is_identifier)).then_some(prepared)
}

/// OpaqueString: spaces become U+0020, controls and invisible characters are refused.
pub(super) fn resource(text: &str) -> Option<String> {
    let spaces = text.chars().map(|character| if is_space(character) { ' ' } else { character });
    let prepared: String = spaces.nfc().collect();
    (!prepared.is_empty() && !prepared.chars().any(is_disallowed)).then_some(prepared)
}

/// Fullwidth and halfwidth forms (RFC 8265 §3.3.2).
fn narrow(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        _ => character,
    }
}

/// Combining marks, which belong to letters of many scripts.
fn is_mark(character: char) -> bool {
    unicode_normalization::char::is_combining_mark(character)
}

/// General category Zs beyond ASCII.
const fn is_space(character: char) -> bool {
    matches!(character, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// RFC 8264 §9: controls, ignorable and unassigned code points, noncharacters, private use.
const fn is_disallowed(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}
