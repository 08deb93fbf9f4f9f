//! `<stream:features/>` of the server (RFC 6120 §4.3.2).

use super::{AcceptPolicy, TlsInfo, TlsPolicy, register, wire};
use crate::acks::nonza;
use crate::ns;
use crate::sasl::Mechanism;

/// After log-in: bind, the session that RFC 3921 wanted, which needs nothing done, and stream management.
const AUTHENTICATED: &[u8] = b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>";

/// After log-in.
pub(in crate::negotiate) fn write_authenticated(policy: &AcceptPolicy, out: &mut Vec<u8>) {
    out.extend_from_slice(AUTHENTICATED);
    out.extend_from_slice(policy.more_features.as_bytes());
    out.extend_from_slice(nonza::FEATURE);
    out.extend_from_slice(b"</stream:features>");
}

/// What may be chosen on this stream.
pub(super) fn mechanisms(policy: &AcceptPolicy, tls: Option<&TlsInfo>) -> Vec<Mechanism> {
    let allowed = match (tls, policy.tls) {
        (Some(_), _) => policy.mechanisms.as_slice(),
        (None, TlsPolicy::Required) => &[],
        (None, TlsPolicy::Optional | TlsPolicy::Off) => policy.mechanisms_without_tls.as_slice(),
    };
    let can_bind = tls.is_some_and(|tls| !tls.bindings.is_empty());
    allowed.iter().copied().filter(|mechanism| can_bind || !mechanism.is_plus()).collect()
}

/// Before log-in.
pub(super) fn write(policy: &AcceptPolicy, tls: Option<&TlsInfo>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<stream:features>");
    out.extend_from_slice(match (tls, policy.tls) {
        (None, TlsPolicy::Required) => b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>",
        (None, TlsPolicy::Optional) => b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        (None, TlsPolicy::Off) | (Some(_), _) => b"".as_slice(),
    });
    let offered = mechanisms(policy, tls);
    if !offered.is_empty() {
        out.extend_from_slice(b"<mechanisms");
        crate::stanza::attribute("xmlns", ns::SASL, out);
        out.push(b'>');
        for mechanism in &offered {
            wire::element("mechanism", mechanism.name(), out);
        }
        out.extend_from_slice(b"</mechanisms>");
    }
    let types = tls.map(|tls| tls.bindings.advertised(&offered)).unwrap_or_default();
    if !types.is_empty() {
        out.extend_from_slice(b"<sasl-channel-binding");
        crate::stanza::attribute("xmlns", ns::SASL_CHANNEL_BINDING, out);
        out.push(b'>');
        for kind in types {
            out.extend_from_slice(b"<channel-binding");
            crate::stanza::attribute("type", kind.name(), out);
            out.extend_from_slice(b"/>");
        }
        out.extend_from_slice(b"</sasl-channel-binding>");
    }
    if register::is_offered(policy, tls) {
        out.extend_from_slice(b"<register");
        crate::stanza::attribute("xmlns", ns::REGISTER_FEATURE, out);
        out.extend_from_slice(b"/>");
    }
    out.extend_from_slice(b"</stream:features>");
}
