//! XEP-0280: Message Carbons: a session says whether it gets copies. What is copied and to whom is in `crate::copies`.

use starling_registry::Update;
use starling_xmpp::error::{Condition, ErrorType, StanzaError};
use tracing::warn;

use crate::{
    copies::{CARBONS, CARBONS_RULES},
    extension::{Extension, Request, Scope, Standard, Verdict},
};

pub(super) struct Carbons;

impl Extension for Carbons {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0280", version: "1.0.1", shown_by: "protocol/carbons.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &[
            "/iq[@type='set']/enable[@xmlns='urn:xmpp:carbons:2']",
            "/iq[@type='set']/disable[@xmlns='urn:xmpp:carbons:2']",
        ]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[CARBONS, CARBONS_RULES],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        match request.scope {
            Scope::OwnAccount => {}
            Scope::Server | Scope::OtherAccount => return Verdict::Pass,
        }
        let on = request.stanza.raw.child("enable", CARBONS).is_some();
        let (service, full, session) = (request.service.clone(), request.from.clone(), request.session);
        // §10.1: as often as the client likes; the second time changes nothing.
        Verdict::Later(Box::pin(async move {
            match service.registry().update(&full, session, Update::Carbons(on)).await {
                Ok(_) => Ok(None),
                Err(error) => {
                    warn!(%full, %error, "Carbons neither enabled nor disabled.");
                    Err(StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait))
                }
            }
        }))
    }
}
