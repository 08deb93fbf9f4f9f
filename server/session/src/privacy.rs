//! Whether two addresses may talk: blocking (XEP-0191) and privacy lists (XEP-0016) over one mechanism.
//!
//! ```text
//!  entry session ── check(sender, recipient, kind) ──► Allow · Each · DenyOut · DenyIn      two reads, nobody waits
//!                          │                    └────► Load: not known yet ──► checked().await
//!                          ▼
//!   Cache: account ─► lists, or that there are none        active: full JID ─► list        (this process)
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

use starling_registry::SessionId;
use starling_store::Error;
use starling_xml::RawElement;
use starling_xmpp::{
    jid::{BareJid, FullJid, Jid, bare_str},
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
use crate::Service;

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
    let check = decide(service, sender, recipient, kind, |address| match service.privacy().cached(bare_str(address)) {
        Known::Unknown => {
            missing.push(address.to_bare());
            None
        }
        Known::Nothing => None,
        Known::Held(held) => Some(held),
    });
    match check {
        // What is known may be enough to say no.
        Check::DenyOut { .. } | Check::DenyIn => check,
        _ if missing.is_empty() => check,
        _ => Check::Load(missing),
    }
}

/// The same, with what is not known read from the store. Never [`Check::Load`].
///
/// # Errors
/// If the store cannot be read: the stanza must not pass then, since it may be blocked.
pub async fn checked(service: &Service, sender: &Jid, recipient: &Jid, kind: Kind) -> Result<Check, Error> {
    let mut known = Vec::with_capacity(2);
    for address in [sender, recipient] {
        if concerns(service, address) {
            known.push((bare_str(address), service.privacy().get(service.store(), &address.to_bare()).await?));
        }
    }
    Ok(decide(service, sender, recipient, kind, |address| {
        let account = bare_str(address);
        known.iter().find(|(name, _)| *name == account).and_then(|(_, held)| held.clone())
    }))
}

/// Reads the lists of these accounts, so that [`check`] finds them.
///
/// # Errors
/// If the store cannot be read.
pub async fn prepare(service: &Service, accounts: &[BareJid]) -> Result<(), Error> {
    for account in accounts {
        service.privacy().get(service.store(), account).await?;
    }
    Ok(())
}

/// After [`Check::Each`]: whether the session at `target` takes a stanza of this kind from `sender`. `false` also if the
/// account's lists are no longer known, which the cache's bound makes rare.
#[must_use]
pub fn takes(service: &Service, target: &FullJid, sender: &Jid, kind: Kind) -> bool {
    match service.privacy().cached(bare_str(target)) {
        Known::Unknown => false,
        Known::Nothing => true,
        Known::Held(held) => {
            let active = service.privacy().active(target.as_str());
            held.verdict(active.as_deref(), Direction::In, kind, sender) == Verdict::Allow
        }
    }
}

/// To be called when the roster of an account has changed: its lists may be about groups and subscriptions
/// (XEP-0016 §2.2 rule 9).
pub fn forget(service: &Service, account: &str) {
    service.privacy().forget(account);
}

/// To be called when a session has ended: its active list goes with it (XEP-0016 §2.2 rule 1).
pub fn session_ended(service: &Service, full: &FullJid, session: SessionId) {
    service.privacy().set_active(full, session, None);
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
    mut lists: impl FnMut(&Jid) -> Option<std::sync::Arc<Held>>,
) -> Check {
    if bare_str(sender) == bare_str(recipient) || is_server(service, sender) || is_server(service, recipient) {
        return Check::Allow;
    }
    if concerns(service, sender)
        && let Some(held) = lists(sender)
    {
        let active = service.privacy().active(sender.as_str());
        match held.verdict(active.as_deref(), Direction::Out, kind, recipient) {
            Verdict::Allow => {}
            Verdict::Blocked => return Check::DenyOut { blocked: true },
            Verdict::Denied => return Check::DenyOut { blocked: false },
        }
    }
    if concerns(service, recipient)
        && let Some(held) = lists(recipient)
    {
        return incoming(service, &held, sender, recipient, kind);
    }
    Check::Allow
}

fn incoming(service: &Service, held: &Held, sender: &Jid, recipient: &Jid, kind: Kind) -> Check {
    let privacy = service.privacy();
    let of = |active: Option<&str>| held.verdict(active, Direction::In, kind, sender);
    if recipient.is_full() {
        let active = privacy.active(recipient.as_str());
        return if of(active.as_deref()) == Verdict::Allow { Check::Allow } else { Check::DenyIn };
    }
    match of(None) {
        Verdict::Blocked => Check::DenyIn,
        default if privacy.has_active(recipient.as_str()) => Check::Each { stored: default == Verdict::Allow },
        Verdict::Allow => Check::Allow,
        Verdict::Denied => Check::DenyIn,
    }
}
