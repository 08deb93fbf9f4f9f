//! SCRAM's four messages (RFC 5802 §7), read strictly: attributes in their order, none twice, `m` nowhere (§5.1),
//! unknown ones only where extensions may stand.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::MAX_MESSAGE;

/// The longest nonce of a peer, in bytes.
const MAX_NONCE: usize = 512;

/// The longest salt that a client takes, in bytes.
const MAX_SALT: usize = 1024;

/// `gs2-cbind-flag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag<'a> {
    /// `n`: the client does not bind.
    No,
    /// `y`: the client would bind, but takes it that the server cannot.
    Yes,
    /// `p=`: the client binds by this type.
    Bound(&'a str),
}

/// `client-first-message`.
#[derive(Debug)]
pub(super) struct ClientFirst<'a> {
    pub(super) flag: Flag<'a>,
    pub(super) authzid: Option<String>,
    /// With its closing comma, as the channel binding repeats it.
    pub(super) gs2_header: &'a str,
    pub(super) bare: &'a str,
    pub(super) username: String,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let text = text(message)?;
        let (flag, rest) = text.split_once(',')?;
        let (authzid, bare) = rest.split_once(',')?;
        let flag = match flag {
            "n" => Flag::No,
            "y" => Flag::Yes,
            other => Flag::Bound(other.strip_prefix("p=").filter(|name| is_binding_name(name))?),
        };
        let authzid = match authzid {
            "" => None,
            other => Some(unescape(other.strip_prefix("a=")?)?),
        };
        let mut fields = bare.split(',');
        let username = unescape(fields.next()?.strip_prefix("n=")?)?;
        let nonce = fields.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        fields.all(is_extension).then_some(())?;
        Some(Self { flag, authzid, gs2_header: text.strip_suffix(bare)?, bare, username, nonce })
    }
}

/// `server-first-message`.
#[derive(Debug)]
pub(super) struct ServerFirst<'a> {
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    /// What does not fit is as far beyond the bounds as the greatest number that does.
    pub(super) iterations: u32,
    /// XEP-0474's `h`, as sent.
    pub(super) downgrade_hash: Option<&'a str>,
}

impl<'a> ServerFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut fields = text(message)?.split(',');
        let nonce = fields.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
        let iterations = number(fields.next()?.strip_prefix("i=")?)?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return None;
        }
        let mut downgrade_hash = None;
        for field in fields {
            is_extension(field).then_some(())?;
            if let Some(value) = field.strip_prefix("h=")
                && downgrade_hash.replace(value).is_some()
            {
                return None;
            }
        }
        Some(Self { nonce, salt, iterations, downgrade_hash })
    }
}

/// `client-final-message`.
#[derive(Debug)]
pub(super) struct ClientFinal<'a> {
    pub(super) without_proof: &'a str,
    pub(super) binding: Vec<u8>,
    pub(super) nonce: &'a str,
    pub(super) proof: Vec<u8>,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (without_proof, proof) = text(message)?.rsplit_once(",p=")?;
        let proof = STANDARD.decode(proof).ok()?;
        let mut fields = without_proof.split(',');
        let binding = STANDARD.decode(fields.next()?.strip_prefix("c=")?).ok()?;
        let nonce = fields.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        fields.all(is_extension).then_some(())?;
        Some(Self { without_proof, binding, nonce, proof })
    }
}

/// The server's signature out of `server-final-message`; `None` also where it tells of an error.
pub(super) fn server_signature(message: &[u8]) -> Option<Vec<u8>> {
    let mut fields = text(message)?.split(',');
    let signature = STANDARD.decode(fields.next()?.strip_prefix("v=")?).ok()?;
    fields.all(is_extension).then_some(signature)
}

/// Escapes a name (`saslname`).
pub(super) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// `=2C` and `=3D` are the only escapes, and a name is not empty.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = String::with_capacity(name.len());
    plain.push_str(parts.next()?);
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return None,
        };
        plain.push(character);
        plain.push_str(rest);
    }
    (!plain.is_empty()).then_some(plain)
}

/// UTF-8 without NUL, which no production has.
fn text(message: &[u8]) -> Option<&str> {
    if message.len() > MAX_MESSAGE {
        return None;
    }
    std::str::from_utf8(message).ok().filter(|text| !text.contains('\0'))
}

/// `cb-name` (RFC 5056 §7).
fn is_binding_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// `printable`, without the comma that ends it.
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.len() <= MAX_NONCE && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// `attr-val` whose name SCRAM has no other use for.
fn is_extension(field: &str) -> bool {
    let mut characters = field.chars();
    let name = characters.next();
    let is_free = name.is_some_and(|c| c.is_ascii_alphabetic() && !"aceimnprsv".contains(c));
    is_free && characters.next() == Some('=') && characters.next().is_some()
}

/// `posit-number`: digits, no zero in front.
fn number(digits: &str) -> Option<u32> {
    if digits.starts_with('0') || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5802_5_1_names_escape_the_comma_and_the_equals_sign_only() {
        assert_eq!(escape("a=b,c"), "a=3Db=2Cc");
        assert_eq!(unescape("a=3Db=2Cc").as_deref(), Some("a=b,c"));
        assert_eq!(unescape("=3D2C").as_deref(), Some("=2C"));
        for bad in ["", "=", "a=", "a=2c", "a=3d", "a=41", "=2", "==3D"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc5802_7_a_number_is_positive_and_without_zeros_in_front() {
        assert_eq!(number("4096"), Some(4096));
        assert_eq!(number("99999999999"), Some(u32::MAX));
        for bad in ["", "0", "04096", "-1", "+1", "4 096", "0x10"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn xep0474_6_2_the_hash_is_taken_once() {
        let good = ServerFirst::parse(b"r=ab,s=QQ==,i=4096,x=1,h=QQ==").expect("well-formed");
        assert_eq!(good.downgrade_hash, Some("QQ=="));
        assert!(ServerFirst::parse(b"r=ab,s=QQ==,i=4096,h=QQ==,h=QQ==").is_none());
    }
}
