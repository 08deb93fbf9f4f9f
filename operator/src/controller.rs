//! Watches, and looks after whomever a change concerns.
//!
//! ```text
//!   XmppServers ───────────────────────────────┐  generation, annotations
//!   what is made for them (by label) ──► inventory ──┤  changed by somebody else than us, or a state that matters
//!   Secrets, ConfigMaps (metadata) ──► index ────────┼─► queue: one entry a server, DEBOUNCE after the last change
//!   pods (metadata) ───────────────► inventory ──────┤        └─► reconcile, AT_ONCE servers at a time
//!   what the cluster offers ─────────────────────────┘                └── failed: again, later and later
//! ```
//!
//! A resource that cannot be understood stops none of the others: it comes through as such, and is told so.
//!
//! kube's own `Controller` would keep every object of every kind that it owns, and look again after each change of any of them.
//! Here the inventory keeps a few numbers of each, and says whether a change is worth a look.

mod known;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{ConfigMap, Pod, Secret, Service},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject, PartialObjectMeta},
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        controller::{self, Action, applier},
        events::{Recorder, Reporter},
        reflector::{ObjectRef, store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    apply,
    capabilities::{self, OPTIONAL},
    crd::XmppServer,
    dereference::{Cluster, Source},
    inventory::{Child, Inventory, ServerKey, State, Teller},
    lease::Leadership,
    names,
    reconcile::{self, Context, Error},
    telemetry::Metrics,
};

use self::known::Known;

type Guarded = DeserializeGuard<XmppServer>;

/// Changes that come together are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// Servers that are looked after at a time.
const AT_ONCE: u16 = 8;
/// For one look.
const LOOK: Duration = Duration::from_secs(120);
/// Objects of one page of a list. At the start, all kinds are listed at once: what the pages hold, with the API server's books
/// of their fields, is most of the memory that is ever needed.
const PAGE: u32 = 50;
/// Kinds that are made for every server, and have no state that matters.
const PLAIN: [&str; 6] =
    ["ConfigMap", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Secret", "ServiceAccount"];

/// What a controller is made of.
#[derive(Clone)]
pub struct Settings {
    /// To the API server.
    pub client: Client,
    /// Which namespace is looked after. `None`: all.
    pub namespace: Option<String>,
    /// The server's image, for those that name none.
    pub image: String,
    /// Who publishes Events.
    pub identity: String,
    /// What the cluster offers.
    pub cluster: watch::Receiver<Cluster>,
    /// Whether we lead.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("namespace", &self.namespace)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

/// A controller, which has not begun yet.
#[derive(Clone)]
pub struct Controller {
    context: Arc<Context>,
    namespace: Option<String>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Whom a change concerns.
type Concerned = Vec<ServerKey>;

/// A kind of objects in namespaces.
trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static
{
}

impl Controller {
    /// Makes one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let reporter = Reporter { controller: names::MANAGER.to_owned(), instance: Some(settings.identity) };
        let stateful = ["Deployment", "StatefulSet", "Job", "Service", "Pod"];
        let kinds = PLAIN.into_iter().chain(stateful).map(str::to_owned).collect();
        let context = Context {
            recorder: Recorder::new(settings.client.clone(), reporter),
            client: settings.client,
            image: settings.image,
            cluster: settings.cluster,
            inventory: Inventory::default(),
            kinds,
            index: Default::default(),
            memory: Default::default(),
            contest: Default::default(),
            leadership: settings.leadership,
            metrics: settings.metrics,
        };
        Self { context: Arc::new(context), namespace: settings.namespace }
    }

    /// To ask whether it knows what there is.
    pub fn is_ready(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let context = Arc::clone(&self.context);
        move || context.inventory.is_listed(&context.kinds)
    }

    /// Works until `stop`; then looks that have begun are finished.
    pub async fn run(self, stop: CancellationToken) {
        let (servers, writer) = store::<Guarded>();
        let context = Arc::clone(&self.context);
        let own = self.servers(writer);
        let mut sources: Vec<BoxStream<'static, Concerned>> = vec![own, self.pods()];
        sources.extend(PLAIN.into_iter().filter_map(|kind| {
            let events = self.watch(self.dynamic(&apply::resource(kind)?), ours());
            Some(self.plain(kind, events))
        }));
        sources.push(self.stateful::<Deployment>());
        sources.push(self.stateful::<StatefulSet>());
        sources.push(self.stateful::<Job>());
        sources.push(self.stateful::<Service>());
        sources.extend(OPTIONAL.into_iter().filter_map(|(.., kind, _)| self.optional(kind)));
        sources.push(self.referred::<Secret>(Source::Secret));
        sources.push(self.referred::<ConfigMap>(Source::ConfigMap));
        let all = {
            let (servers, offers) = (servers.clone(), context.cluster.clone());
            let changes = changes(offers);
            changes.map(move |()| servers.state().iter().map(|server| ServerKey::of(server.meta())).collect())
        };
        sources.push(all.boxed());
        let queue = stream::select_all(sources)
            .flat_map(|concerned| stream::iter(concerned.into_iter().map(|key| Ok::<_, Infallible>(reference(&key)))))
            .take_until(stop.cancelled_owned());
        let config = controller::Config::default().debounce(DEBOUNCE).concurrency(AT_ONCE);
        let looks = applier(
            |server: Arc<Guarded>, context| Box::pin(look(server, context)),
            |server: Arc<Guarded>, _: &Error, context: Arc<Context>| {
                let wait = context.memory.failed(&ServerKey::of(server.meta()), &server.uid().unwrap_or_default());
                Action::requeue(wait)
            },
            context,
            servers,
            queue,
            config,
        );
        looks
            .for_each(|looked| async move {
                match looked {
                    Ok(_) => {}
                    Err(controller::Error::ReconcilerFailed(error, server)) => {
                        warn!(%server, %error, "A server could not be looked after; tried again");
                    }
                    // It was deleted before we came to look.
                    Err(error) => debug!(%error, "A look that was not to be"),
                }
            })
            .await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let client = self.context.client.clone();
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    fn dynamic(&self, resource: &ApiResource) -> Api<PartialObjectMeta<DynamicObject>> {
        let client = self.context.client.clone();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
            None => Api::all_with(client, resource),
        }
    }

    /// The servers themselves.
    fn servers(&self, mut writer: Writer<Guarded>) -> BoxStream<'static, Concerned> {
        let context = Arc::clone(&self.context);
        let events = self.watch(self.api::<Guarded>(), watcher::Config::default().page_size(PAGE));
        // Who holds the books is of no use here, and larger than all the rest.
        let events = events.map(|event| event.modify(|server| server.meta_mut().managed_fields = None));
        let mut known = Known::default();
        let take = move |event: Event<Guarded>| {
            writer.apply_watcher_event(&event);
            let (concerned, gone) = known.take(&event);
            concerned.iter().for_each(|key| context.memory.know(key));
            gone.iter().for_each(|key| reconcile::forget(key, &context));
            context.metrics.servers.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
            concerned
        };
        events.map(take).boxed()
    }

    fn pods(&self) -> BoxStream<'static, Concerned> {
        let context = Arc::clone(&self.context);
        let config = ours().labels("app.kubernetes.io/name=starling,app.kubernetes.io/instance");
        let events = self.watch(self.api::<PartialObjectMeta<Pod>>(), config);
        let mut teller = Teller::new("Pod");
        let read = |pod: &PartialObjectMeta<Pod>| Child::read_pod(&pod.metadata);
        events.map(move |event| teller.take(&context.inventory, event, read)).boxed()
    }

    /// A kind of which metadata says enough.
    fn plain(
        &self,
        kind: &str,
        events: impl Stream<Item = Event<PartialObjectMeta<DynamicObject>>> + Send + 'static,
    ) -> BoxStream<'static, Concerned> {
        let context = Arc::clone(&self.context);
        let mut teller = Teller::new(kind);
        let read = |object: &PartialObjectMeta<DynamicObject>| Child::read(&object.metadata, State::Plain);
        events.map(move |event| teller.take(&context.inventory, event, read)).boxed()
    }

    /// A kind that is watched while the cluster has it.
    fn optional(&self, kind: &'static str) -> Option<BoxStream<'static, Concerned>> {
        let (resource, this) = (apply::resource(kind)?, self.clone());
        let watches = stream::unfold(this.context.cluster.clone(), move |mut offers| {
            let (resource, this) = (resource.clone(), this.clone());
            async move {
                // Without a sender nothing is offered any more: the process ends.
                if offers.wait_for(|cluster| capabilities::has(cluster, kind)).await.is_err() {
                    return None;
                }
                let mut later = offers.clone();
                let gone = async move {
                    if later.wait_for(|cluster| !capabilities::has(cluster, kind)).await.is_err() {
                        pending().await
                    }
                };
                let events = this.watch(this.dynamic(&resource), ours()).take_until(gone);
                // All objects of a kind go with it: a list of none.
                let events = events.chain(stream::iter([Event::Init, Event::InitDone]));
                Some((this.plain(kind, events), offers))
            }
        });
        Some(watches.flatten().boxed())
    }

    /// A kind whose state matters.
    fn stateful<K: Watched>(&self) -> BoxStream<'static, Concerned>
    where
        State: for<'a> From<&'a K>,
    {
        let context = Arc::clone(&self.context);
        let events = self.watch(self.api::<K>(), ours());
        let mut teller = Teller::new(&K::kind(&()));
        let read = |object: &K| Child::read(object.meta(), State::from(object));
        events.map(move |event| teller.take(&context.inventory, event, read)).boxed()
    }

    /// A kind that servers refer to, whoever made it.
    fn referred<K: Watched>(&self, source: Source) -> BoxStream<'static, Concerned> {
        let context = Arc::clone(&self.context);
        let config = watcher::Config::default().page_size(PAGE);
        let events = self.watch(self.api::<PartialObjectMeta<K>>(), config);
        let mut relisted: Option<BTreeSet<(String, String)>> = None;
        let take = move |event: Event<PartialObjectMeta<K>>| match event {
            Event::Init => {
                relisted = Some(BTreeSet::new());
                Vec::new()
            }
            Event::Apply(object) | Event::InitApply(object) => {
                let ServerKey { namespace, name } = ServerKey::of(&object.metadata);
                let concerned = context.index.heard(source, &namespace, &name, object.resource_version());
                if let Some(relisted) = &mut relisted {
                    relisted.insert((namespace, name));
                }
                concerned
            }
            Event::Delete(object) => {
                let ServerKey { namespace, name } = ServerKey::of(&object.metadata);
                context.index.heard(source, &namespace, &name, None)
            }
            Event::InitDone => context.index.relisted(source, &relisted.take().unwrap_or_default()),
        };
        events.map(take).boxed()
    }

    /// Events of a watch, which is begun anew when it fails, later and later.
    fn watch<K>(&self, api: Api<K>, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let errors = self.context.metrics.watch_errors.clone();
        let kind = api.resource_url().to_owned();
        watcher(api, config).default_backoff().filter_map(move |event| {
            let event = match event {
                Ok(event) => Some(event),
                Err(error) => {
                    warn!(kind, %error, "A watch failed; it is begun anew");
                    errors.inc();
                    None
                }
            };
            ready(event)
        })
    }
}

/// What carries our label.
fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={}", names::MANAGER)).page_size(PAGE)
}

fn reference(key: &ServerKey) -> ObjectRef<Guarded> {
    ObjectRef::new(&key.name).within(&key.namespace)
}

/// An item for each time that the value changes, until nobody can change it any more.
fn changes<T: Clone + Send + Sync + 'static>(receiver: watch::Receiver<T>) -> impl Stream<Item = ()> + Send {
    stream::unfold(receiver, |mut receiver| async move { receiver.changed().await.is_ok().then_some(((), receiver)) })
}

async fn look(server: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let begun = Instant::now();
    let looked = async {
        match &server.0 {
            Ok(server) => reconcile::look_after(server, &context).await,
            Err(invalid) => reconcile::undecodable(invalid, &context).await,
        }
    };
    let looked = timeout(LOOK, looked).await.unwrap_or(Err(Error::TimedOut));
    context.metrics.seconds.observe(begun.elapsed().as_secs_f64());
    let outcome = looked.as_ref().map_or("failed", |looked| looked.outcome);
    context.metrics.reconciliations.with_label_values(&[outcome]).inc();
    let looked = looked?;
    context.memory.succeeded(&ServerKey::of(server.meta()));
    Ok(Action::requeue(looked.again))
}
