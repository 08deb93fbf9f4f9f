//! What an account lets through: the pure rules of XEP-0016 §2 and XEP-0191 §3.

use std::{
    cell::LazyCell,
    collections::{BTreeSet, HashSet},
};

use starling_xmpp::{
    jid::{Jid, bare_str},
    stanza::{Kind, PresenceType},
};

/// Seen from the account whose lists are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From its peer to the account.
    In,
    /// From the account to its peer.
    Out,
}

/// The state of a roster item, as privacy lists name it (XEP-0016 §2.1). A stranger has `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// Neither sees the other's presence, or there is no such item.
    #[default]
    None,
    /// The account sees the contact's.
    To,
    /// The contact sees the account's.
    From,
    /// Both.
    Both,
}

/// What the roster says of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// The subscription.
    pub subscription: Subscription,
    /// The groups.
    pub groups: Vec<String>,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `type='jid'`: an address, its resources or its users (XEP-0016 §2.1).
    Jid(Jid),
    /// `type='group'`: everybody in this roster group.
    Group(String),
    /// `type='subscription'`: everybody with this subscription.
    Subscription(Subscription),
    /// No type: everybody.
    Everybody,
}

/// The kinds of stanzas that a rule is about; none of them set: all stanzas, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an element of the item")]
pub struct Stanzas {
    /// `<message/>`: incoming messages.
    pub message: bool,
    /// `<iq/>`: incoming iqs.
    pub iq: bool,
    /// `<presence-in/>`: incoming presence notifications.
    pub presence_in: bool,
    /// `<presence-out/>`: outgoing presence notifications.
    pub presence_out: bool,
}

/// One rule of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its place; unique within the list.
    pub order: u32,
    /// Whom it is about.
    pub subject: Subject,
    /// `action`: `allow` or `deny`.
    pub allow: bool,
    /// What it is about.
    pub stanzas: Stanzas,
}

/// A named list, its items in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name; unique within the account.
    pub name: String,
    /// The rules.
    pub items: Vec<Item>,
}

/// Everything that one account lets through or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// XEP-0191's block list. It stands in the same document as the lists, and in front of all of them, whichever is
    /// active: who is blocked stays blocked. (XEP-0191 §5 suggests to keep it within the default list, where a client
    /// that makes another list active unblocks everybody without knowing.)
    pub blocked: BTreeSet<Jid>,
    /// XEP-0016's lists, by name.
    pub lists: Vec<List>,
    /// The name of the default list.
    pub default: Option<String>,
    /// The addresses of `blocked`, to be found without making one.
    index: HashSet<Box<str>>,
}

/// Why something is let through or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// The peer is on the block list (XEP-0191).
    Blocked,
    /// A privacy list denies it (XEP-0016).
    Denied,
}

impl Stanzas {
    /// XEP-0016 §2.1 and §2.9 to §2.13. Presence that is neither available nor unavailable is no notification: only
    /// rules for all stanzas are about it.
    #[must_use]
    pub const fn are_about(self, direction: Direction, kind: Kind) -> bool {
        if !(self.message || self.iq || self.presence_in || self.presence_out) {
            return true;
        }
        match (kind, direction) {
            (Kind::Message(_), Direction::In) => self.message,
            (Kind::Iq(_), Direction::In) => self.iq,
            (Kind::Presence(PresenceType::Available | PresenceType::Unavailable), Direction::In) => self.presence_in,
            (Kind::Presence(PresenceType::Available | PresenceType::Unavailable), Direction::Out) => self.presence_out,
            (Kind::Message(_) | Kind::Iq(_) | Kind::Presence(_), _) => false,
        }
    }
}

impl Subject {
    /// Whether it needs the roster to be decided.
    #[must_use]
    pub const fn asks_roster(&self) -> bool {
        match self {
            Self::Group(_) | Self::Subscription(_) => true,
            Self::Jid(_) | Self::Everybody => false,
        }
    }
}

impl Lists {
    /// Lists as they were read.
    #[must_use]
    pub fn new(blocked: BTreeSet<Jid>, lists: Vec<List>, default: Option<String>) -> Self {
        let index = blocked.iter().map(|jid| jid.as_str().into()).collect();
        Self { blocked, lists, default, index }
    }

    /// Blocks these addresses (XEP-0191 §3.3). Returns those that were not blocked before.
    pub fn block(&mut self, addresses: impl IntoIterator<Item = Jid>) -> Vec<Jid> {
        let new: Vec<_> = addresses.into_iter().filter(|jid| self.blocked.insert(jid.clone())).collect();
        self.index.extend(new.iter().map(|jid| jid.as_str().into()));
        new
    }

    /// Unblocks these addresses (XEP-0191 §3.4), or all (§3.5). Returns those that were blocked before.
    pub fn unblock(&mut self, addresses: Option<&[Jid]>) -> Vec<Jid> {
        match addresses {
            None => {
                self.index.clear();
                std::mem::take(&mut self.blocked).into_iter().collect()
            }
            Some(addresses) => {
                let old: Vec<_> = addresses.iter().filter(|jid| self.blocked.remove(*jid)).cloned().collect();
                for jid in &old {
                    self.index.remove(jid.as_str());
                }
                old
            }
        }
    }

    /// The list of this name.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.name == name)
    }

    /// The list that applies to a session with this active list, or to the account without one: XEP-0016 §2.2 rules 1
    /// to 3.
    #[must_use]
    pub fn applied(&self, active: Option<&str>) -> Option<&List> {
        active.and_then(|name| self.list(name)).or_else(|| self.list(self.default.as_deref()?))
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocked.is_empty() && self.lists.is_empty() && self.default.is_none()
    }

    /// Whether some rule needs the roster.
    #[must_use]
    pub fn ask_roster(&self) -> bool {
        self.lists.iter().flat_map(|list| &list.items).any(|item| item.subject.asks_roster())
    }

    /// XEP-0191 §6: whether `peer`, its bare JID, its domain or a domain above that is blocked.
    #[must_use]
    pub fn is_blocked(&self, peer: &Jid) -> bool {
        !self.index.is_empty() && patterns(peer).any(|pattern| self.index.contains(pattern))
    }

    /// Whether a stanza passes between the account and `peer`. `active`: the list that the account's session made
    /// active. `relation` is asked only where a rule needs it.
    pub fn verdict(
        &self,
        active: Option<&str>,
        direction: Direction,
        kind: Kind,
        peer: &Jid,
        relation: impl FnOnce() -> Relation,
    ) -> Verdict {
        if self.is_blocked(peer) {
            return Verdict::Blocked;
        }
        let Some(list) = self.applied(active) else { return Verdict::Allow };
        let relation = LazyCell::new(relation);
        // §2.2 rules 5 to 7: in ascending order, the first that matches decides, and without one all is allowed.
        let decisive = list.items.iter().find(|item| {
            item.stanzas.are_about(direction, kind)
                && match &item.subject {
                    Subject::Everybody => true,
                    Subject::Jid(jid) => patterns(peer).any(|pattern| pattern == jid.as_str()),
                    Subject::Group(group) => relation.groups.contains(group),
                    Subject::Subscription(subscription) => relation.subscription == *subscription,
                }
        });
        if decisive.is_none_or(|item| item.allow) { Verdict::Allow } else { Verdict::Denied }
    }
}

/// The addresses that match `peer` when they stand in a rule, in the order of XEP-0016 §2.1: itself, its bare JID (any
/// resource), and if it is of a domain: the domain, and those that it is a subdomain of.
fn patterns(peer: &Jid) -> impl Iterator<Item = &str> {
    let full = peer.as_str();
    let bare = bare_str(peer);
    let domain = peer.domain().as_str();
    let labels = domain.match_indices('.').filter_map(move |(at, _)| domain.get(at + 1..));
    let below = |part: &str, whole: &str| part.len() < whole.len();
    let bare = Some(bare).filter(|bare| below(bare, full));
    let own = Some(domain).filter(|_| peer.node().is_some());
    [Some(full), bare, own].into_iter().flatten().chain(labels)
}
