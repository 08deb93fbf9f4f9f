//! Users who see each other's presence: user *i* of *n* has the *k*/2 users before and behind it, in a ring.

use std::{collections::HashSet, sync::Arc, time::Duration};

use starling_xml::OwnedElement;
use tokio::{sync::Barrier, task::JoinSet, time::timeout};

use crate::{
    Failure,
    client::{Client, Event, Manner, RESOURCE},
    target::Target,
};

const ROSTER: &str = "jabber:iq:roster";
/// Log-ins under way at one time.
const AT_ONCE: usize = 16;
/// In which something must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who has whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    pub(crate) users: usize,
    /// Of each user; even, and less than there are users.
    pub(crate) contacts: usize,
}

impl Ring {
    /// The contacts of a user.
    pub(crate) fn of(self, user: usize) -> impl Iterator<Item = usize> {
        let half = self.contacts / 2;
        (1..=half).flat_map(move |step| [(user + step) % self.users, (user + self.users - step) % self.users])
    }

    /// Users of whom none is another's contact.
    pub(crate) fn strangers(self) -> impl Iterator<Item = usize> {
        let apart = self.contacts / 2 + 1;
        (0..self.users / apart).map(move |number| number * apart)
    }
}

/// The number of `user12@domain/resource`.
pub(crate) fn number(jid: &str) -> Option<usize> {
    jid.strip_prefix("user")?.split_once('@')?.0.parse().ok()
}

/// The number of the user whose available presence this is.
pub(crate) fn available(element: &OwnedElement) -> Option<usize> {
    let raw = element.as_raw();
    if raw.name() != "presence" || raw.attribute("type").is_some() {
        return None;
    }
    number(&raw.attribute("from")?)
}

/// Logs in users, some at one time.
pub(crate) async fn log_in(
    target: &Target,
    users: impl IntoIterator<Item = usize>,
    manner: Manner,
) -> Result<Vec<(usize, Client)>, Failure> {
    let mut clients = Vec::new();
    let mut connecting = JoinSet::new();
    for user in users {
        if connecting.len() == AT_ONCE
            && let Some(client) = connecting.join_next().await
        {
            clients.push(client??);
        }
        let target = target.clone();
        // At the relay, neighbours are each other's peers.
        connecting.spawn(async move {
            Ok::<_, Failure>((user, Client::log_in(&target, user, RESOURCE, user ^ 1, manner).await?))
        });
    }
    while let Some(client) = connecting.join_next().await {
        clients.push(client??);
    }
    Ok(clients)
}

/// Subscribes all of the ring to each other, both ways (RFC 6121 §3.1), where they are not yet.
pub(crate) async fn befriend(target: &Target, ring: Ring) -> Result<(), Failure> {
    let manner = Manner { presence: true, ..Manner::default() };
    let clients = log_in(target, 0..ring.users, manner).await?;
    let all = Arc::new(Barrier::new(clients.len()));
    let mut working = JoinSet::new();
    for (user, mut client) in clients {
        let (target, all) = (target.clone(), Arc::clone(&all));
        working.spawn(async move {
            subscribe(&target, ring, user, &mut client, &all).await.map_err(|error| format!("user{user}: {error}"))?;
            Ok::<_, Failure>(client)
        });
    }
    let mut clients = Vec::new();
    // Nobody leaves before the last has what it needs.
    while let Some(client) = working.join_next().await {
        clients.push(client??);
    }
    close(clients).await
}

/// Ends sessions, some at one time.
pub(crate) async fn close(clients: impl IntoIterator<Item = Client>) -> Result<(), Failure> {
    let mut closing = JoinSet::new();
    for client in clients {
        if closing.len() == AT_ONCE
            && let Some(closed) = closing.join_next().await
        {
            closed??;
        }
        closing.spawn(client.close());
    }
    while let Some(closed) = closing.join_next().await {
        closed??;
    }
    Ok(())
}

async fn subscribe(
    target: &Target,
    ring: Ring,
    user: usize,
    client: &mut Client,
    all: &Barrier,
) -> Result<(), Failure> {
    let mut missing: HashSet<usize> = ring.of(user).collect();
    let roster = client.request("get", "roster", "<query xmlns='jabber:iq:roster'/>").await?;
    let to = both(&roster, &mut missing);
    // Only those who have asked for their rosters hear how it goes on (RFC 6121 §2.1.6).
    all.wait().await;
    for contact in ring.of(user).filter(|contact| missing.contains(contact) && !to.contains(contact)) {
        let contact = target.bare_jid(contact);
        client.write(format_args!("<presence to='{contact}' type='subscribe'/>"));
        client.flush().await?;
    }
    while !missing.is_empty() {
        let event = timeout(PATIENCE, client.next())
            .await
            .map_err(|_| format!("not subscribed: {} of {}", missing.len(), ring.contacts))??;
        let Event::Stanza(element) = event else { continue };
        let raw = element.as_raw();
        let kind = raw.attribute("type");
        if raw.name() == "presence" && kind.as_deref() == Some("subscribe") {
            let from = raw.attribute("from").unwrap_or_default();
            client.write(format_args!("<presence to='{from}' type='subscribed'/>"));
            client.flush().await?;
        } else if raw.name() == "iq" && kind.as_deref() == Some("set") {
            both(&element, &mut missing);
            let id = raw.attribute("id").unwrap_or_default();
            client.write(format_args!("<iq type='result' id='{id}'/>"));
            client.flush().await?;
        } else if kind.as_deref() == Some("error") {
            return Err(raw.as_str().into());
        }
    }
    Ok(())
}

/// Takes those out of `missing` that a roster, or a push, says are subscribed both ways. Those that this user is
/// subscribed to.
fn both(element: &OwnedElement, missing: &mut HashSet<usize>) -> HashSet<usize> {
    let mut to = HashSet::new();
    let raw = element.as_raw();
    let Some(query) = raw.child("query", ROSTER) else { return to };
    for item in query.children().filter(|child| child.is("item", ROSTER)) {
        let Some(contact) = item.attribute("jid").and_then(|jid| number(&jid)) else { continue };
        match item.attribute("subscription").as_deref() {
            Some("both") => {
                missing.remove(&contact);
            }
            Some("to") => {
                to.insert(contact);
            }
            _ => {}
        }
    }
    to
}

/// Reads until available presence of all contacts came.
pub(crate) async fn until_seen(client: &mut Client, ring: Ring, user: usize) -> Result<(), Failure> {
    let mut missing: HashSet<usize> = ring.of(user).collect();
    while !missing.is_empty() {
        let event = timeout(PATIENCE, client.next())
            .await
            .map_err(|_| format!("user{user} does not see {} of {} contacts", missing.len(), ring.contacts))??;
        match event {
            Event::Stanza(element) => {
                if let Some(contact) = available(&element) {
                    missing.remove(&contact);
                }
            }
            Event::Asked => client.answer().await?,
            Event::Message { .. } | Event::Other => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_mutual_and_nobody_is_its_own() {
        let ring = Ring { users: 21, contacts: 20 };
        for user in 0..ring.users {
            let contacts: HashSet<_> = ring.of(user).collect();
            assert_eq!(contacts.len(), 20);
            assert!(!contacts.contains(&user));
            assert!(contacts.iter().all(|contact| ring.of(*contact).any(|other| other == user)));
        }
    }

    #[test]
    fn strangers_have_only_others_as_contacts() {
        let ring = Ring { users: 200, contacts: 20 };
        let strangers: Vec<_> = ring.strangers().collect();
        assert!(strangers.len() >= 8);
        assert!(strangers.iter().all(|one| ring.of(*one).all(|contact| !strangers.contains(&contact))));
    }

    #[test]
    fn users_are_known_by_their_numbers() {
        assert_eq!(number("user12@localhost/load"), Some(12));
        assert_eq!(number("user12@localhost"), Some(12));
        assert_eq!(number("localhost"), None);
    }
}
