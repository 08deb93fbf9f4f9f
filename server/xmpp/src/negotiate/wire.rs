//! Elements as the initiating side writes and reads them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use starling_xml::escape;

use crate::ns;

/// SASL data inside an element (RFC 6120 §6.4): nothing, or Base64, where `=` stands for data of length zero. `Err`: it is
/// not Base64 in its one canonical form (RFC 6120 §13.9.1).
pub(super) fn decode(text: &str) -> Result<Option<Vec<u8>>, base64::DecodeError> {
    match text {
        "" => Ok(None),
        "=" => Ok(Some(Vec::new())),
        text => STANDARD.decode(text).map(Some),
    }
}

/// Writes an element of the SASL namespace with such data in it.
pub(super) fn sasl(name: &str, mechanism: Option<&str>, data: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    crate::stanza::attribute("xmlns", ns::SASL, out);
    if let Some(mechanism) = mechanism {
        crate::stanza::attribute("mechanism", mechanism, out);
    }
    let Some(data) = data else {
        out.extend_from_slice(b"/>");
        return;
    };
    out.push(b'>');
    if data.is_empty() {
        out.push(b'=');
    } else {
        out.extend_from_slice(STANDARD.encode(data).as_bytes());
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

/// `<name>text</name>`, escaped.
pub(super) fn element(name: &str, text: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    escape::text(text, out);
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}
