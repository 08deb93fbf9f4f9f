//! XEP-0054: vcard-temp: one vCard per account, which its owner writes and everyone may read.

use std::sync::Arc;

use minidom::Element;
use starling_store::Store;
use starling_xmpp::{
    IqType, Kind,
    error::Condition,
    jid::{BareJid, Jid},
};

use super::kept::{read, store_away, written};
use crate::extension::{Answer, Extension, Request, Scope, Standard, Verdict};

const NAMESPACE: &str = "vcard-temp";
const KIND: &str = "vcard";
/// The largest vCard, in bytes, photo included; a larger one is refused with `resource-constraint`.
const LARGEST: usize = 128 * 1024;

pub(super) struct VcardTemp;

impl Extension for VcardTemp {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0054", version: "1.2", shown_by: "protocol/vcard.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq/vCard[@xmlns='vcard-temp']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[NAMESPACE],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        let store = Arc::clone(request.service.store());
        let own = request.from.to_bare();
        match (request.scope, request.stanza.kind) {
            (Scope::Server, _) => Verdict::Pass,
            (Scope::OwnAccount, Kind::Iq(IqType::Set)) => {
                let card = request.stanza.raw.to_tree().ok().and_then(|iq| iq.children().next().cloned());
                let Some(card) = card else { return Verdict::Answer(Err(Condition::BadRequest.into())) };
                Verdict::Later(Box::pin(async move { set(&*store, &own, &card).await }))
            }
            // §3.2: whether there is such an account or not.
            (Scope::OtherAccount, Kind::Iq(IqType::Set)) => Verdict::Answer(Err(Condition::Forbidden.into())),
            (Scope::OwnAccount, _) => Verdict::Later(Box::pin(async move { get(&*store, &own).await })),
            (Scope::OtherAccount, _) => {
                let account = request.stanza.to.as_ref().map_or(own, Jid::to_bare);
                Verdict::Later(Box::pin(async move { get(&*store, &account).await }))
            }
        }
    }
}

async fn set(store: &dyn Store, account: &BareJid, card: &Element) -> Answer {
    let put = store.put_document(account, KIND, "", &written(card), LARGEST).await;
    if put.map_err(|error| store_away(account, &error))? { Ok(None) } else { Err(Condition::ResourceConstraint.into()) }
}

/// §3.1, §3.3: no vCard and no account are answered alike, so that nobody learns which accounts there are.
async fn get(store: &dyn Store, account: &BareJid) -> Answer {
    let kept = store.document(account, KIND, "").await.map_err(|error| store_away(account, &error))?;
    kept.and_then(|bytes| read(account, &bytes)).map(Some).ok_or_else(|| Condition::ItemNotFound.into())
}
