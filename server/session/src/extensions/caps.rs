//! XEP-0115: Entity Capabilities: the server's own, as a stream feature and a disco node; and those of clients, which the
//! server asks about once for each hash.

mod cache;
mod info;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use starling_link::{Envelope, Outcome};
use starling_xmpp::{IqType, Kind, PresenceType, Random as _, SystemRandom, jid::Jid, ns, stanza::iq_request};

use self::{
    cache::{Announced, Ask, Cache},
    info::{Algorithm, Disco, Identity},
};
use super::disco::{IDENTITY, server_features};
use crate::{
    Service,
    extension::{Ended, Extension, Extensions, Request, Scope, Seen, Standard, Verdict},
};

const NAMESPACE: &str = "http://jabber.org/protocol/caps";
/// The longest `node` and `ver` that are looked at, in bytes.
const LONGEST: usize = 1024;

#[derive(Default)]
pub(super) struct Caps {
    cache: Mutex<Cache>,
}

impl Extension for Caps {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0115", version: "1.6.0", shown_by: "protocol/caps.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/presence/c[@xmlns='http://jabber.org/protocol/caps']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server => &[NAMESPACE],
            Scope::OwnAccount | Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, _: &Request<'_>) -> Verdict {
        Verdict::Pass
    }

    fn presence(&self, presence: &Seen<'_>) {
        if presence.stanza.kind != Kind::Presence(PresenceType::Available) {
            return;
        }
        let Some(c) = presence.stanza.raw.child("c", NAMESPACE) else { return };
        let text = |name| c.attribute(name).map(std::borrow::Cow::into_owned).filter(|text| text.len() <= LONGEST);
        let (Some(node), Some(ver)) = (text("node"), text("ver")) else { return };
        let hash = c.attribute("hash").and_then(|name| Algorithm::from_name(&name));
        let announced = Announced { node, ver, hash };
        let asks = self.cache().announced(presence.session, presence.from, announced, Instant::now(), new_id);
        for ask in asks {
            self.send(presence.service, ask);
        }
    }

    fn reply(&self, reply: &Seen<'_>) -> bool {
        let id = reply.stanza.id.as_deref().and_then(|id| id.strip_prefix("caps-"));
        let Some(id) = id.and_then(|id| u128::from_str_radix(id, 16).ok()) else { return false };
        let query = reply.stanza.raw.child("query", ns::DISCO_INFO);
        let query = query.filter(|_| reply.stanza.kind == Kind::Iq(IqType::Result));
        let answer = query.and_then(|_| {
            let iq = reply.stanza.raw.to_tree().ok()?;
            iq.children().next().and_then(Disco::parse)
        });
        let taken = self.cache().answered(id, reply.session, reply.from, answer, Instant::now(), new_id);
        let is_taken = taken.is_some();
        if let Some(ask) = taken.flatten() {
            self.send(reply.service, ask);
        }
        is_taken
    }

    fn session_ended(&self, ended: &Ended<'_>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let ask = self.cache().ended(ended.session, Instant::now(), new_id);
        if let Some(ask) = ask {
            self.send(ended.service, ask);
        }
        None
    }
}

impl Caps {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// §6.2: from the server, with the node that the client named.
    fn send(&self, service: &Service, ask: Ask) {
        let mut next = Some(ask);
        while let Some(Ask { id, to, node }) = next.take() {
            let Ok(from) = Jid::new(to.domain().as_str()) else { return };
            let mut stanza = Vec::new();
            let text = format!("caps-{id:032x}");
            iq_request(IqType::Get, &text, Some(from.as_str()), Some(to.as_str()), &mut stanza, |out| {
                out.extend_from_slice(b"<query xmlns='http://jabber.org/protocol/disco#info' node='");
                starling_xml::escape::attribute(&node, out);
                out.extend_from_slice(b"'/>");
            });
            let envelope = Envelope::new(Some(to.clone().into()), from, Kind::Iq(IqType::Get), stanza);
            // It is a session of this process that announced it.
            if service.link().send_here(to.as_str(), &Arc::new(envelope)) != Outcome::Queued {
                next = self.cache().not_sent(id, Instant::now(), new_id);
            }
        }
    }
}

fn new_id() -> u128 {
    let mut bytes = [0; 16];
    SystemRandom.fill(&mut bytes);
    u128::from_be_bytes(bytes)
}

/// What names this program (§4).
const NODE: &str = env!("CARGO_PKG_REPOSITORY");

/// The hash over what the server says of itself.
fn own_ver(extensions: &Extensions) -> String {
    let (category, kind, name) = IDENTITY;
    let identity =
        Identity { category: category.to_owned(), kind: kind.to_owned(), lang: String::new(), name: name.to_owned() };
    let features = server_features(extensions).into_iter().map(str::to_owned).collect();
    Algorithm::Sha1.ver(&Disco::new(vec![identity], features).verification_string())
}

/// Whether a disco node is the server's own (§6.2).
pub(super) fn is_own_node(extensions: &Extensions, node: &str) -> bool {
    node.strip_prefix(NODE).and_then(|rest| rest.strip_prefix('#')).is_some_and(|ver| ver == own_ver(extensions))
}

/// §6.3: the server's own capabilities as a stream feature.
pub(super) fn stream_feature(extensions: &Extensions) -> String {
    format!("<c xmlns='{NAMESPACE}' hash='sha-1' node='{NODE}' ver='{}'/>", own_ver(extensions))
}
