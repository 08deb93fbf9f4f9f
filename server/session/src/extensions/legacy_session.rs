//! RFC 3921 §3: session establishment, which clients of that time ask for after binding a resource. RFC 6121 has no use
//! for it: the session is there already.

use crate::extension::{Extension, Request, Scope, Standard, Verdict};

pub(super) struct LegacySession;

impl Extension for LegacySession {
    fn standard(&self) -> Standard {
        Standard { name: "RFC 3921 §3", version: "2004", shown_by: "rfc6120_7_bind.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq[@type='set']/session[@xmlns='urn:ietf:params:xml:ns:xmpp-session']"]
    }

    /// It is a stream feature, not a disco feature.
    fn features(&self, _: Scope) -> &'static [&'static str] {
        &[]
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        match request.scope {
            Scope::Server | Scope::OwnAccount => Verdict::Answer(Ok(None)),
            Scope::OtherAccount => Verdict::Pass,
        }
    }
}
