//! Leader election: of several operators one writes, and the others wait.
//!
//! ```text
//!   acquire: free, given up, or not renewed for its duration ──► Held ──► keep: renews it
//!                                                                          ├── told to stop: gives it up
//!                                                                          └── taken, or not renewed in time: Lost
//! ```
//!
//! Whoever loses it ends, process and all: nothing that it began can then be finished beside its successor. In between,
//! [`Leadership::holds`] is asked before each write; it is false as soon as others may take the Lease, also when the process
//! was stopped or its machine slept in between.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Error as KubeError, ResourceExt as _,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// One request's answer is waited for so long.
const ANSWER: Duration = Duration::from_secs(5);
/// After a request that failed.
const AGAIN: Duration = Duration::from_secs(2);

/// Which Lease, and who wants it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who wants it; different for each process.
    pub identity: String,
    /// How long others wait for a holder that does not renew it. It is renewed three times as often.
    pub duration: Duration,
}

/// Why it was lost.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Somebody else has it.
    #[error("{0} has taken the Lease")]
    Taken(String),
    /// It was deleted.
    #[error("the Lease was deleted")]
    Deleted,
    /// It could not be renewed in time.
    #[error("the Lease could not be renewed in time: {0}")]
    NotRenewed(String),
}

/// Whether this process leads. Cheap to ask, and to clone.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Until>>);

/// By both clocks: one stands still while the machine sleeps, the other can be set.
#[derive(Clone, Copy, Debug)]
struct Until {
    monotonic: Instant,
    wall: SystemTime,
}

impl Until {
    fn from_now(duration: Duration) -> Self {
        Self { monotonic: Instant::now() + duration, wall: SystemTime::now() + duration }
    }
}

impl Leadership {
    /// Whether nobody else can have the Lease yet.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until.monotonic && SystemTime::now() < until.wall)
    }
}

/// The Lease, held.
#[derive(Debug)]
pub struct Held {
    api: Api<Lease>,
    settings: Settings,
    lease: Lease,
    until: watch::Sender<Option<Until>>,
}

/// Waits for the Lease, and takes it. Returns `None` if it is told to stop before.
pub async fn acquire(client: Client, settings: Settings, stop: &CancellationToken) -> Option<Held> {
    let api = Api::namespaced(client, &settings.namespace);
    let found = stop.run_until_cancelled(candidate(&api, &settings)).await;
    let (lease, until) = found?;
    info!(lease = settings.name, identity = settings.identity, "This operator leads");
    Some(Held { api, settings, lease, until: watch::Sender::new(Some(until)) })
}

async fn candidate(api: &Api<Lease>, settings: &Settings) -> (Lease, Until) {
    let mut changes = Box::pin(watch_object(api.clone(), &settings.name).default_backoff());
    // The Lease as it was last, and when it may be taken: by our own clock, from when it last changed.
    let mut seen: Option<Lease> = None;
    let mut free_at: Option<Instant> = None;
    let mut others = None;
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(lease)) => {
                    let now = Instant::now();
                    free_at = Some(lease.as_ref().map_or(now, |lease| free_at_of(lease, settings, now)));
                    let holder = lease.as_ref().and_then(holder);
                    if holder.is_some() && holder != others {
                        info!(holder = holder.as_deref().unwrap_or_default(), "Another operator leads; this one waits");
                        others = holder;
                    }
                    seen = lease;
                }
                Some(Err(error)) => warn!(%error, "The Lease cannot be watched"),
                // It never ends.
                None => sleep(AGAIN).await,
            },
            () = sleep_until(free_at.unwrap_or_else(Instant::now)), if free_at.is_some() => {
                let until = Until::from_now(settings.duration);
                match timeout(ANSWER, take(api, settings, seen.as_ref())).await {
                    Ok(Ok(lease)) => return (lease, until),
                    // Somebody was faster, which will be heard.
                    Ok(Err(KubeError::Api(status))) if status.code == 409 => free_at = None,
                    Ok(Err(error)) => {
                        warn!(%error, "The Lease cannot be taken");
                        free_at = Some(Instant::now() + AGAIN);
                    }
                    Err(_) => free_at = Some(Instant::now() + AGAIN),
                }
            }
        }
    }
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone().filter(|holder| !holder.is_empty())
}

fn free_at_of(lease: &Lease, settings: &Settings, now: Instant) -> Instant {
    match holder(lease) {
        // A process that was started again under its old name.
        Some(holder) if holder == settings.identity => now,
        Some(_) => {
            let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
            let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
            now + seconds.map_or(settings.duration, Duration::from_secs)
        }
        None => now,
    }
}

async fn take(api: &Api<Lease>, settings: &Settings, seen: Option<&Lease>) -> Result<Lease, KubeError> {
    let mut lease = seen.cloned().unwrap_or_default();
    let before = lease.spec.take().unwrap_or_default();
    let now = Some(MicroTime(Timestamp::now()));
    let transitions = before.lease_transitions.unwrap_or_default();
    lease.metadata.name = Some(settings.name.clone());
    lease.metadata.managed_fields = None;
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(settings.identity.clone()),
        lease_duration_seconds: i32::try_from(settings.duration.as_secs()).ok(),
        acquire_time: now.clone(),
        renew_time: now,
        lease_transitions: Some(transitions.saturating_add(i32::from(seen.is_some()))),
        ..before
    });
    match seen {
        // Its version stands in it: whoever was faster wins.
        Some(_) => api.replace(&settings.name, &PostParams::default(), &lease).await,
        None => api.create(&PostParams::default(), &lease).await,
    }
}

impl Held {
    /// To ask whether it still is.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership(self.until.subscribe())
    }

    /// Renews it until `stop`, and then gives it up.
    ///
    /// # Errors
    /// When it is lost.
    pub async fn keep(mut self, stop: CancellationToken) -> Result<(), Lost> {
        let interval = self.settings.duration / 3;
        let mut next = Instant::now() + interval;
        let outcome = loop {
            // Nothing is lost when this is dropped: it is only a time.
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                () = sleep_until(next) => {}
            }
            match self.renew().await {
                Ok(()) => next = Instant::now() + interval,
                Err(Renewal::Lost(lost)) => break Err(lost),
                Err(Renewal::Failed(error)) => {
                    // Ended a little before others may begin.
                    let is_over =
                        self.until.borrow().is_none_or(|until| until.monotonic < Instant::now() + interval / 2);
                    if is_over {
                        break Err(Lost::NotRenewed(error));
                    }
                    warn!(error, "The Lease could not be renewed; tried again");
                    next = Instant::now() + AGAIN;
                }
            }
        };
        self.until.send_replace(None);
        if outcome.is_ok() {
            self.give_up().await;
        }
        outcome
    }

    async fn renew(&mut self) -> Result<(), Renewal> {
        let until = Until::from_now(self.settings.duration);
        let mut lease = self.lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match self.replace(&lease).await {
            Ok(lease) => {
                self.lease = lease;
                self.until.send_replace(Some(until));
                Ok(())
            }
            Err(Renewal::Lost(Lost::Taken(_))) => {
                // Somebody wrote to it, and may have left the holder as it was.
                let found = timeout(ANSWER, self.api.get(&self.settings.name)).await;
                let found = found.map_err(|_| Renewal::Failed("no answer".to_owned()))?;
                let found = found.map_err(|error| Renewal::Failed(error.to_string()))?;
                let holder = holder(&found).unwrap_or_else(|| "nobody".to_owned());
                if holder != self.settings.identity {
                    return Err(Renewal::Lost(Lost::Taken(holder)));
                }
                self.lease = found;
                Err(Renewal::Failed("it was changed by somebody".to_owned()))
            }
            Err(other) => Err(other),
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Renewal> {
        let params = PostParams::default();
        match timeout(ANSWER, self.api.replace(&lease.name_any(), &params, lease)).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(KubeError::Api(status))) if status.code == 409 => Err(Renewal::Lost(Lost::Taken(String::new()))),
            Ok(Err(KubeError::Api(status))) if status.code == 404 => Err(Renewal::Lost(Lost::Deleted)),
            Ok(Err(error)) => Err(Renewal::Failed(error.to_string())),
            Err(_) => Err(Renewal::Failed("no answer".to_owned())),
        }
    }

    /// So that the next one need not wait.
    async fn give_up(&mut self) {
        let mut lease = self.lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        match self.replace(&lease).await {
            Ok(_) => info!("The Lease is given up"),
            Err(error) => warn!(?error, "The Lease could not be given up; others wait for its end"),
        }
    }
}

#[derive(Debug)]
enum Renewal {
    Lost(Lost),
    Failed(String),
}
