//! XEP-0199: XMPP Ping.

use starling_xmpp::ns;

use crate::extension::{Extension, Request, Scope, Standard, Verdict};

pub(super) struct Ping;

impl Extension for Ping {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0199", version: "2.0.1", shown_by: "xep0199_ping.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq[@type='get']/ping[@xmlns='urn:xmpp:ping']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[ns::PING],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        match request.scope {
            // §4.2: client to server.
            Scope::Server | Scope::OwnAccount => Verdict::Answer(Ok(None)),
            // A pong would tell strangers which accounts exist.
            Scope::OtherAccount => Verdict::Pass,
        }
    }
}
