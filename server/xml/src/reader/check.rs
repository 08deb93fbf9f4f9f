//! What character data and attribute values may hold.

use memchr::memchr;

use crate::{Error, name::is_char};

/// Bytes that come as one token, so that no character is cut in two.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8)?;
    // Written so that it runs over many bytes at a time.
    let control = bytes
        .iter()
        .fold(false, |found, byte| found | ((*byte < 0x20) & (*byte != b'\t') & (*byte != b'\n') & (*byte != b'\r')));
    // U+FFFE and U+FFFF begin with this byte.
    let suspicious = || memchr(0xef, bytes).is_some() && !text.chars().all(is_char);
    if control || suspicious() {
        return Err(Error::NotWellFormed("a character that XML cannot hold"));
    }
    Ok(text)
}

/// Character data between tags (XML 1.0 §2.4).
pub(super) fn character_data(text: &str) -> Result<(), Error> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(|rest| memchr(b'>', rest)) {
        let at = from + found;
        if bytes.get(..at).is_some_and(|before| before.ends_with(b"]]")) {
            return Err(Error::NotWellFormed("']]>' in text"));
        }
        from = at + 1;
    }
    references(text)
}

/// References in text and values (XML 1.0 §4.1): predefined entities and characters only (RFC 6120 §11.1).
pub(super) fn references(text: &str) -> Result<(), Error> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('&') {
        let (name, behind) = after.split_once(';').ok_or(Error::NotWellFormed("'&' without ';'"))?;
        rest = behind;
        if matches!(name, "amp" | "lt" | "gt" | "quot" | "apos") {
            continue;
        }
        let Some(number) = name.strip_prefix('#') else {
            return Err(match crate::name::split_checked(name) {
                Some(_) => Error::Restricted("an entity that is not predefined"),
                None => Error::NotWellFormed("a bad reference"),
            });
        };
        let code = match number.strip_prefix('x') {
            Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => parse_code(hex, 16),
            None if number.bytes().all(|byte| byte.is_ascii_digit()) => parse_code(number, 10),
            _ => None,
        };
        if !code.and_then(char::from_u32).is_some_and(is_char) {
            return Err(Error::NotWellFormed("a reference to no character"));
        }
    }
    Ok(())
}

/// Leading zeros are allowed without end; what is too large is no character.
fn parse_code(digits: &str, radix: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}
