//! XEP-0049: Private XML Storage: elements that a client keeps for itself in its account, one for each name and namespace.

use std::sync::Arc;

use minidom::Element;
use starling_store::Store;
use starling_xmpp::{IqType, Kind, error::Condition, jid::BareJid, ns::is_content};

use super::kept::{read, store_away, written};
use crate::extension::{Answer, Extension, Request, Scope, Standard, Verdict};

const NAMESPACE: &str = "jabber:iq:private";
const KIND: &str = "private";
/// What one account may keep, in bytes of all its elements: more than any client's bookmarks, less than a hard disk. One
/// byte more is refused with `resource-constraint`.
const BYTES_PER_ACCOUNT: usize = 256 * 1024;

pub(super) struct PrivateStorage;

impl Extension for PrivateStorage {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0049", version: "1.2", shown_by: "protocol/private_storage.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq/query[@xmlns='jabber:iq:private']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[NAMESPACE],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        match request.scope {
            Scope::OwnAccount => {}
            Scope::Server => return Verdict::Pass,
            // §4: nobody else's, whether there is such an account or not.
            Scope::OtherAccount => return Verdict::Answer(Err(Condition::Forbidden.into())),
        }
        let Ok(iq) = request.stanza.raw.to_tree() else {
            return Verdict::Answer(Err(Condition::BadRequest.into()));
        };
        let elements: Vec<Element> = iq.children().flat_map(Element::children).cloned().collect();
        // §4: at least one child, each with a namespace of its own.
        if elements.is_empty() || !elements.iter().all(has_proper_namespace) {
            return Verdict::Answer(Err(Condition::NotAcceptable.into()));
        }
        let store = Arc::clone(request.service.store());
        let account = request.from.to_bare();
        if request.stanza.kind == Kind::Iq(IqType::Set) {
            Verdict::Later(Box::pin(async move { set(&*store, &account, &elements).await }))
        } else {
            Verdict::Later(Box::pin(async move { get(&*store, &account, elements).await }))
        }
    }
}

/// Neither none nor inherited. Stanzas within stanzas are nobody's preferences.
fn has_proper_namespace(element: &Element) -> bool {
    let namespace = element.ns();
    !namespace.is_empty() && namespace != NAMESPACE && !is_content(&namespace)
}

fn key(element: &Element) -> String {
    format!("{} {}", element.name(), element.ns())
}

async fn set(store: &dyn Store, account: &BareJid, elements: &[Element]) -> Answer {
    let documents: Vec<_> = elements.iter().map(|element| (key(element), written(element))).collect();
    if documents.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > BYTES_PER_ACCOUNT {
        return Err(Condition::ResourceConstraint.into());
    }
    for (key, bytes) in &documents {
        let put = store.put_document(account, KIND, key, bytes, BYTES_PER_ACCOUNT).await;
        if !put.map_err(|error| store_away(account, &error))? {
            return Err(Condition::ResourceConstraint.into());
        }
    }
    Ok(None)
}

/// What was asked for, and as it was asked for where nothing is kept (§3).
async fn get(store: &dyn Store, account: &BareJid, elements: Vec<Element>) -> Answer {
    let mut query = Element::bare("query", NAMESPACE);
    for asked in elements {
        let kept = store.document(account, KIND, &key(&asked)).await.map_err(|error| store_away(account, &error))?;
        query.append_child(kept.and_then(|bytes| read(account, &bytes)).unwrap_or(asked));
    }
    Ok(Some(query))
}
