//! XEP-0016: Privacy Lists. What lists do to stanzas is in `crate::privacy`.

use std::sync::Arc;

use minidom::Element;
use starling_registry::{SessionId, SessionRecord, Sessions, Update};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError},
    jid::{BareJid, FullJid},
    stanza::{IqType, Kind},
};
use tracing::warn;

use super::pushes::push;
use crate::{
    Service,
    extension::{Answer, Extension, Request, Scope, Standard, Verdict},
    privacy::{self, Applied, Held, List, PRIVACY, Subject},
};

/// Lists that one account may have; one more is refused with `resource-constraint`.
const LISTS: usize = 32;

pub(super) struct PrivacyLists;

/// What a client asks for.
enum Command {
    /// §2.3: the names.
    Names,
    /// §2.3: one list.
    Get(String),
    /// §2.4; `None`: no active list.
    Active(Option<String>),
    /// §2.5; `None`: no default list.
    Default(Option<String>),
    /// §2.6, §2.7.
    Put(List),
    /// §2.8.
    Remove(String),
}

/// Who asks.
struct Asker {
    service: Arc<Service>,
    account: BareJid,
    full: FullJid,
    session: SessionId,
}

impl Extension for PrivacyLists {
    fn standard(&self) -> Standard {
        Standard { name: "XEP-0016", version: "1.7", shown_by: "protocol/privacy_lists.rs" }
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/iq/query[@xmlns='jabber:iq:privacy']"]
    }

    fn features(&self, scope: Scope) -> &'static [&'static str] {
        match scope {
            Scope::Server | Scope::OwnAccount => &[PRIVACY],
            Scope::OtherAccount => &[],
        }
    }

    fn handle(&self, request: &Request<'_>) -> Verdict {
        match request.scope {
            Scope::OwnAccount => {}
            Scope::Server | Scope::OtherAccount => return Verdict::Pass,
        }
        let command = match command(request) {
            Ok(command) => command,
            Err(error) => return Verdict::Answer(Err(error)),
        };
        let asker = Asker {
            service: request.service.clone(),
            account: request.from.to_bare(),
            full: request.from.clone(),
            session: request.session,
        };
        Verdict::Later(Box::pin(async move {
            // The turn keeps lists and active lists as they are while something is decided from them.
            let turn = asker.service.privacy().turn(asker.account.as_str()).await;
            let answer = match command {
                Command::Names => asker.names().await,
                Command::Get(name) => asker.list(&name).await,
                Command::Active(name) => asker.activate(name).await,
                Command::Default(name) => asker.set_default(name).await,
                Command::Put(list) => asker.put(list).await,
                Command::Remove(name) => asker.remove(name).await,
            };
            drop(turn);
            answer
        }))
    }
}

fn command(request: &Request<'_>) -> Result<Command, StanzaError> {
    let iq = request.stanza.raw.to_tree().map_err(|_| Condition::BadRequest)?;
    let query = iq.children().next().ok_or(Condition::BadRequest)?;
    let mut children = query.children();
    let (child, more) = (children.next(), children.next().is_some());
    // §2.1, §2.3: one at a time.
    if more {
        return Err(Condition::BadRequest.into());
    }
    let name = |child: &Element| child.attr("name").map(str::to_owned);
    match (request.stanza.kind, child) {
        (Kind::Iq(IqType::Get), None) => Ok(Command::Names),
        (Kind::Iq(IqType::Get), Some(child)) if child.is("list", PRIVACY) => {
            Ok(Command::Get(name(child).ok_or(Condition::BadRequest)?))
        }
        (Kind::Iq(IqType::Set), Some(child)) if child.is("active", PRIVACY) => Ok(Command::Active(name(child))),
        (Kind::Iq(IqType::Set), Some(child)) if child.is("default", PRIVACY) => Ok(Command::Default(name(child))),
        (Kind::Iq(IqType::Set), Some(child)) if child.is("list", PRIVACY) => {
            let list = privacy::read_list(child)?;
            Ok(if list.items.is_empty() { Command::Remove(list.name) } else { Command::Put(list) })
        }
        _ => Err(Condition::BadRequest.into()),
    }
}

impl Asker {
    async fn held(&self) -> Result<Arc<Held>, StanzaError> {
        let held = self.service.privacy().get(self.service.store(), &self.account).await;
        Ok(held.map_err(|error| self.away(&error))?.unwrap_or_default())
    }

    fn away(&self, error: &dyn std::fmt::Display) -> StanzaError {
        warn!(account = %self.account, %error, "Privacy lists not answered.");
        StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait)
    }

    /// The session's active list. It is in the session's record, and so ends with the session (§2.2 rule 1).
    async fn active(&self) -> Result<Option<Arc<str>>, StanzaError> {
        let registry = self.service.registry();
        let sessions = match registry.cached(self.account.as_str()) {
            Some(sessions) => sessions,
            None => registry.sessions(&self.account).await.map_err(|error| self.away(&error))?,
        };
        Ok(sessions.iter().find(|record| record.id == self.session).and_then(|record| record.active_list.clone()))
    }

    async fn set_active(&self, name: Option<Arc<str>>) -> Result<(), StanzaError> {
        let update = self.service.registry().update(&self.full, self.session, Update::ActiveList(name)).await;
        update.map(drop).map_err(|error| self.away(&error))
    }

    async fn names(&self) -> Answer {
        let held = self.held().await?;
        let mut query = Element::bare("query", PRIVACY);
        if let Some(active) = self.active().await? {
            query.append_child(privacy::named("active", &active));
        }
        if let Some(default) = &held.lists.default {
            query.append_child(privacy::named("default", default));
        }
        for list in &held.lists.lists {
            query.append_child(privacy::named("list", &list.name));
        }
        Ok(Some(query))
    }

    async fn list(&self, name: &str) -> Answer {
        let held = self.held().await?;
        let list = held.lists.list(name).ok_or(Condition::ItemNotFound)?;
        let mut query = Element::bare("query", PRIVACY);
        query.append_child(privacy::list_element(list));
        Ok(Some(query))
    }

    /// In force when the answer goes out (§2.4).
    async fn activate(&self, name: Option<String>) -> Answer {
        let held = self.held().await?;
        if name.as_deref().is_some_and(|name| held.lists.list(name).is_none()) {
            return Err(Condition::ItemNotFound.into());
        }
        let before = Applied { held: Arc::clone(&held), active: self.active().await? };
        let name: Option<Arc<str>> = name.map(Arc::from);
        self.set_active(name.clone()).await?;
        let after = Applied { held, active: name };
        privacy::retell(&self.service, &self.account, |record| {
            (record.id == self.session).then(|| (before.clone(), after.clone()))
        })
        .await;
        Ok(None)
    }

    async fn set_default(&self, name: Option<String>) -> Answer {
        let others = self.others().await?;
        self.change(None, |lists| {
            if name.as_deref().is_some_and(|name| lists.list(name).is_none()) {
                return Err(Condition::ItemNotFound.into());
            }
            // §2.2 rule 11: not while the list that is the default now applies to somebody else.
            if lists.default.is_some() && lists.default != name && applies(&others, lists, None) {
                return Err(Condition::Conflict.into());
            }
            lists.default.clone_from(&name);
            Ok(())
        })
        .await
    }

    async fn put(&self, list: List) -> Answer {
        // §2.1: groups that are not in the roster cannot be meant.
        if list.items.iter().any(|item| matches!(item.subject, Subject::Group(_))) {
            let roster = self.service.store().roster(&self.account).await.map_err(|error| self.away(&error))?;
            let is_known = |group: &String| roster.items.iter().any(|item| item.listed && item.groups.contains(group));
            let is_unknown = list.items.iter().any(|item| match &item.subject {
                Subject::Group(group) => !is_known(group),
                Subject::Jid(_) | Subject::Subscription(_) | Subject::Everybody => false,
            });
            if is_unknown {
                return Err(Condition::ItemNotFound.into());
            }
        }
        let name = list.name.clone();
        self.change(Some(&name), |lists| {
            let held = lists.lists.len();
            match lists.lists.iter_mut().find(|held| held.name == list.name) {
                Some(before) => *before = list.clone(),
                None if held >= LISTS => return Err(Condition::ResourceConstraint.into()),
                None => lists.lists.push(list.clone()),
            }
            Ok(())
        })
        .await
    }

    async fn remove(&self, name: String) -> Answer {
        let others = self.others().await?;
        let answer = self
            .change(Some(&name), |lists| {
                if lists.list(&name).is_none() {
                    return Err(Condition::ItemNotFound.into());
                }
                // §2.8.
                if applies(&others, lists, Some(&name)) {
                    return Err(Condition::Conflict.into());
                }
                lists.lists.retain(|list| list.name != name);
                if lists.default.as_deref() == Some(name.as_str()) {
                    lists.default = None;
                }
                Ok(())
            })
            .await?;
        if self.active().await?.as_deref() == Some(name.as_str()) {
            self.set_active(None).await?;
        }
        Ok(answer)
    }

    /// The account's other sessions.
    async fn others(&self) -> Result<Sessions, StanzaError> {
        let sessions = self.service.registry().sessions(&self.account).await.map_err(|error| self.away(&error))?;
        Ok(sessions.iter().filter(|record| record.id != self.session).cloned().collect())
    }

    /// Changes the lists, and tells who is concerned: the account's resources the name of the list (§2.2 rule 10), and
    /// the contacts what they may see of it.
    async fn change(
        &self,
        pushed: Option<&str>,
        change: impl Fn(&mut privacy::Lists) -> Result<(), StanzaError> + Send,
    ) -> Answer {
        let changed = privacy::change(&self.service, &self.account, change).await?;
        if let Some(name) = pushed {
            let mut query = Element::bare("query", PRIVACY);
            query.append_child(privacy::named("list", name));
            push(&self.service, &self.account, &query, |_| true).await;
        }
        if let Some(after) = changed.after {
            let before = changed.before;
            privacy::retell(&self.service, &self.account, |record: &SessionRecord| {
                let active = record.active_list.clone();
                Some((
                    Applied { held: Arc::clone(&before), active: active.clone() },
                    Applied { held: Arc::clone(&after), active },
                ))
            })
            .await;
        }
        Ok(None)
    }
}

/// Whether the list of this name applies to one of these sessions; `None`: the default list does.
fn applies(sessions: &Sessions, lists: &privacy::Lists, name: Option<&str>) -> bool {
    let is_default = name.is_none_or(|name| lists.default.as_deref() == Some(name));
    sessions.iter().any(|record| match &record.active_list {
        Some(active) => name == Some(&**active),
        None => is_default,
    })
}
