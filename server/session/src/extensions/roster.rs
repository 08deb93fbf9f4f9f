//! RFC 6121 §2: the roster, as its owner reads and changes it.

use std::{collections::BTreeSet, sync::Arc};

use minidom::Element;

use starling_link::Outcome;
use starling_registry::{SessionId, Update};
use starling_store::{
    Error,
    rosters::{ItemChange, ItemChanged, RosterItem},
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
    roster::{Push, push, write_item},
    subscription::unknown,
};

/// Bytes of a name or a group (§2.3.3: what is longer is not acceptable).
const TEXT: usize = 1023;
/// Groups of one item, and bytes of its name and groups together: a whole roster is sent in one piece.
const GROUPS: usize = 64;
const TEXTS: usize = 8 << 10;
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
    // What changes from here on is told behind what is answered now.
    let _turn = service.rosters().changing(account.as_str()).await;
    let interested = service.registry().update(&full, session, Update::Roster(true)).await;
    if let Err(error) = interested {
        warn!(%full, %error, "Roster not read.");
        return Err(away());
    }
    if let Some(known) = known.as_deref().and_then(|known| known.parse::<u64>().ok()) {
        match service.store().roster_since(&account, known).await {
            Ok(Some((version, changes))) if changes.len() <= DIFFERENCES => {
                if tell(&service, &full, known, version, &changes) {
                    service.roster_read(&account, version);
                    return Ok(None);
                }
            }
            Ok(_) => {}
            Err(error) => return Err(failed(&account, &error)),
        }
    }
    let roster = service.roster(&account).await.map_err(|error| failed(&account, &error))?;
    service.roster_read(&account, roster.version);
    let mut text = format!("<query xmlns='{}' ver='{}'>", ns::ROSTER, roster.version).into_bytes();
    roster.items.iter().filter(|item| item.listed).for_each(|item| write_item(item, &mut text));
    text.extend_from_slice(b"</query>");
    let query = String::from_utf8(text).ok().and_then(|text| text.parse::<Element>().ok());
    query.map(Some).ok_or_else(|| Condition::InternalServerError.into())
}

/// §2.6.3: what changed since the client was there, as pushes behind an empty result. `false`: there is no room for them.
fn tell(
    service: &Service,
    full: &FullJid,
    known: u64,
    version: u64,
    changes: &[(BareJid, Option<RosterItem>)],
) -> bool {
    let mut told = known;
    changes.iter().enumerate().all(|(at, (contact, item))| {
        // When an item was removed is not known, but its place is: none of the pushes may promise what comes behind it.
        told = item.as_ref().map_or(told, |item| item.version);
        let version = if at + 1 == changes.len() { version } else { told };
        let shown = item.as_ref().filter(|item| item.listed);
        let push = push(full, contact, shown, version, &format!("change-{version}-{at}"));
        service.link().send_here(full.as_str(), &push) == Outcome::Queued
    })
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
    let length = name.as_ref().map_or(0, String::len) + groups.iter().map(String::len).sum::<usize>();
    if groups.len() > GROUPS || length > TEXTS {
        return Err(Condition::NotAcceptable.into());
    }
    Ok(Wish::Put { contact, name, groups: groups.into_iter().collect() })
}

/// §2.3.2, §2.4.2, §2.5.2: on disk before it is answered.
async fn set(service: Arc<Service>, account: BareJid, wish: Wish) -> Answer {
    match wish {
        Wish::Put { contact, name, groups } => {
            let put = |item: Option<&RosterItem>| {
                let item = item.cloned().unwrap_or_else(|| unknown(&contact));
                ItemChange::Put(RosterItem { name: name.clone(), groups: groups.clone(), listed: true, ..item })
            };
            match service.change_item(&account, &contact, Push::Always, &put, |_, _| {}).await {
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
