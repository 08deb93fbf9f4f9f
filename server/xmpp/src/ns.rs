//! Names of XML namespaces, each with the document that defines it.

/// `<stream:stream/>`, `<stream:features/>`, `<stream:error/>` (RFC 6120 §4.8.1).
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Content namespace between client and server (RFC 6120 §4.8.2).
pub const CLIENT: &str = "jabber:client";
/// Content namespace between servers (RFC 6120 §4.8.2).
pub const SERVER: &str = "jabber:server";
/// Content namespace of an external component that connects to its server (XEP-0114).
pub const COMPONENT: &str = "jabber:component:accept";
/// Conditions of stream errors (RFC 6120 §4.9.2).
pub const STREAMS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions of stanza errors (RFC 6120 §8.3.2).
pub const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS (RFC 6120 §5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 §6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Channel binding types that the server supports (XEP-0440).
pub const SASL_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// Resource binding (RFC 6120 §7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The session that RFC 3921 asked for and RFC 6121 dropped.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// The namespace of the prefix `xml`, as in `xml:lang`.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Service discovery: identity and features (XEP-0030).
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// Service discovery: items (XEP-0030).
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// In-band registration (XEP-0077).
pub const REGISTER: &str = "jabber:iq:register";
/// The stream feature that announces it (XEP-0077 §8).
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// Ping (XEP-0199).
pub const PING: &str = "urn:xmpp:ping";
/// Stream management (XEP-0198).
pub const SM: &str = "urn:xmpp:sm:3";

/// Whether stanzas live in this namespace: one of [`CLIENT`], [`SERVER`], [`COMPONENT`].
pub use starling_xml::is_content_namespace as is_content;
/// RFC 6121 §2.
pub const ROSTER: &str = "jabber:iq:roster";
/// RFC 6121 §2.6.1.
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// RFC 6121 §3.4.1.
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
