//! Why a stream's XML is refused.

/// What is wrong with the XML: always the peer's fault, and always the end of its stream (RFC 6120 §4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not UTF-8 (RFC 6120 §11.6).
    #[error("not UTF-8")]
    NotUtf8,
    /// An XML declaration that names another encoding than UTF-8 (RFC 6120 §11.6).
    #[error("an encoding other than UTF-8")]
    Encoding,
    /// Not well-formed by XML 1.0.
    #[error("not well-formed: {0}")]
    NotWellFormed(&'static str),
    /// Not well-formed by Namespaces in XML 1.0.
    #[error("not well-formed by namespaces: {0}")]
    Namespace(&'static str),
    /// A prefix that is not declared.
    #[error("undeclared namespace prefix")]
    UndeclaredPrefix,
    /// What XMPP forbids (RFC 6120 §11.1): comments, processing instructions, DTDs, entities.
    #[error("{0} in XMPP")]
    Restricted(&'static str),
    /// Character data between first-level elements (RFC 6120 §4.4).
    #[error("text between stanzas")]
    TextBetweenStanzas,
    /// An element is larger than [`Limits::stanza_bytes`](crate::Limits::stanza_bytes).
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// Elements are nested deeper than [`Limits::depth`](crate::Limits::depth).
    #[error("nested deeper than {0} elements")]
    TooDeep(usize),
    /// An element has more attributes than [`Limits::attributes`](crate::Limits::attributes), or more prefixes are
    /// declared around it.
    #[error("more than {0} attributes or prefixes")]
    TooManyAttributes(usize),
    /// A namespace's name has more bytes than this, or all those together that the stream's header declares.
    #[error("namespaces longer than {0} bytes")]
    LongNamespace(usize),
    /// The stream has ended or failed before; nothing more is read from it.
    #[error("the stream has ended")]
    Ended,
}

impl Error {
    /// The name of the stream error that says so (RFC 6120 §4.9.3).
    #[must_use]
    pub const fn condition(&self) -> &'static str {
        match self {
            Self::NotUtf8 | Self::Encoding => "unsupported-encoding",
            Self::NotWellFormed(_) | Self::Namespace(_) | Self::Ended => "not-well-formed",
            Self::UndeclaredPrefix => "bad-namespace-prefix",
            Self::Restricted(_) => "restricted-xml",
            Self::TextBetweenStanzas => "bad-format",
            Self::TooLarge(_) | Self::TooDeep(_) | Self::TooManyAttributes(_) | Self::LongNamespace(_) => {
                "policy-violation"
            }
        }
    }
}
