//! One life of the server's process: what is shared by its sessions, and how connections find them.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
};

use starling_link::{Bounds, LocalLink};
use starling_registry::{InstanceId, MemoryRegistry};
use starling_session::{
    Conflict, ExtensionOptions, Metrics, Parts, Policy, Service, all_extensions, extension::Extensions,
};
use starling_store::{JournalMetrics, Messages};
use starling_xmpp::{
    jid::{BareJid, ResourcePart},
    random::Random,
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{facts::Shared, served::Served, store::Disk, store::MemoryStore, wire::End};
use crate::simulation::seeds::Dice;

/// What stays the same for all processes of a life.
#[derive(Clone, Copy)]
pub(crate) struct Config {
    pub(crate) archive: bool,
    /// Stanzas that may wait for one client.
    pub(crate) queue: usize,
    /// How long a session waits for its client, in seconds.
    pub(crate) resume_seconds: u32,
    /// The longest a change takes in the database, in milliseconds.
    pub(crate) slowness: u64,
}

/// A client that comes back: its new connection, and what it has handled.
pub(crate) struct Attach {
    pub(crate) end: End,
    pub(crate) h: u32,
}

pub(crate) struct Process {
    pub(crate) service: Arc<Service>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) config: Config,
    pub(crate) shared: Shared,
    /// Sessions that can be resumed, with their accounts.
    resumable: Mutex<BTreeMap<u128, (BareJid, mpsc::Sender<Attach>)>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    random: Mutex<Chance>,
}

/// Chance as the server wants it.
struct Chance(Dice);

impl Random for Chance {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.0.next() as u8);
    }
}

impl Process {
    pub(crate) async fn start(life: u64, config: Config, disk: &Arc<Mutex<Disk>>, shared: &Shared) -> Arc<Self> {
        let store = Arc::new(MemoryStore::new(disk, shared, config.slowness));
        let recovered = store.release(0, u32::MAX).await.unwrap().len();
        shared.say(|| format!("process {life} starts with {recovered} rows to deliver again"));
        let metrics = prometheus::Registry::new();
        let parts = Parts {
            instance: InstanceId(life),
            domains: vec!["example.com".to_owned()],
            policy: Policy {
                conflict: Conflict::Replace,
                resources_per_account: 8,
                queue: Bounds { stanzas: config.queue, bytes: 1 << 20 },
                archive: config.archive,
                offline_messages: 1000,
            },
            registry: Arc::new(MemoryRegistry::new()),
            link: Arc::new(LocalLink::new()),
            store: Arc::clone(&store) as _,
            extensions: Extensions::new(all_extensions(ExtensionOptions::default())).unwrap(),
            metrics: Metrics::new(&metrics).unwrap(),
            journal: JournalMetrics::new(&metrics).unwrap(),
            revoked: tokio_util::sync::CancellationToken::new(),
        };
        let random = Mutex::new(Chance(Dice::new(shared.dice().next())));
        Arc::new(Self {
            service: Arc::new(Service::new(parts)),
            store,
            config,
            shared: shared.clone(),
            resumable: Mutex::default(),
            tasks: Mutex::default(),
            random,
        })
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
    }

    /// The power fails: everything stops where it is.
    pub(crate) async fn kill(&self) {
        self.store.die();
        self.join(true).await;
        self.resumable.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Everybody has gone; what is left is written.
    pub(crate) async fn stop(&self) {
        self.join(false).await;
        self.service.close().await;
    }

    /// A task that failed fails the life.
    async fn join(&self, abort: bool) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if abort {
                task.abort();
            }
            if let Err(error) = task.await
                && error.is_panic()
            {
                resume_unwind(error.into_panic());
            }
        }
    }

    /// A connection of an account that has logged in.
    pub(crate) fn accept(self: &Arc<Self>, account: BareJid, end: End) {
        self.spawn(Arc::clone(self).log_in(account, end));
    }

    /// `<resume/>` or a bind request; after a resumption that fails the other.
    async fn log_in(self: Arc<Self>, account: BareJid, mut end: End) {
        while let Some(text) = poll_fn(|cx| end.poll_recv(cx)).await {
            let mut words = text.split(' ').skip(1);
            match (text.split(' ').next(), words.next(), words.next()) {
                (Some("resume"), Some(previd), Some(h)) => {
                    let (previd, h) = (previd.parse().unwrap(), h.parse().unwrap());
                    match self.resume(&account, previd, Attach { end, h }).await {
                        Ok(()) => return,
                        Err(back) => end = back,
                    }
                    end.send("<failed/>".to_owned());
                }
                (Some("bind"), Some(resource), _) => {
                    let wish = ResourcePart::new(resource).unwrap().into_owned();
                    let mut random =
                        Chance(Dice::new(self.random.lock().unwrap_or_else(PoisonError::into_inner).0.next()));
                    let (session, inbox) = self.service.bind(&account, Some(wish), &mut random).await.unwrap();
                    end.send("<bound/>".to_owned());
                    Served::new(self, session, inbox, end).run().await;
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn resume(&self, account: &BareJid, previd: u128, attach: Attach) -> Result<(), End> {
        let sender = {
            let resumable = self.resumable.lock().unwrap_or_else(PoisonError::into_inner);
            resumable.get(&previd).filter(|(owner, _)| owner == account).map(|(_, sender)| sender.clone())
        };
        match sender {
            Some(sender) => sender.send(attach).await.map_err(|attach| attach.0.end),
            None => Err(attach.end),
        }
    }

    /// Makes a session resumable.
    pub(crate) fn claim(&self, account: BareJid) -> (u128, mpsc::Receiver<Attach>) {
        let mut id = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut id);
        let id = u128::from_be_bytes(id);
        let (sender, receiver) = mpsc::channel(4);
        self.resumable.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (account, sender));
        (id, receiver)
    }

    pub(crate) fn give_up(&self, id: u128) {
        self.resumable.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
