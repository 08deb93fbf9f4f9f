//! Domainparts: RFC 7622 §3.2.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A lower-case host name in ASCII that needs no preparation.
pub(super) fn is_plain(domain: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= 63
            && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
            // Hyphens in the third and fourth place announce an A-label, which is to be decoded.
            && bytes.get(2..4) != Some(b"--")
    };
    domain.len() <= 253 && domain.split('.').all(label)
}

/// The normal form: an IP address as it is, or a host name of U-labels, lower case, without a trailing dot. `None`: it is
/// neither.
pub(super) fn prepare(domain: &str) -> Option<String> {
    if let Some(inner) = domain.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    if domain.parse::<Ipv4Addr>().is_ok() {
        return Some(domain.to_owned());
    }
    // §3.2: a trailing dot is stripped before anything else.
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    if ascii.is_empty() || ascii.ends_with('.') {
        return None;
    }
    let (unicode, valid) = idna::domain_to_unicode(&ascii);
    valid.ok()?;
    // Where the crate's nameprep would make another name of it (`ß` becomes `ss`), the A-label says the same.
    let kept = jid::DomainPart::new(&unicode).is_ok_and(|part| part.as_str() == unicode);
    Some(if kept { unicode } else { ascii })
}
