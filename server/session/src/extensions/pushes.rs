//! Requests of the server's own to an account's sessions, as roster pushes are (RFC 6121 §2.1.6).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use minidom::Element;
use starling_link::Envelope;
use starling_registry::SessionRecord;
use starling_xml::{Scope, Writer};
use starling_xmpp::{
    jid::{BareJid, Jid},
    stanza::{IqType, Kind, iq_request},
};
use tracing::warn;

use crate::Service;

/// Told apart within a process; a session sees each once.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Sends `payload` as an iq of type set to the sessions of `account` that `wants` it. Nobody waits for the answers.
pub(super) async fn push(
    service: &Service,
    account: &BareJid,
    payload: &Element,
    wants: impl Fn(&SessionRecord) -> bool + Send,
) {
    let sessions = match service.registry().sessions(account).await {
        Ok(sessions) => sessions,
        Err(error) => {
            warn!(%account, %error, "A change is not pushed.");
            return;
        }
    };
    for record in sessions.iter().filter(|record| wants(record)) {
        let id = format!("push-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut stanza = Vec::new();
        let (from, to) = (Some(account.as_str()), Some(record.full.as_str()));
        iq_request(IqType::Set, &id, from, to, &mut stanza, |out| {
            Writer::new(out, &Scope::client()).tree(payload);
        });
        let to = Jid::from(record.full.clone());
        let envelope = Envelope::new(Some(to), account.clone().into(), Kind::Iq(IqType::Set), stanza);
        // A full queue loses it, as it would lose the next stanzas; the client learns of it when it asks again.
        service.send(record, &Arc::new(envelope));
    }
}
