//! Presence and subscriptions of sessions without connections: with contacts of another domain, and where there is no
//! room.

mod outside;
mod pushes;
mod replaced;

use starling_link::{Bounds, Inbox, LocalLink, Parcel};
use starling_registry::{InstanceId, MemoryRegistry};
use starling_store::{Account, Accounts as _, ItemChange, JournalMetrics, PutMode, RosterItem, SqliteStore};
use starling_xml::{Limits, Scope};
use starling_xmpp::{
    jid::{BareJid, ResourcePart},
    random::SystemRandom,
    sasl::Credentials,
};
use tempfile::TempDir;

use super::*;
use crate::{
    Conflict, ExtensionOptions, Metrics, Parts, Policy, Step, all_extensions,
    extension::Extensions,
    subscription::{State, unknown},
};

const ROOM: Bounds = Bounds { stanzas: 1000, bytes: 1 << 20 };

/// A process that serves `example.com`, where Juliet and the nurse have accounts, and what it sends to `example.net`.
struct World {
    service: Arc<Service>,
    elsewhere: Inbox,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with_room(ROOM).await
    }

    async fn with_room(queue: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("starling.sqlite")).await.unwrap();
        let account = |jid: &str| Account { jid: jid.parse().unwrap(), credentials: Credentials::default() };
        let accounts = ["juliet@example.com", "nurse@example.com"].map(account);
        store.put(&accounts, PutMode::Create).await.unwrap();
        let link = Arc::new(LocalLink::new());
        let elsewhere = link.attach_domain("example.net", ROOM);
        let metrics = prometheus::Registry::new();
        let parts = Parts {
            instance: InstanceId(1),
            domains: vec!["example.com".to_owned()],
            policy: Policy {
                conflict: Conflict::Replace,
                resources_per_account: 8,
                queue,
                archive: false,
                offline_messages: 10,
            },
            registry: Arc::new(MemoryRegistry::new()),
            link,
            store: Arc::new(store),
            extensions: Extensions::new(all_extensions(ExtensionOptions::default())).unwrap(),
            metrics: Metrics::new(&metrics).unwrap(),
            journal: JournalMetrics::new(&metrics).unwrap(),
            revoked: tokio_util::sync::CancellationToken::new(),
        };
        Self { service: Arc::new(Service::new(parts)), elsewhere, _folder: folder }
    }

    async fn client(&self, account: &str, resource: &str) -> Client {
        let wish = ResourcePart::new(resource).unwrap().into_owned();
        let bound = self.service.bind(&account.parse().unwrap(), Some(wish), &mut SystemRandom).await;
        let Ok((session, inbox)) = bound else { panic!("{account}/{resource} is not bound") };
        Client { session, inbox }
    }

    /// Juliet's session that asked for the roster and is available.
    async fn juliet(&self) -> Client {
        let mut client = self.client("juliet@example.com", "balcony").await;
        client.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").await;
        client.send("<presence/>").await;
        client.came();
        client
    }

    /// What comes from the other domain's server.
    async fn comes(&self, text: &str) -> Fate {
        let element = starling_xml::parse(text, &Scope::client(), Limits::default()).unwrap();
        self.service.presence_from_outside(&Stanza::parse(element.as_raw()).unwrap()).await
    }

    /// What has gone to the other domain since the last time: type, sender and recipient.
    fn gone(&mut self) -> Vec<String> {
        taken(&mut self.elsewhere)
    }

    /// Brings Juliet's item of Romeo into a state.
    async fn put(&self, state: State, approved: bool) {
        let put = |_: Option<&RosterItem>| {
            ItemChange::Put(RosterItem {
                subscription: state.subscription(),
                ask: state.asks(),
                pending_in: state.is_asked().then(|| b"<presence type='subscribe'/>".to_vec()),
                approved,
                listed: state != State::NonePendingIn,
                ..unknown(&romeo())
            })
        };
        self.service.store().change_item(&juliet(), &romeo(), 10, &put).await.unwrap();
        self.service.forget_roster(&juliet());
    }

    /// The state of that item.
    async fn state(&self) -> State {
        let roster = self.service.store().roster(&juliet()).await.unwrap();
        State::of(roster.items.iter().find(|item| item.contact == romeo()))
    }
}

fn juliet() -> BareJid {
    "juliet@example.com".parse().unwrap()
}

fn romeo() -> BareJid {
    "romeo@example.net".parse().unwrap()
}

struct Client {
    session: Session,
    inbox: Inbox,
}

impl Client {
    /// What is answered at once.
    async fn send(&mut self, text: &str) -> String {
        let element = starling_xml::parse(text, &Scope::client(), Limits::default()).unwrap();
        let mut out = Vec::new();
        match self.session.handle(element.as_raw(), &mut out) {
            Ok(Step::Done) => {}
            Ok(Step::Wait(done)) => done.await,
            Err(error) => panic!("{error:?}"),
        }
        String::from_utf8(out).unwrap()
    }

    fn came(&mut self) -> Vec<String> {
        taken(&mut self.inbox)
    }
}

/// `type from to`, with `-` where there is none; of a roster push its item.
fn taken(inbox: &mut Inbox) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(parcel) = inbox.try_recv() {
        let Parcel::Stanza(envelope) = parcel else { continue };
        inbox.left(1, envelope.stanza.len());
        let text = std::str::from_utf8(&envelope.stanza).unwrap();
        let element = starling_xml::parse(text, &Scope::client(), Limits::default()).unwrap();
        let raw = element.as_raw();
        if let Some(query) = raw.child("query", "jabber:iq:roster") {
            let item = query.children().next().unwrap();
            let subscription = item.attribute("subscription").unwrap();
            let ask = if item.attribute("ask").is_some() { " ask" } else { "" };
            lines.push(format!("push {} {subscription}{ask}", item.attribute("jid").unwrap()));
            continue;
        }
        let attribute = |name: &str| raw.attribute(name).map_or_else(|| "-".to_owned(), |value| value.into_owned());
        lines.push(format!("{} {} {}", attribute("type"), attribute("from"), attribute("to")));
    }
    lines
}
