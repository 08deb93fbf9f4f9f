//! Addresses (RFC 7622): the field's own types, and a stricter way to make them from text.
//!
//! The crate `jid` prepares by the older rules of RFC 6122 (stringprep). [`parse`] refuses what RFC 7622 forbids and
//! they let through, and hands the crate only what it normalises rightly:
//!
//! | part | the crate alone | here |
//! |---|---|---|
//! | localpart | maps away what it should refuse (`Ⅳ` becomes `iv`) | PRECIS IdentifierClass is checked first |
//! | domainpart | keeps a trailing dot, `xn--` labels, `。`, and punctuation; `ß` becomes `ss` | [IDNA](https://www.rfc-editor.org/rfc/rfc5891), then the U-label, or the A-label where the crate would change the name |
//! | resourcepart | drops invisible characters, refuses wide spaces | PRECIS OpaqueString: the first refused, the second mapped |
//!
//! What remains, because the crate's types cannot hold it: `ß` and `ς` of a localpart fold to `ss` and `σ`; a
//! resourcepart is normalised by NFKC instead of NFC; characters younger than Unicode 3.2 are refused outside domains.

mod cache;
mod domain;
mod precis;
#[cfg(test)]
mod tests;

pub use cache::AddressCache;
pub use jid::{
    BareJid, DomainPart, DomainRef, Error as PartError, FullJid, Jid, NodePart, NodeRef, ResourcePart, ResourceRef,
};

/// The longest localpart, domainpart or resourcepart, in bytes of UTF-8 (RFC 7622 §3.2 to §3.4).
pub const MAX_PART_BYTES: usize = 1023;

/// Why text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// RFC 7622 §3.3.
    #[error("the localpart is empty, too long or holds a forbidden character")]
    Local,
    /// RFC 7622 §3.2.
    #[error("the domainpart is neither a domain name nor an IP address")]
    Domain,
    /// RFC 7622 §3.4.
    #[error("the resourcepart is empty, too long or holds a forbidden character")]
    Resource,
}

impl From<PartError> for JidError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::NodeEmpty | PartError::NodeTooLong | PartError::NodePrep => Self::Local,
            PartError::ResourceEmpty
            | PartError::ResourceTooLong
            | PartError::ResourcePrep
            | PartError::ResourceMissingInFullJid
            | PartError::ResourceInBareJid => Self::Resource,
            PartError::TooManyAts | PartError::Idna | PartError::NamePrep => Self::Domain,
        }
    }
}

/// Parses and normalises an address.
pub fn parse(text: &str) -> Result<Jid, JidError> {
    // RFC 7622 §3.1: the resourcepart begins behind the first slash; what is left divides at its first at-sign.
    let (bare, resource) = match text.split_once('/') {
        Some((bare, resource)) => (bare, Some(resource)),
        None => (text, None),
    };
    let (local, domain) = match bare.split_once('@') {
        Some((local, domain)) => (Some(local), domain),
        None => (None, bare),
    };
    if local.is_none_or(precis::is_plain_local)
        && domain::is_plain(domain)
        && resource.is_none_or(precis::is_plain_resource)
    {
        return Ok(Jid::new(text)?);
    }
    let local = local.map(parse_local).transpose()?;
    let domain = parse_domain(domain)?;
    let resource = resource.map(parse_resource).transpose()?;
    Ok(Jid::from_parts(local.as_deref(), &domain, resource.as_deref()))
}

/// The address without its resourcepart, as a part of it.
#[must_use]
pub fn bare_str(address: &Jid) -> &str {
    // RFC 7622 §3.1: the first slash begins the resourcepart.
    address.as_str().split_once('/').map_or(address.as_str(), |(bare, _)| bare)
}

/// Parses an address without a resourcepart.
pub fn parse_bare(text: &str) -> Result<BareJid, JidError> {
    parse(text)?.try_into().map_err(|_| JidError::Resource)
}

/// Parses an address with a resourcepart.
pub fn parse_full(text: &str) -> Result<FullJid, JidError> {
    parse(text)?.try_into().map_err(|_| JidError::Resource)
}

/// Prepares a localpart: RFC 7622 §3.3.
pub fn parse_local(text: &str) -> Result<NodePart, JidError> {
    let prepared = precis::local(text).ok_or(JidError::Local)?;
    Ok(NodePart::new(&prepared)?.into_owned())
}

/// Prepares a domainpart: RFC 7622 §3.2.
pub fn parse_domain(text: &str) -> Result<DomainPart, JidError> {
    let prepared = domain::prepare(text).ok_or(JidError::Domain)?;
    Ok(DomainPart::new(&prepared)?.into_owned())
}

/// Prepares a resourcepart: RFC 7622 §3.4.
pub fn parse_resource(text: &str) -> Result<ResourcePart, JidError> {
    let prepared = precis::resource(text).ok_or(JidError::Resource)?;
    Ok(ResourcePart::new(&prepared)?.into_owned())
}
