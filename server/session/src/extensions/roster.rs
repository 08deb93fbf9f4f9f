//! RFC 6121 §2: the roster, as its owner reads and changes it.

use std::{collections::BTreeSet, sync::Arc};

use minidom::Element;

use starling_registry::{SessionId, Update};
use starling_store::{
    Error,
    rosters::{ItemChange, ItemChanged, RosterItem, Subscription},
};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::{self, BareJid, FullJid},
    ns,
};
use tracing::warn;

use crate::{
    Service,
    extension::{Answer, Extension, Request, Scope, Standard, Verdict},
    presence,
    roster::{push, write_item},
};

/// Bytes of a name or a group (§2.3.3: what is longer is not acceptable).
const TEXT: usize = 1023;
/// Groups of one item.
const GROUPS: usize = 64;
/// Changes that are told one by one to a client that knows an older version; where there are more, it gets all.
const DIFFERENCES: usize = 100;

pub(super) struct Roster;

impl Extension for Roster {
    fn standard(&self) -> Standard {
        Standard { name: "RFC 6121 §2", version: "2011", shown_by: "roster.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq[@type='get' or @type='set']/query[@xmlns='jabber:iq:roster']"]
    }

    /// It is no disco feature; versions and pre-approval are stream features.
    fn features(&self, _: Scope) -> &'static [&'static str] {
        &[]
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        match request.scope {
            Scope::OwnAccount => {}
            // §2.1.5, §2.3.3: nobody else's.
            Scope::OtherAccount => return Verdict::Answer(Err(Condition::Forbidden.into())),
            Scope::Server => return Verdict::Pass,
        }
        let Ok(iq) = request.stanza.raw.to_tree() else {
            return Verdict::Answer(Err(Condition::BadRequest.into()));
        };
        let Some(query) = iq.get_child("query", ns::ROSTER).cloned() else { return Verdict::Pass };
        let (service, full) = (Arc::clone(request.service), request.from.clone());
        if iq.attr("type") == Some("get") {
            let known = query.attr("ver").map(str::to_owned);
            return Verdict::Later(Box::pin(get(service, full, request.session, known)));
        }
        match wish(&query, &full.to_bare()) {
            Ok(wish) => Verdict::Later(Box::pin(set(service, full.to_bare(), wish))),
            Err(error) => Verdict::Answer(Err(error)),
        }
    }
}

/// §2.1.3, §2.6.3.
async fn get(service: Arc<Service>, full: FullJid, session: SessionId, known: Option<String>) -> Answer {
    let account = full.to_bare();
    // From here on it hears of changes: none gets lost between the answer and the first push.
    let interested = service.registry().update(&full, session, Update::Roster(true)).await;
    if let Err(error) = interested {
        warn!(%full, %error, "Roster not read.");
        return Err(away());
    }
    if let Some(known) = known.as_deref().and_then(|known| known.parse::<u64>().ok()) {
        match service.store().roster_since(&account, known).await {
            Ok(Some((version, changes))) if changes.len() <= DIFFERENCES => {
                for (contact, item) in changes {
                    let shown = item.as_ref().filter(|item| item.listed);
                    let version = item.as_ref().map_or(version, |item| item.version);
                    service.link().send(full.as_str(), &Arc::new(push(&full, &contact, shown, version)));
                }
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) => return Err(failed(&account, &error)),
        }
    }
    let roster = service.roster(&account).await.map_err(|error| failed(&account, &error))?;
    let mut text = format!("<query xmlns='{}' ver='{}'>", ns::ROSTER, roster.version).into_bytes();
    roster.items.iter().filter(|item| item.listed).for_each(|item| write_item(item, &mut text));
    text.extend_from_slice(b"</query>");
    let query = String::from_utf8(text).ok().and_then(|text| text.parse::<Element>().ok());
    query.map(Some).ok_or_else(|| Condition::InternalServerError.into())
}

/// What a set asks for.
enum Wish {
    Put { contact: BareJid, name: Option<String>, groups: Vec<String> },
    Remove { contact: BareJid },
}

/// §2.3.1, §2.3.3, §2.5.1.
fn wish(query: &Element, account: &BareJid) -> Result<Wish, StanzaError> {
    let mut items = query.children();
    let (Some(item), None) = (items.next(), items.next()) else { return Err(Condition::BadRequest.into()) };
    if !item.is("item", ns::ROSTER) {
        return Err(Condition::BadRequest.into());
    }
    let contact = item.attr("jid").ok_or(Condition::BadRequest)?;
    let contact = jid::parse(contact).map_err(|_| Condition::BadRequest)?.to_bare();
    if contact == *account {
        return Err(Condition::NotAllowed.into());
    }
    if item.attr("subscription") == Some("remove") {
        return Ok(Wish::Remove { contact });
    }
    let name = item.attr("name").filter(|name| !name.is_empty()).map(str::to_owned);
    if name.as_ref().is_some_and(|name| name.len() > TEXT) {
        return Err(Condition::NotAcceptable.into());
    }
    let mut groups = BTreeSet::new();
    for group in item.children().filter(|child| child.is("group", ns::ROSTER)) {
        let group = group.text();
        if group.is_empty() || group.len() > TEXT {
            return Err(Condition::NotAcceptable.into());
        }
        if !groups.insert(group) {
            return Err(Condition::BadRequest.into());
        }
    }
    if groups.len() > GROUPS {
        return Err(Condition::NotAcceptable.into());
    }
    Ok(Wish::Put { contact, name, groups: groups.into_iter().collect() })
}

/// §2.3.2, §2.4.2, §2.5.2: on disk before it is answered.
async fn set(service: Arc<Service>, account: BareJid, wish: Wish) -> Answer {
    match wish {
        Wish::Put { contact, name, groups } => {
            let put = |item: Option<&RosterItem>| {
                let mut item = item.cloned().unwrap_or_else(|| RosterItem {
                    contact: contact.clone(),
                    name: None,
                    groups: Vec::new(),
                    subscription: Subscription::None,
                    ask: false,
                    pending_in: None,
                    approved: false,
                    listed: false,
                    version: 0,
                });
                item.name.clone_from(&name);
                item.groups.clone_from(&groups);
                item.listed = true;
                ItemChange::Put(item)
            };
            match service.change_item(&account, &contact, &put).await {
                Ok(ItemChanged::TooMany) => Err(Condition::ResourceConstraint.into()),
                Ok(ItemChanged::Kept(_) | ItemChanged::Changed { .. }) => Ok(None),
                Err(error) => Err(failed(&account, &error)),
            }
        }
        Wish::Remove { contact } => match presence::remove(&service, &account, &contact).await {
            Ok(true) => Ok(None),
            // §2.5.3
            Ok(false) => Err(Condition::ItemNotFound.into()),
            Err(error) => Err(failed(&account, &error)),
        },
    }
}

fn failed(account: &BareJid, error: &Error) -> StanzaError {
    warn!(%account, %error, "Roster not read or written.");
    away()
}

fn away() -> StanzaError {
    StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait)
}
