//! What all sessions of a process share, and how a resource is bound.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use starling_link::{Bounds, Envelope, Inbox, Link, Outcome};
use starling_registry::{Bound, InstanceId, OnConflict, Registry, SessionId, SessionRecord};
use starling_store::{
    Store,
    journal::{Journal, JournalConfig, JournalMetrics},
    messages::{MessageId, Messages},
};
use starling_xmpp::{
    error::{Condition, ErrorType, StanzaError, StreamCondition, StreamError},
    jid::{BareJid, FullJid, ResourcePart},
    random::Random,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    Metrics, Session,
    between::Streams,
    copies::Recent,
    extension::Extensions,
    keeping::{Ids, Keeper, Kept},
    offline::Waiting,
    privacy,
    roster::Rosters,
    untold::Untold,
};

/// What stanzas began and do not wait for; one more is not done.
const LATER: i64 = 8192;
/// How long a log-in waits for what is to be in the store before it.
const BARRIER: Duration = Duration::from_secs(2);

/// What happens when a client asks for a resource that is bound already (RFC 6120 §7.7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The older session ends with the stream error `conflict`: a client that reconnects gets its place back.
    Replace,
    /// The newer session is refused with `conflict`.
    Refuse,
    /// The newer session gets a resource that the server makes up.
    Rename,
}

/// The rules that an operator sets for sessions.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// What happens when a resource is bound already.
    pub conflict: Conflict,
    /// Resources that one account may have bound at once; one more is refused with `resource-constraint`
    /// (RFC 6120 §7.6.2.1).
    pub resources_per_account: usize,
    /// What may wait for one client. A message that no longer fits waits in the store; what is not kept is refused to its
    /// sender with `resource-constraint`.
    pub queue: Bounds,
    /// Whether messages stay in the archives of sender and recipient.
    pub archive: bool,
    /// Messages that may wait for one account; one more is refused with `resource-constraint`.
    pub offline_messages: u32,
}

/// What all sessions of a process share.
pub struct Service {
    instance: InstanceId,
    domains: Vec<String>,
    /// Asked when a resource is bound, not for a stanza.
    policy: ArcSwap<Policy>,
    /// What the policy said first: it is asked more than once for a message, and must not change in between.
    archive: bool,
    registry: Arc<dyn Registry>,
    link: Arc<dyn Link>,
    store: Arc<dyn Store>,
    extensions: Extensions,
    metrics: Metrics,
    tasks: TaskTracker,
    ids: Ids,
    journal: Journal<Kept>,
    untold: Arc<Untold>,
    waiting: Waiting,
    recent: Recent,
    rosters: Rosters,
    privacy: privacy::Cache,
    /// Set once, by whoever has the streams.
    streams: OnceLock<Arc<dyn Streams>>,
    /// Others have taken this instance for dead.
    revoked: CancellationToken,
}

/// What a [`Service`] stands on.
pub struct Parts {
    /// This run of this process.
    pub instance: InstanceId,
    /// The domains that are served, normalised as RFC 7622 §3.2 says.
    pub domains: Vec<String>,
    /// The rules.
    pub policy: Policy,
    /// Who is where.
    pub registry: Arc<dyn Registry>,
    /// The way between sessions.
    pub link: Arc<dyn Link>,
    /// What must last.
    pub store: Arc<dyn Store>,
    /// The extension containers.
    pub extensions: Extensions,
    /// What is counted.
    pub metrics: Metrics,
    /// What the journal counts.
    pub journal: JournalMetrics,
    /// Cancelled when others have taken this instance for dead: whatever it writes is refused, and its sessions are not its
    /// own any more.
    pub revoked: CancellationToken,
}

impl Service {
    /// Makes the rules of a process, and starts its journal: to be called within a runtime.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { instance, domains, policy, registry, link, store, extensions, metrics, journal, revoked } = parts;
        let tasks = TaskTracker::new();
        let untold = Arc::<Untold>::default();
        let keeper = Keeper {
            untold: Arc::clone(&untold),
            registry: Arc::clone(&registry),
            link: Arc::clone(&link),
            tasks: tasks.clone(),
            revoked: revoked.clone(),
        };
        let messages: Arc<dyn Messages> = Arc::clone(&store) as _;
        let journal = Journal::start(messages, Arc::new(keeper), JournalConfig::default(), &tasks, journal);
        Self {
            instance,
            domains,
            policy: ArcSwap::from_pointee(policy),
            archive: policy.archive,
            registry,
            link,
            store,
            extensions,
            metrics,
            tasks,
            ids: Ids::new(instance),
            journal,
            untold,
            waiting: Waiting::new(policy.offline_messages),
            recent: Recent::default(),
            rosters: Rosters::default(),
            privacy: privacy::Cache::default(),
            streams: OnceLock::new(),
            revoked,
        }
    }

    /// Other rules from now on, but for [`Policy::archive`], which stays. Sessions that are there keep their queues.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
        self.waiting.set_limit(policy.offline_messages);
    }

    pub(crate) fn revoked(&self) {
        self.revoked.cancel();
    }

    /// Ends what runs behind the sessions, which have ended: what is to be kept is written, or given up after a while.
    pub async fn close(&self) {
        self.journal.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What must last.
    #[must_use]
    pub const fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Does what a stanza begins and does not wait for. `false`, and nothing is done: too much of it is being done already.
    pub(crate) fn later(&self, what: impl Future<Output = ()> + Send + 'static) -> bool {
        if self.metrics.later.get() >= LATER {
            return false;
        }
        self.metrics.later.inc();
        let later = self.metrics.later.clone();
        self.tasks.spawn(async move {
            what.await;
            later.dec();
        });
        true
    }

    /// Whether accounts of `domain` live here.
    #[must_use]
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|served| served == domain)
    }

    /// Whether there is a way to other instances, or none is needed.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        !self.registry.are_shared() || self.link.members().contains_key(&self.instance)
    }

    /// Ends all streams of an account with `error`, as after it was removed or got another password. Returns how many were
    /// told.
    pub async fn close_account(&self, account: &BareJid, error: &StreamError) -> usize {
        match self.registry.sessions(account).await {
            Ok(sessions) => sessions.iter().filter(|held| self.link.close(held, error.clone())).count(),
            Err(error) => {
                warn!(%account, %error, "Streams of the account not ended.");
                0
            }
        }
    }

    /// The extension containers.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// What this process counts.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Who may not talk to whom.
    #[must_use]
    pub const fn privacy(&self) -> &privacy::Cache {
        &self.privacy
    }

    /// The rosters that were asked for lately.
    pub(crate) const fn rosters(&self) -> &Rosters {
        &self.rosters
    }

    /// Which messages were copied lately.
    pub(crate) const fn recent(&self) -> &Recent {
        &self.recent
    }

    /// How many messages wait for whom.
    pub(crate) const fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// What may wait for one client.
    pub(crate) fn queue(&self) -> Bounds {
        self.policy.load().queue
    }

    /// Whether messages stay in the archives.
    pub(crate) const fn archives(&self) -> bool {
        self.archive
    }

    pub(crate) fn next_id(&self) -> MessageId {
        self.ids.next()
    }

    /// Whether the journal takes nothing that may fail.
    pub(crate) fn is_journal_full(&self) -> bool {
        self.journal.is_full()
    }

    /// Hands a change to the journal. `Err`: it is full; only what may fail is refused.
    pub(crate) fn keep(&self, kept: Kept) -> Result<(), Kept> {
        self.journal.push(kept)
    }

    /// Whoever has the streams of this process: to be called once.
    pub fn set_streams(&self, streams: Arc<dyn Streams>) {
        self.streams.set(streams).ok();
    }

    pub(crate) fn streams(&self) -> Option<&Arc<dyn Streams>> {
        self.streams.get()
    }

    /// Forgets what is remembered of an account.
    pub(crate) fn forget(&self, account: &str) {
        privacy::forget(self, account);
        if let Ok(account) = BareJid::new(account) {
            self.forget_roster(&account);
        }
    }

    /// Accounts whose sessions are to be told of pending messages.
    pub(crate) fn untold(&self) -> &Untold {
        &self.untold
    }

    /// Waits until all that was handed to the journal before is written. A database that does not answer is not waited for
    /// long: order is then a lesser promise than an answer.
    /// Whether all of it is.
    pub async fn journal_barrier(&self) -> bool {
        let is_written = tokio::time::timeout(BARRIER, self.journal.barrier()).await.is_ok();
        if !is_written {
            debug!("The journal is not waited for any longer.");
        }
        is_written
    }

    /// Who is where.
    #[must_use]
    pub fn registry(&self) -> &dyn Registry {
        &*self.registry
    }

    /// The way between sessions.
    #[must_use]
    pub fn link(&self) -> &dyn Link {
        &*self.link
    }

    /// This run of this process.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Hands a stanza to one session, wherever it is.
    pub(crate) fn send(&self, to: &SessionRecord, envelope: &Arc<Envelope>) -> Outcome {
        self.link.deliver(&mut std::iter::once(to), envelope).outcome()
    }

    /// Binds a resource of an authenticated account (RFC 6120 §7). Without a wish, or where the wish is taken and the
    /// policy says so, the server makes one up that cannot be guessed.
    ///
    /// # Errors
    /// The stanza error to answer the bind request with: `conflict`, `resource-constraint`, or
    /// `internal-server-error` (type wait) if the registry is away.
    pub async fn bind(
        self: &Arc<Self>,
        account: &BareJid,
        wish: Option<ResourcePart>,
        random: &mut (dyn Random + Send),
    ) -> Result<(Session, Inbox), StanzaError> {
        let conflict = self.policy.load().conflict;
        let on_conflict = match conflict {
            Conflict::Replace => OnConflict::Replace,
            Conflict::Refuse | Conflict::Rename => OnConflict::Refuse,
        };
        let mut id = [0; 16];
        random.fill(&mut id);
        let id = SessionId(u128::from_be_bytes(id));
        if let Some(wish) = wish {
            match self.claim(account.with_resource(&wish), id, on_conflict).await? {
                Some(bound) => return Ok(bound),
                None if conflict == Conflict::Rename => {}
                None => return Err(Condition::Conflict.into()),
            }
        }
        let made_up = account.with_resource(&generated(random)?);
        self.claim(made_up, id, on_conflict).await?.ok_or_else(|| Condition::Conflict.into())
    }

    /// `None`: the resource is taken.
    async fn claim(
        self: &Arc<Self>,
        full: FullJid,
        id: SessionId,
        on_conflict: OnConflict,
    ) -> Result<Option<(Session, Inbox)>, StanzaError> {
        let record = SessionRecord::new(full.clone(), id, self.instance);
        let most = self.policy.load().resources_per_account;
        let replaced = match self.registry.bind(record, on_conflict, most).await {
            Ok(Bound::Claimed { replaced }) => replaced,
            Ok(Bound::Taken) => return Ok(None),
            Ok(Bound::TooMany) => return Err(Condition::ResourceConstraint.into()),
            Err(error) => {
                warn!(%full, %error, "No resource bound.");
                return Err(StanzaError::new(Condition::InternalServerError).with_kind(ErrorType::Wait));
            }
        };
        if let Some(replaced) = replaced {
            debug!(%full, "Session replaced by a newer one.");
            self.metrics.replaced.inc();
            self.link.close(&replaced, StreamCondition::Conflict.into());
            if !self.link.is_here(replaced.instance) {
                // Its own instance leaves it to this one, so that nobody hears of the end behind the beginning.
                self.bury(&replaced, None).await;
            }
        }
        self.roster_begins(&full.to_bare(), None);
        let inbox = self.link.attach(&full, id, self.queue());
        self.metrics.bound.inc();
        self.metrics.sessions.inc();
        Ok(Some((Session::new(Arc::clone(self), full, id), inbox)))
    }
}

/// 128 random bits as a resource (RFC 6120 §7.6.1; §13.7.2 asks that it cannot be guessed).
fn generated(random: &mut (dyn Random + Send)) -> Result<ResourcePart, StanzaError> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let name = format!("{:032x}", u128::from_be_bytes(bytes));
    ResourcePart::new(&name)
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| StanzaError::new(Condition::InternalServerError))
}
