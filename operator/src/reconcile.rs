//! One look after one server: from what it asks for to what there is, and to what people are told.
//!
//! ```text
//!   Secrets that we make ─► dereference ─► validate ─► build ─► plan ─► apply, stage by stage ─► left over? ─► status
//!                                              │                 └ held: told how many pods, and nothing else
//!                                              └ problems: nothing is done, and status says why
//! ```
//!
//! What is asked for and what there is come from watches. Requests are made to read what the server refers to, for what is to
//! be changed, and for a status that says something new.

mod stages;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client, Resource as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::error_boundary::InvalidObject,
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use crate::{
    apply::{self, Apply, Prepared},
    build::{Stage, build},
    contest::Contest,
    crd::{ConditionType, XmppServer, XmppServerStatus},
    deletion_cost,
    dereference::{Cluster, Dereferenced, Source},
    events, fetch,
    index::Index,
    inventory::{Inventory, Key, Need, ServerKey, Snapshot},
    lease::Leadership,
    memory::Memory,
    names::{self, Component},
    rollout::{self, Plan},
    secrets,
    status::{self, Finding, Outcome},
    telemetry::Metrics,
    validate::{Note, Problem, Validated, validate},
};

use self::stages::Stages;

/// A Job that has given up is made anew after so long: what it missed may be there by then.
pub(crate) const JOB_AGAIN: Duration = Duration::from_secs(5 * 60);
/// Looked after at least so often, should a watch ever miss something.
const RESYNC: Duration = Duration::from_secs(6 * 60 * 60);
/// Problems of a server that were not said by it itself.
const FIELDS_CONTESTED: &str = "FieldsContested";

/// What all looks share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) image: String,
    pub(crate) cluster: watch::Receiver<Cluster>,
    pub(crate) inventory: Inventory,
    /// Kinds that must have been listed before anything is taken for missing.
    pub(crate) kinds: BTreeSet<String>,
    pub(crate) index: Index,
    pub(crate) memory: Memory,
    pub(crate) contest: std::sync::Mutex<Contest>,
    pub(crate) leadership: Leadership,
    pub(crate) recorder: kube::runtime::events::Recorder,
    pub(crate) metrics: Metrics,
}

impl Context {
    /// Servers of a namespace, as what they are written: also those that cannot be understood.
    fn servers(&self, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<XmppServer>(&());
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }
}

/// Why a look failed: it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server does not answer, or not as it should.
    #[error("{what}: {source}")]
    Api { what: &'static str, source: Box<kube::Error> },
    /// Something could not be applied.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
    /// It cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

fn api(what: &'static str) -> impl Fn(kube::Error) -> Error {
    move |source| Error::Api { what, source: Box::new(source) }
}

/// How a look ended, and when to look again although nothing changes.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) outcome: &'static str,
    pub(crate) again: Duration,
}

/// Looks after a server.
pub(crate) async fn look_after(server: &XmppServer, context: &Context) -> Result<Looked, Error> {
    let key = ServerKey::of(&server.metadata);
    if server.metadata.deletion_timestamp.is_some() {
        // All that is its own goes with it: Kubernetes sees to that.
        return Ok(Looked { outcome: "ending", again: RESYNC });
    }
    if !context.leadership.holds() {
        return Err(apply::Error::NotLeading.into());
    }
    context.inventory.listed(&context.kinds).await;
    // Of what it keeps itself, no field is applied: the inventory would not tell that somebody changed it.
    let kept = secrets::kept(server).into_iter().map(|kept| (Source::Secret, kept.name));
    context.index.set(&key, fetch::sources(server).into_iter().chain(kept).collect());
    Look { server, key, context, now: SystemTime::now() }.run().await
}

struct Look<'a> {
    server: &'a XmppServer,
    key: ServerKey,
    context: &'a Context,
    now: SystemTime,
}

/// What became of the objects.
#[derive(Default)]
struct Applied {
    notes: Vec<Note>,
    /// When to look again for their sake.
    again: Vec<Duration>,
}

impl Look<'_> {
    fn uid(&self) -> &str {
        self.server.metadata.uid.as_deref().unwrap_or_default()
    }

    fn there(&self) -> Snapshot {
        self.context.inventory.of(&self.key, self.uid())
    }

    async fn run(self) -> Result<Looked, Error> {
        if self.server.spec.paused {
            return self.tell(None, Outcome::Paused, "paused", Vec::new()).await;
        }
        let client = &self.context.client;
        secrets::make(client, self.server, &self.there()).await.map_err(api("a generated Secret"))?;
        let link = secrets::link(client, self.server, self.now).await.map_err(api("the internal certificates"))?;
        let (link, problem) = match link {
            Ok(link) => (link, None),
            Err(problem) => (None, Some(problem)),
        };
        let due = link.as_ref().map(|link| link.due.duration_since(self.now).unwrap_or_default());
        let cluster = self.context.cluster.borrow().clone();
        let certificates = link.map(|link| link.certificates);
        let read = fetch::dereference(client, self.server, &self.context.image, cluster, certificates, self.now);
        let read = read.await.map_err(api("what the server refers to"))?;
        let problems = match (problem, validate(self.server, &read)) {
            (None, Ok(validated)) => return self.apply(&validated, &read, due.into_iter().collect()).await,
            (None, Err(problems)) => problems,
            // What follows from it would say the same again.
            (Some(problem), _) => vec![problem],
        };
        self.tell(Some(&read), Outcome::Invalid(&problems), "invalid", Vec::new()).await
    }

    async fn apply(
        &self,
        validated: &Validated,
        read: &Dereferenced,
        mut again: Vec<Duration>,
    ) -> Result<Looked, Error> {
        let stages = Stages::prepare(&build(validated))?;
        let there = self.there();
        let plan = rollout::plan(&stages.standings(&there));
        let applied = match self.apply_all(&stages, &there, &plan).await {
            Ok(applied) => applied,
            Err(error) if error.is_refusal() => {
                let outcome = Outcome::Refused { server: validated, message: error.to_string() };
                self.tell(Some(read), outcome, "failed", Vec::new()).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        again.extend(applied.again);
        let there = self.there();
        let plan = rollout::plan(&stages.standings(&there));
        let outcome = Outcome::Applied {
            server: validated,
            progress: &plan.progress,
            migration: stages.migration(&self.key.name, &there),
            notes: &applied.notes,
        };
        let name = if plan.progress == rollout::Progress::Complete { "settled" } else { "progressing" };
        self.tell(Some(read), outcome, name, again).await
    }

    async fn apply_all(&self, stages: &Stages, there: &Snapshot, plan: &Plan) -> Result<Applied, apply::Error> {
        let apply = Apply {
            client: &self.context.client,
            inventory: &self.context.inventory,
            leadership: &self.context.leadership,
            metrics: &self.context.metrics,
            server: &self.key,
            uid: self.uid(),
        };
        let mut applied = Applied::default();
        for (stage, objects) in stages.iter() {
            if plan.held.contains(&stage) {
                self.scale_held(&apply, stage, objects, there).await?;
                continue;
            }
            for object in objects {
                if self.is_contested(object, there, &mut applied) {
                    continue;
                }
                self.before_fewer(stage, object, there).await;
                apply.one(there, object, self.least(stage)).await?;
            }
        }
        self.failed_jobs(&apply, stages, there, &mut applied).await?;
        self.left_over(&apply, stages, there, plan).await?;
        Ok(applied)
    }

    /// Pods that must stay as they are may be more or fewer all the same.
    async fn scale_held(
        &self,
        apply: &Apply<'_>,
        stage: Stage,
        objects: &[Prepared],
        there: &Snapshot,
    ) -> Result<(), apply::Error> {
        for object in objects {
            let (Some(workload), Some(replicas)) = (stages::workload(there, &object.key), object.replicas()) else {
                continue;
            };
            if workload.wanted != replicas {
                self.before_fewer(stage, object, there).await;
                apply.scale(object, replicas).await?;
            }
        }
        Ok(())
    }

    /// Before pods for clients become fewer, Kubernetes is told which of them to take: the emptiest. Also while they already
    /// become fewer, for the next ones.
    async fn before_fewer(&self, stage: Stage, object: &Prepared, there: &Snapshot) {
        let Some(workload) = stages::workload(there, &object.key).filter(|_| stage == Stage::C2s) else { return };
        let is_told_fewer = object.replicas().is_some_and(|replicas| replicas < workload.wanted);
        let are_fewer = object.replicas().is_none() && workload.wanted < workload.replicas;
        if is_told_fewer || are_fewer {
            deletion_cost::write(&self.context.client, &self.key, Component::C2s).await;
        }
    }

    fn is_contested(&self, object: &Prepared, there: &Snapshot, applied: &mut Applied) -> bool {
        if object.need(there) != Need::Drifted {
            return false;
        }
        let mut contest = self.context.contest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Err(wait) = contest.change_back(&self.key, &object.key, Instant::now()) else { return false };
        let Key { kind, name } = &object.key;
        applied.notes.push(Note {
            about: ConditionType::Degraded,
            reason: FIELDS_CONTESTED,
            message: format!(
                "somebody keeps changing the {kind} {name}, which is the operator's: it is changed back more and more \
                 slowly (kubectl get --show-managed-fields says who)"
            ),
        });
        applied.again.push(wait);
        true
    }

    /// Of how many pods a Deployment is at first, if something else counts them.
    fn least(&self, stage: Stage) -> i32 {
        let spec = &self.server.spec;
        let pods = match stage {
            Stage::Shared | Stage::Migration => None,
            Stage::Routers => spec.router.as_ref().map(|router| &router.pods),
            Stage::Sessions => spec.session.as_ref().map(|session| &session.pods),
            Stage::C2s => Some(&spec.c2s.pods),
        };
        pods.and_then(|pods| pods.autoscaling.as_ref()).map_or(1, |scaling| scaling.min_replicas)
    }

    async fn failed_jobs(
        &self,
        apply: &Apply<'_>,
        stages: &Stages,
        there: &Snapshot,
        applied: &mut Applied,
    ) -> Result<(), apply::Error> {
        let now = Timestamp::try_from(self.now).unwrap_or(Timestamp::UNIX_EPOCH);
        for (key, failed) in stages.failed_jobs(there) {
            let due = failed + SignedDuration::try_from(JOB_AGAIN).unwrap_or_default();
            match Duration::try_from(due.duration_since(now)) {
                Ok(wait) if !wait.is_zero() => applied.again.push(wait),
                // Once it is gone, it is missing, and made.
                _ => apply.delete(key).await?,
            }
        }
        Ok(())
    }

    /// What is not to be there any more. Pods that are held may still use what they read.
    async fn left_over(
        &self,
        apply: &Apply<'_>,
        stages: &Stages,
        there: &Snapshot,
        plan: &Plan,
    ) -> Result<(), apply::Error> {
        let kept = secrets::kept(self.server);
        let is_read = |key: &Key| ["ConfigMap", "Secret", "ServiceAccount"].contains(&key.kind.as_str());
        for (key, child) in &there.children {
            let is_wanted = stages.contains(key) || kept.contains(key);
            let is_used = !plan.held.is_empty() && is_read(key);
            if is_wanted || is_used || child.is_ending {
                continue;
            }
            apply.delete(key).await?;
            self.context.metrics.orphans.inc();
        }
        Ok(())
    }

    /// Writes the status, if it says something new, and publishes what became otherwise.
    async fn tell(
        &self,
        read: Option<&Dereferenced>,
        outcome: Outcome<'_>,
        name: &'static str,
        mut again: Vec<Duration>,
    ) -> Result<Looked, Error> {
        let known = self.context.memory.status(&self.key, self.server);
        let server = XmppServer { status: known.clone(), ..self.server.clone() };
        let now = Timestamp::try_from(self.now).unwrap_or(Timestamp::UNIX_EPOCH);
        let there = self.there();
        let finding = Finding { now, there: &there, read, outcome };
        let (status, look) = status::status(&server, &finding);
        again.extend(look.and_then(|time| Duration::try_from(time.duration_since(now)).ok()));
        if known.as_ref() != Some(&status) {
            self.write(&status).await?;
            let before = known.map(|known| known.conditions).unwrap_or_default();
            publish(self.context, &self.key, self.server.object_ref(&()), &before, &status.conditions).await;
        }
        let again = again.into_iter().chain([RESYNC]).min().unwrap_or(RESYNC);
        Ok(Looked { outcome: name, again })
    }

    async fn write(&self, status: &XmppServerStatus) -> Result<(), Error> {
        if !self.context.leadership.holds() {
            return Err(apply::Error::NotLeading.into());
        }
        let patch = json!({
            "apiVersion": XmppServer::api_version(&()), "kind": XmppServer::kind(&()),
            "metadata": { "name": self.key.name }, "status": status,
        });
        let servers = self.context.servers(&self.key.namespace);
        let params = PatchParams::apply(names::MANAGER).force();
        let answer = servers.patch_status(&self.key.name, &params, &Patch::Apply(patch)).await;
        let answer = answer.map_err(api("the status"))?;
        self.context.memory.written(&self.key, &answer.metadata, status.clone());
        self.context.metrics.status_patches.inc();
        Ok(())
    }
}

/// Publishes what became otherwise of a server's conditions.
async fn publish(
    context: &Context,
    server: &ServerKey,
    reference: ObjectReference,
    before: &[Condition],
    now: &[Condition],
) {
    for event in events::transitions(before, now) {
        context.metrics.events.inc();
        info!(%server, condition = event.action, reason = event.reason, "A condition changed");
        if let Err(error) = context.recorder.publish(&event, &reference).await {
            // People miss a line; nothing depends on it.
            warn!(%error, "An Event could not be published");
        }
    }
}

/// Says of a resource that cannot be understood that it cannot be.
pub(crate) async fn undecodable(invalid: &InvalidObject, context: &Context) -> Result<Looked, Error> {
    let key = ServerKey::of(&invalid.metadata);
    if !context.leadership.holds() {
        return Err(apply::Error::NotLeading.into());
    }
    let servers = context.servers(&key.namespace);
    let looked = Looked { outcome: "undecodable", again: RESYNC };
    let Some(found) = servers.get_opt(&key.name).await.map_err(api("the resource"))? else { return Ok(looked) };
    let before = found.data.pointer("/status/conditions").cloned().unwrap_or_default();
    let before: Vec<Condition> = serde_json::from_value(before).unwrap_or_default();
    let problem = Problem {
        reason: "Undecodable",
        message: format!(
            "this operator does not understand the resource (is it of another release than the \
             CustomResourceDefinition?), and leaves everything as it is: {}",
            invalid.error
        ),
    };
    let conditions = status::undecodable(&before, &problem, invalid.metadata.generation, Timestamp::now());
    if conditions == before {
        return Ok(looked);
    }
    // Applied, it would take away what else we said in the status.
    let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    servers.patch_status(&key.name, &PatchParams::default(), &patch).await.map_err(api("the status"))?;
    context.metrics.status_patches.inc();
    let mut reference = found.object_ref(&ApiResource::erase::<XmppServer>(&()));
    reference.namespace = Some(key.namespace.clone());
    publish(context, &key, reference, &before, &conditions).await;
    Ok(looked)
}

/// Forgets what was known of a server that is gone.
pub(crate) fn forget(key: &ServerKey, context: &Arc<Context>) {
    context.index.remove(key);
    context.memory.forget(key);
    context.contest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).forget(key);
}
