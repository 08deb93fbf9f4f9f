//! Text and attribute values as XML writes them.

/// Appends character data: `&`, `<`, `>` and carriage returns as references. Characters that XML cannot hold
/// (XML 1.0 §2.2) become U+FFFD.
pub fn text(text: &str, out: &mut Vec<u8>) {
    escape(text, out, |byte| match byte {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'\r' => Some(b"&#13;"),
        _ => None,
    });
}

/// Appends an attribute's value, for either kind of quotes: also quotes and white space that would be normalised away
/// (XML 1.0 §3.3.3) as references.
pub fn attribute(value: &str, out: &mut Vec<u8>) {
    escape(value, out, |byte| match byte {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'\'' => Some(b"&apos;"),
        b'"' => Some(b"&quot;"),
        b'\t' => Some(b"&#9;"),
        b'\n' => Some(b"&#10;"),
        b'\r' => Some(b"&#13;"),
        _ => None,
    });
}

#[inline]
fn escape(text: &str, out: &mut Vec<u8>, replacement: impl Fn(u8) -> Option<&'static [u8]>) {
    let bytes = text.as_bytes();
    // The rule is that there is nothing to escape.
    let suspicious = |byte: &u8| *byte < 0x20 || matches!(byte, b'&' | b'<' | b'>' | b'\'' | b'"' | 0xef);
    if !bytes.iter().any(suspicious) {
        out.extend_from_slice(bytes);
        return;
    }
    for character in text.chars() {
        if !crate::name::is_char(character) {
            out.extend_from_slice("\u{fffd}".as_bytes());
        } else if let Some(reference) = u8::try_from(character).ok().filter(u8::is_ascii).and_then(&replacement) {
            out.extend_from_slice(reference);
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    fn written(write: fn(&str, &mut Vec<u8>), text: &str) -> String {
        let mut out = Vec::new();
        write(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_markup_is_made_of_is_written_as_references() {
        assert_eq!(written(super::text, "a<b&c>d'e\"f\r\n"), "a&lt;b&amp;c&gt;d'e\"f&#13;\n");
        assert_eq!(written(super::attribute, "a<b&c>d'e\"f\t\r\n"), "a&lt;b&amp;c&gt;d&apos;e&quot;f&#9;&#13;&#10;");
        assert_eq!(written(super::text, "ünïcode \u{ff01}"), "ünïcode \u{ff01}");
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(written(super::text, "a\0b\u{b}c\u{ffff}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(written(super::attribute, "\u{1}"), "\u{fffd}");
    }
}
