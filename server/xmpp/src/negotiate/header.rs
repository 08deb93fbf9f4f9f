//! Stream headers (RFC 6120 §4.7).

use crate::ns;

/// Writes an opening tag with the XML declaration before it; attributes without a value are left out.
pub(super) fn write(content: &str, attributes: &[(&str, Option<&str>)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
    crate::stanza::attribute("xmlns", content, out);
    crate::stanza::attribute("xmlns:stream", ns::STREAM, out);
    for (name, value) in attributes {
        if let Some(value) = value {
            crate::stanza::attribute(name, value, out);
        }
    }
    out.push(b'>');
}

/// §4.7.5: numbers, compared as such; what is newer falls back to 1.0.
pub(super) fn is_spoken(version: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    version
        .split_once('.')
        .is_some_and(|(major, minor)| number(major) && number(minor) && major.bytes().any(|digit| digit != b'0'))
}
