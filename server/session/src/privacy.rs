//! Whether two addresses may talk: blocking (XEP-0191) and privacy lists (XEP-0016) over one mechanism.
//!
//! ```text
//!  entry session ── check(sender, recipient, kind) ──► Allow · Each · DenyOut · DenyIn      two reads, nobody waits
//!                          │                    └────► Load: not known yet ──► checked().await
//!                          ▼
//!   Cache: account ─► lists, or that there are none        active lists: in the sessions' records (registry)
//!                          ▲
//!        change() ─────────┘ one document per account in the store ◄── containers: blocking, privacy_lists
//! ```
//!
//! Both extensions keep what they know in one document (XEP-0191 §5: the same back-end store). The block list is asked
//! first, and holds whichever list is active; then the active list of the session, or the default list.
//!
//! What a denial means (XEP-0191 §3.3, XEP-0016 §2.14), seen from the entry session of a stanza:
//!
//! | stanza | denied by the sender's lists | denied by the recipient's lists |
//! |---|---|---|
//! | message | `not-acceptable` ([`refuse_out`]) | `service-unavailable` |
//! | message of type error | dropped | dropped |
//! | presence | `not-acceptable` if it was directed, else left out of the broadcast | dropped |
//! | iq of type get or set | `not-acceptable` | `service-unavailable` |
//! | iq of type result or error | dropped | dropped |

mod cache;
mod change;
mod document;
mod lists;
mod retell;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use starling_registry::{SessionRecord, Sessions};
use starling_xml::RawElement;
use starling_xmpp::{
    jid::{BareJid, Jid, bare_str},
    ns,
    stanza::{Kind, write_reply_header},
};

pub use self::{
    cache::{Cache, Held, Known},
    lists::{Direction, Item, List, Lists, Relation, Stanzas, Subject, Subscription, Verdict},
};
pub(crate) use self::{
    change::change,
    retell::{Applied, retell},
    wire::{blocked_element, list_element, named, read_list},
};
use crate::{BackendAway, Service};

/// XEP-0191.
pub const BLOCKING: &str = "urn:xmpp:blocking";
/// XEP-0191 §3.3: the condition besides `not-acceptable`.
pub const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
/// XEP-0016.
pub const PRIVACY: &str = "jabber:iq:privacy";

/// What two accounts' lists say of a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It passes.
    Allow,
    /// It is for a bare JID, and a session of the recipient has an active list: each one's own counts, so [`takes`] says
    /// of each session that it would go to whether it does.
    Each {
        /// Whether the recipient's default list lets it in, so that it may wait for somebody who is not there yet.
        stored: bool,
    },
    /// The sender's own lists hold it back.
    DenyOut {
        /// By the block list; else by a privacy list.
        blocked: bool,
    },
    /// The recipient's lists keep it out.
    DenyIn,
    /// The lists of these accounts are not known here: ask [`checked`].
    Load(Vec<BareJid>),
}

/// Whether a stanza of this kind may go from `sender` to `recipient`, by the lists of those of them that are accounts
/// here. Nobody keeps an account from itself (XEP-0016 §2.1), or from its server. Never waits; without lists it costs
/// two look-ups.
#[must_use]
pub fn check(service: &Service, sender: &Jid, recipient: &Jid, kind: Kind) -> Check {
    let mut missing = Vec::new();
    let check = decide(service, sender, recipient, kind, |address| {
        let known = match service.privacy().cached(bare_str(address)) {
            Known::Nothing => return None,
            Known::Unknown => None,
            // Whose sessions may have active lists is asked of the registry.
            Known::Held(held) if !held.lists.lists.is_empty() => {
                service.registry().cached(bare_str(address)).map(|sessions| Party { held, sessions })
            }
            Known::Held(held) => Some(Party { held, sessions: Sessions::default() }),
        };
        if known.is_none() {
            missing.push(address.to_bare());
        }
        known
    });
    match check {
        // What is known may be enough to say no.
        Check::DenyOut { .. } | Check::DenyIn => check,
        _ if missing.is_empty() => check,
        _ => Check::Load(missing),
    }
}

/// The same, with what is not known read from the store and the registry. Never [`Check::Load`].
///
/// # Errors
/// If one of them cannot be read: the stanza must not pass then, since it may be blocked.
pub async fn checked(service: &Service, sender: &Jid, recipient: &Jid, kind: Kind) -> Result<Check, BackendAway> {
    let mut known = Vec::with_capacity(2);
    for address in [sender, recipient] {
        if !concerns(service, address) {
            continue;
        }
        let account = address.to_bare();
        if let Some(held) = service.privacy().get(service.store(), &account).await? {
            let sessions = match service.registry().cached(account.as_str()) {
                _ if held.lists.lists.is_empty() => Sessions::default(),
                Some(sessions) => sessions,
                None => service.registry().sessions(&account).await?,
            };
            known.push((bare_str(address), Party { held, sessions }));
        }
    }
    Ok(decide(service, sender, recipient, kind, |address| {
        let account = bare_str(address);
        known.iter().find(|(name, _)| *name == account).map(|(_, party)| party.clone())
    }))
}

/// What there is to know of one of the two.
#[derive(Clone)]
struct Party {
    held: Arc<Held>,
    /// Its sessions, where they may have active lists.
    sessions: Sessions,
}

impl Party {
    fn active(&self, full: &str) -> Option<&str> {
        self.sessions.iter().find(|record| record.full.as_str() == full)?.active_list.as_deref()
    }
}

/// After [`Check::Each`]: whether the session of `record` takes a stanza of this kind from `sender`. `false` also if the
/// account's lists are no longer known, which the cache's bound makes rare.
#[must_use]
pub fn takes(service: &Service, record: &SessionRecord, sender: &Jid, kind: Kind) -> bool {
    match service.privacy().cached(bare_str(&record.full)) {
        Known::Unknown => false,
        Known::Nothing => true,
        Known::Held(held) => held.verdict(record.active_list.as_deref(), Direction::In, kind, sender) == Verdict::Allow,
    }
}

/// To be called when the roster of an account has changed: its lists may be about groups and subscriptions
/// (XEP-0016 §2.2 rule 9), also where others remember them.
pub(crate) async fn roster_changed(service: &Service, account: &BareJid) {
    if service.registry().are_shared() {
        match service.privacy().get(service.store(), account).await {
            Ok(Some(held)) if held.lists.ask_roster() => service.forget_everywhere(account.as_str()).await,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%account, %error, "Privacy lists not read");
                service.forget_everywhere(account.as_str()).await;
            }
        }
    }
    forget(service, account.as_str());
}

/// The next stanza that asks for the lists of an account has them read.
pub fn forget(service: &Service, account: &str) {
    service.privacy().forget(account);
}

/// Answers a stanza that the sender's own lists hold back: `not-acceptable`, and `<blocked/>` if it was the block list
/// (XEP-0191 §3.3, XEP-0016 §2.14). `to`: the sender's full JID. `false`, and nothing is written: nobody waits for an
/// error.
pub fn refuse_out(stanza: &RawElement<'_>, to: &str, blocked: bool, out: &mut Vec<u8>) -> bool {
    let name = stanza.name();
    match stanza.attribute("type").as_deref() {
        Some("error") => return false,
        Some("result") if name == "iq" => return false,
        _ => {}
    }
    write_reply_header(stanza, name, "error", None, Some(to), out);
    out.extend_from_slice(b"><error type='cancel'><not-acceptable xmlns='");
    out.extend_from_slice(ns::STANZAS.as_bytes());
    out.extend_from_slice(b"'/>");
    if blocked {
        out.extend_from_slice(b"<blocked xmlns='");
        out.extend_from_slice(BLOCKING_ERRORS.as_bytes());
        out.extend_from_slice(b"'/>");
    }
    out.extend_from_slice(b"</error></");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    true
}

/// An account of this server.
fn concerns(service: &Service, address: &Jid) -> bool {
    address.node().is_some() && service.serves(address.domain().as_str())
}

/// The server itself, which no list keeps its accounts from.
fn is_server(service: &Service, address: &Jid) -> bool {
    address.node().is_none() && service.serves(address.domain().as_str())
}

fn decide(
    service: &Service,
    sender: &Jid,
    recipient: &Jid,
    kind: Kind,
    mut party: impl FnMut(&Jid) -> Option<Party>,
) -> Check {
    if bare_str(sender) == bare_str(recipient) || is_server(service, sender) || is_server(service, recipient) {
        return Check::Allow;
    }
    if concerns(service, sender)
        && let Some(party) = party(sender)
    {
        match party.held.verdict(party.active(sender.as_str()), Direction::Out, kind, recipient) {
            Verdict::Allow => {}
            Verdict::Blocked => return Check::DenyOut { blocked: true },
            Verdict::Denied => return Check::DenyOut { blocked: false },
        }
    }
    if concerns(service, recipient)
        && let Some(party) = party(recipient)
    {
        return incoming(&party, sender, recipient, kind);
    }
    Check::Allow
}

fn incoming(party: &Party, sender: &Jid, recipient: &Jid, kind: Kind) -> Check {
    let of = |active: Option<&str>| party.held.verdict(active, Direction::In, kind, sender);
    if recipient.is_full() {
        let active = party.active(recipient.as_str());
        return if of(active) == Verdict::Allow { Check::Allow } else { Check::DenyIn };
    }
    let has_active = party.sessions.iter().any(|record| record.active_list.is_some());
    match of(None) {
        Verdict::Blocked => Check::DenyIn,
        default if has_active => Check::Each { stored: default == Verdict::Allow },
        Verdict::Allow => Check::Allow,
        Verdict::Denied => Check::DenyIn,
    }
}
