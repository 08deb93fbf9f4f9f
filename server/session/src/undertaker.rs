//! What is done for instances that have died, and whether this one is still taken for alive.
//!
//! ```text
//!   gone from all routers ─┐
//!   lease over ────────────┴─► dead: revoke (store: it writes nothing any more) ─► end (link: what it held is settled)
//!                                      │ one of those that live has the duty
//!                                      ├─► its messages in flight wait; their accounts are poked
//!                                      └─► its sessions: those that can be resumed at the end of their time, others at once:
//!                                          removed, and those who saw them available learn that they are gone
//! ```
//!
//! Only what has died is buried: an instance that has a router, or a lease, is alive. Where the registry is away, nobody is
//! declared dead.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use starling_proto::instance::Details;
use starling_registry::{InstanceId, SessionRecord, StreamRecord, StreamState};
use starling_xmpp::jid::BareJid;
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{BackendAway, Service, keeping::poke};

/// How often it is looked who is there.
const LOOK: Duration = Duration::from_millis(250);
/// An instance that has no router for less is given the time to find another.
const ABSENT: Duration = Duration::from_secs(1);
/// How often the registry is asked for instances that nobody has seen.
const ASK: Duration = Duration::from_secs(5);
/// How often it is looked whether a burial goes on.
const GO_ON: Duration = Duration::from_secs(5);
/// A tick that comes so late says that this process did not run.
const PAUSE: Duration = Duration::from_secs(2);
/// How often it is tried to tell sessions of messages that wait for them, after it has failed.
const TELL: Duration = Duration::from_secs(1);
/// Messages in flight that one transaction makes pending.
const RELEASED: u32 = 1000;
/// Accounts that are asked for at once.
const ACCOUNTS: usize = 256;

impl Service {
    /// Does what is to be done for other instances, and for what was missed while the registry was away, until `stop`. `buries`:
    /// also what one does for all. Where nothing is shared, there are no others.
    pub async fn watch(self: Arc<Self>, buries: bool, stop: CancellationToken) {
        if !self.registry().are_shared() {
            return;
        }
        let watch = async {
            let service = Arc::clone(&self);
            tokio::join!(Undertaker::new(self, buries).run(), service.catch_up());
        };
        select! {
            biased;
            () = stop.cancelled() => {}
            () = watch => {}
        }
    }

    /// What a dead instance, which was revoked, had in flight waits from now on, and the sessions that it is for are poked:
    /// whatever is sent to them later, comes to them later.
    ///
    /// # Errors
    /// [`BackendAway`]; what was not released is released by a later call.
    pub async fn release_all(&self, instance: InstanceId) -> Result<(), BackendAway> {
        loop {
            let accounts = self.store().release(instance.0, RELEASED).await?;
            if accounts.is_empty() {
                return Ok(());
            }
            let accounts: Vec<_> = accounts.iter().filter_map(|account| BareJid::new(account).ok()).collect();
            // No later call finds these again.
            self.untold().add(accounts);
            self.tell_untold().await;
        }
    }

    /// While the registry was away, messages may have gone to the store without a word to the sessions that they are for.
    async fn catch_up(self: Arc<Self>) {
        let (mut renewals, mut again) = (self.registry().renewals(), interval(TELL));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_renewed = select! {
                biased;
                changed = renewals.changed() => match changed {
                    Ok(()) => true,
                    Err(_closed) => return,
                },
                _ = again.tick() => false,
            };
            self.tell_untold().await;
            if is_renewed {
                self.look_for_all().await;
            }
        }
    }

    /// Pokes sessions anywhere, whatever this instance has stored for them.
    async fn tell_untold(&self) {
        loop {
            let (accounts, additions) = self.untold().first(ACCOUNTS);
            if accounts.is_empty() {
                return;
            }
            match self.registry().sessions_for_certain(&accounts).await {
                Ok(all) => {
                    all.iter().for_each(|sessions| poke(self.link(), sessions));
                    self.untold().told(&accounts, &additions);
                }
                Err(error) => {
                    warn!(%error, accounts = accounts.len(), "Sessions not told of pending messages");
                    return;
                }
            }
        }
    }

    /// Pokes the sessions here for which something waits, whoever stored it.
    async fn look_for_all(&self) {
        let sessions = self.link().here();
        for some in sessions.chunks(ACCOUNTS) {
            let accounts: Vec<_> = some.iter().map(|record| starling_xmpp::jid::bare_str(&record.full)).collect();
            match self.store().waiting(&accounts).await {
                Ok(waiting) => {
                    for (record, _) in some.iter().zip(waiting).filter(|(_, waits)| *waits) {
                        self.link().poke(record);
                    }
                }
                Err(error) => warn!(%error, "Sessions not told of pending messages"),
            }
        }
    }
}

struct Undertaker {
    service: Arc<Service>,
    /// It may have the duty for those that have died.
    buries: bool,
    /// Those that were found dead here. Never again alive.
    dead: BTreeSet<InstanceId>,
    /// Those that the database knew when it was asked last.
    stored: BTreeSet<InstanceId>,
    burials: BTreeMap<InstanceId, Burial>,
    ticked: Instant,
    asked: Instant,
    went_on: Instant,
    has_router: bool,
}

/// What is left to do for a dead instance.
struct Burial {
    since: Duration,
    /// Its messages have been released.
    is_released: bool,
    /// Accounts with sessions that can be resumed until then (since 1970).
    waiting: HashMap<BareJid, Duration>,
}

impl Undertaker {
    fn new(service: Arc<Service>, buries: bool) -> Self {
        let now = Instant::now();
        Self {
            service,
            buries,
            dead: BTreeSet::new(),
            stored: BTreeSet::new(),
            burials: BTreeMap::new(),
            ticked: now,
            asked: now,
            went_on: now,
            has_router: false,
        }
    }

    async fn run(mut self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.tick().await {
                debug!(%error, "Not all that is to be done for other instances can be done now");
            }
        }
    }

    async fn tick(&mut self) -> Result<(), BackendAway> {
        let now = Instant::now();
        let was_paused = now.duration_since(self.ticked) > PAUSE;
        self.look_at_own(was_paused).await?;
        if self.has_router {
            let absent = self.service.link().absent();
            for (instance, since) in absent {
                // What was long ago for a process that was paused may have been a moment ago.
                if now.duration_since(since) > ABSENT && !was_paused {
                    self.declare(instance).await?;
                }
            }
            if now.duration_since(self.asked) > ASK {
                self.asked = now;
                let mut left = self.service.registry().dead().await?;
                // Those that a registry that was emptied knows nothing of.
                let stored: BTreeSet<_> = self.service.store().others().await?.into_iter().map(InstanceId).collect();
                // One that is starting is in the database before it has a lease or a router.
                left.extend(stored.intersection(&self.stored).copied());
                self.stored = stored;
                for instance in left {
                    self.declare(instance).await?;
                }
            }
        }
        if now.duration_since(self.went_on) > GO_ON {
            self.went_on = now;
            self.go_on().await?;
        }
        self.ticked = Instant::now();
        Ok(())
    }

    /// Whether this instance may still write, and hears what others say.
    async fn look_at_own(&mut self, was_paused: bool) -> Result<(), BackendAway> {
        let own = self.service.instance();
        let has_router = self.service.link().members().contains_key(&own);
        if has_router != self.has_router {
            // Without a router, nobody says here what has changed.
            self.service.privacy().trust(has_router);
            self.has_router = has_router;
        }
        if (was_paused || !has_router) && self.service.store().is_revoked().await? {
            self.service.revoked();
        }
        self.ticked = Instant::now();
        Ok(())
    }

    /// Declares an instance dead if it is.
    async fn declare(&mut self, instance: InstanceId) -> Result<(), BackendAway> {
        let is_attached = self.service.link().members().contains_key(&instance);
        if is_attached || self.service.link().is_here(instance) || self.dead.contains(&instance) {
            return Ok(());
        }
        if self.service.registry().is_alive(instance).await? {
            return Ok(());
        }
        // Nothing of it is written from here on.
        self.service.store().revoke(instance.0).await?;
        info!(%instance, "Instance has died");
        self.service.link().end(instance);
        self.dead.insert(instance);
        if !self.buries {
            return Ok(());
        }
        self.burials.insert(instance, Burial { since: since_1970(), is_released: false, waiting: HashMap::new() });
        self.bury(instance).await
    }

    async fn go_on(&mut self) -> Result<(), BackendAway> {
        for instance in self.burials.keys().copied().collect::<Vec<_>>() {
            self.bury(instance).await?;
        }
        Ok(())
    }

    /// Does what can be done for a dead instance by now, if nobody else has the duty.
    async fn bury(&mut self, instance: InstanceId) -> Result<(), BackendAway> {
        let Some(mut burial) = self.burials.remove(&instance) else { return Ok(()) };
        let done = burial.go_on(&self.service, instance).await;
        if !matches!(done, Ok(true)) {
            self.burials.insert(instance, burial);
        }
        done.map(drop)
    }
}

impl Burial {
    /// `true`: nothing is left to do.
    async fn go_on(&mut self, service: &Arc<Service>, instance: InstanceId) -> Result<bool, BackendAway> {
        let registry = service.registry();
        if !registry.claim_dead(instance).await? {
            // Whoever has the duty may die of it: it is looked again until nothing is left.
            return Ok(registry.accounts_of(instance, 1).await?.is_empty());
        }
        if !self.is_released {
            service.release_all(instance).await?;
            self.is_released = true;
        }
        loop {
            let known = self.waiting.len();
            let accounts = registry.accounts_of(instance, known + ACCOUNTS).await?;
            let is_all = accounts.len() < known + ACCOUNTS;
            let now = since_1970();
            let is_due = |account: &BareJid| self.waiting.get(account).is_none_or(|until| *until <= now);
            let due: Vec<_> = accounts.into_iter().filter(is_due).collect();
            for account in &due {
                self.account(service, instance, account).await?;
            }
            // For long, and nobody else is to begin meanwhile.
            registry.claim_dead(instance).await?;
            if is_all || due.is_empty() {
                break;
            }
        }
        if !self.waiting.is_empty() {
            return Ok(false);
        }
        registry.forget_instance(instance).await?;
        info!(%instance, "Everything of a dead instance is dealt with");
        Ok(true)
    }

    async fn account(
        &mut self,
        service: &Arc<Service>,
        instance: InstanceId,
        account: &BareJid,
    ) -> Result<(), BackendAway> {
        let registry = service.registry();
        let sessions = registry.sessions(account).await?;
        let mut waits = None;
        for record in sessions.iter().filter(|record| record.instance == instance) {
            let stream = match record.stream {
                Some(stream) => registry.stream(account, stream).await?,
                None => None,
            };
            match self.until(stream.as_ref()) {
                Some(until) if until > since_1970() => waits = waits.max(Some(until)),
                _ => end(service, record, stream.as_ref()).await?,
            }
        }
        match waits {
            Some(until) => drop(self.waiting.insert(account.clone(), until)),
            None => {
                registry.forget_account(instance, account).await?;
                self.waiting.remove(account);
            }
        }
        Ok(())
    }

    /// Until when a stream can be resumed, if it can.
    fn until(&self, stream: Option<&StreamRecord>) -> Option<Duration> {
        let stream = stream?;
        match stream.state {
            StreamState::Live => Some(self.since + Duration::from_secs(stream.seconds.into())),
            StreamState::Detached { until } => Some(Duration::from_millis(until)),
            StreamState::Ended => None,
        }
    }
}

/// Ends one session of a dead instance.
async fn end(service: &Arc<Service>, record: &SessionRecord, stream: Option<&StreamRecord>) -> Result<(), BackendAway> {
    if service.registry().evict(record).await? {
        debug!(full = %record.full, "Session of a dead instance ended");
        let details = stream.and_then(|stream| Details::decode(stream.details.as_slice()).ok());
        service.bury(record, details.as_ref()).await;
    }
    Ok(())
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
