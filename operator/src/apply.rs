//! Brings objects into the cluster by server-side apply, and takes away what is left over.
//!
//! ```text
//!   object ──► as we left it? (inventory) ──yes──► nothing, not even a request
//!                    │ no
//!                    ├── not known: does somebody else have one of that name? then it is left alone
//!                    └── apply, by force: of what we say, we are the owner
//! ```
//!
//! Two things are not said by apply alone. How many pods there are, while something else counts: the field is handed to
//! another manager first, for a field that nobody says any more goes back to 1. And what a held Deployment may still be told:
//! how many pods.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::Service,
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};
use tracing::info;

use crate::{
    build::Object,
    hash,
    inventory::{Inventory, Key, Need, ServerKey, Snapshot, State, TEMPLATE_HASH},
    lease::Leadership,
    names,
    telemetry::Metrics,
};

/// Who says how many pods there are, once something else is to count them.
const SCALE_MANAGER: &str = "starling-operator-scale";

/// Why something could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another operator may lead by now.
    #[error("this operator does not lead any more")]
    NotLeading,
    /// Somebody else's object has the name.
    #[error("there is a {kind} {name} already, which is not this server's: it is left alone; delete or rename it")]
    Taken {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server does not take it.
    #[error("{kind} {name}: {source}")]
    Api {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// It cannot be written as JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether it stays as it is until somebody changes something: then people are told.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotLeading => false,
            Self::Taken { .. } | Self::Json(_) => true,
            // Neither of races, nor of a namespace that ends, nor of a server that is busy.
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => {
                    let is_ending = status.message.contains("is being terminated");
                    (400..500).contains(&status.code) && ![404, 409, 429].contains(&status.code) && !is_ending
                }
                _ => false,
            },
        }
    }
}

/// An object, ready to be applied.
#[derive(Debug)]
pub struct Prepared {
    /// What it is called.
    pub key: Key,
    resource: ApiResource,
    value: Value,
    /// Of all of it.
    digest: String,
    /// Of its pod template, if it keeps pods running.
    pub template: Option<String>,
}

impl Prepared {
    /// Prepares it.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn new(object: &Object) -> serde_json::Result<Self> {
        let (resource, mut value) = (object.resource(), object.to_value()?);
        let keeps_pods = ["Deployment", "StatefulSet"].contains(&resource.kind.as_str());
        let template = value.pointer("/spec/template").filter(|_| keeps_pods);
        let template = template.map(|template| hash::long(template.to_string().as_bytes()));
        if let Some(template) = &template
            && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
        {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(TEMPLATE_HASH.to_owned(), json!(template));
            }
        }
        let digest = hash::long(value.to_string().as_bytes());
        let key = Key { kind: resource.kind.clone(), name: object.name().to_owned() };
        Ok(Self { key, resource, value, digest, template })
    }

    /// The digest of all of it.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many pods it says there are to be.
    #[must_use]
    pub fn replicas(&self) -> Option<i32> {
        self.value.pointer("/spec/replicas").and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok())
    }
}

/// What applies, for one server.
#[derive(Clone, Copy)]
pub struct Apply<'a> {
    /// To the API server.
    pub client: &'a Client,
    /// What there is, and where the answers are noted.
    pub inventory: &'a Inventory,
    /// Asked before each write.
    pub leadership: &'a Leadership,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// Whose objects they are.
    pub server: &'a ServerKey,
    /// Its UID.
    pub uid: &'a str,
}

impl std::fmt::Debug for Apply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apply").field("server", self.server).finish_non_exhaustive()
    }
}

impl Apply<'_> {
    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.server.namespace, resource)
    }

    fn lead(&self) -> Result<(), Error> {
        if self.leadership.holds() { Ok(()) } else { Err(Error::NotLeading) }
    }

    /// Brings one object into the cluster, unless it is there as it is to be. `least`: how many pods a Deployment has at
    /// first, if something else counts them.
    ///
    /// # Errors
    /// If it cannot be, or must not.
    pub async fn one(&self, there: &Snapshot, object: &Prepared, least: i32) -> Result<Need, Error> {
        let need = there.need(&object.key, &object.digest);
        let why = match need {
            Need::Nothing => return Ok(need),
            Need::Missing => "missing",
            Need::Changed => "changed",
            Need::Drifted => "drifted",
        };
        let (api, Key { kind, name }) = (self.api(&object.resource), &object.key);
        let failed = |source| Error::Api { kind: kind.clone(), name: name.clone(), source: Box::new(source) };
        self.lead()?;
        if need == Need::Missing {
            let found = api.get_metadata_opt(name).await.map_err(failed)?;
            if found.is_some_and(|found| !self.owns(&found.metadata)) {
                return Err(Error::Taken { kind: kind.clone(), name: name.clone() });
            }
        }
        let workload = there.children.get(&object.key).and_then(|child| match &child.state {
            State::Workload(workload) => Some(workload),
            _ => None,
        });
        let others_count = kind == "Deployment" && object.replicas().is_none();
        if let Some(workload) = workload.filter(|workload| others_count && workload.counts_for_us) {
            self.hand_over(&api, object, workload.wanted).await.map_err(failed)?;
        }
        self.lead()?;
        let params = PatchParams::apply(names::MANAGER).force();
        let answer = api.patch(name, &params, &Patch::Apply(&object.value)).await.map_err(failed)?;
        self.note(object, &answer)?;
        if others_count && need == Need::Missing {
            let answer = self.hand_over(&api, object, least).await.map_err(failed)?;
            self.note(object, &answer)?;
        }
        info!(server = %self.server, kind, name, why, "Applied");
        self.metrics.applied.with_label_values(&[why]).inc();
        Ok(need)
    }

    fn note(&self, object: &Prepared, answer: &DynamicObject) -> Result<(), Error> {
        let state = state(&object.key.kind, answer)?;
        self.inventory.applied(&object.key.kind, &answer.metadata, state, &object.digest);
        Ok(())
    }

    fn owns(&self, meta: &ObjectMeta) -> bool {
        meta.owner_references.iter().flatten().any(|owner| owner.uid == self.uid)
    }

    /// Another manager says that there are so many pods; whoever counts them changes that as it likes.
    async fn hand_over(
        &self,
        api: &Api<DynamicObject>,
        object: &Prepared,
        replicas: i32,
    ) -> Result<DynamicObject, kube::Error> {
        let Key { kind, name } = &object.key;
        let patch = json!({
            "apiVersion": object.resource.api_version, "kind": kind, "metadata": { "name": name },
            "spec": { "replicas": replicas },
        });
        api.patch(name, &PatchParams::apply(SCALE_MANAGER).force(), &Patch::Apply(patch)).await
    }

    /// Tells a Deployment how many pods there are to be, and leaves all else of it as it is.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn scale(&self, object: &Prepared, replicas: i32) -> Result<(), Error> {
        self.lead()?;
        let Key { kind, name } = &object.key;
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let done = self.api(&object.resource).patch_scale(name, &PatchParams::default(), &patch).await;
        done.map_err(|source| Error::Api { kind: kind.clone(), name: name.clone(), source: Box::new(source) })?;
        info!(server = %self.server, kind, name, replicas, "Scaled");
        Ok(())
    }

    /// Takes an object away, and what it owns.
    ///
    /// # Errors
    /// If it cannot be taken away. That it is gone already is no error.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        let Some(resource) = resource(&key.kind) else { return Ok(()) };
        self.lead()?;
        match self.api(&resource).delete(&key.name, &DeleteParams::background()).await {
            Ok(_) => {
                info!(server = %self.server, kind = key.kind, name = key.name, "Deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(Error::Api { kind: key.kind.clone(), name: key.name.clone(), source: Box::new(source) }),
        }
    }
}

/// Where a kind is found that is made for servers.
#[must_use]
pub fn resource(kind: &str) -> Option<ApiResource> {
    use k8s_openapi::api::{
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, Secret, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    };
    Some(match kind {
        "ConfigMap" => ApiResource::erase::<ConfigMap>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "HorizontalPodAutoscaler" => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        "Job" => ApiResource::erase::<Job>(&()),
        "NetworkPolicy" => ApiResource::erase::<NetworkPolicy>(&()),
        "PodDisruptionBudget" => ApiResource::erase::<PodDisruptionBudget>(&()),
        "Secret" => ApiResource::erase::<Secret>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "ServiceAccount" => ApiResource::erase::<ServiceAccount>(&()),
        "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
        kind => {
            let optional = crate::capabilities::OPTIONAL.into_iter().find(|(.., of, _)| *of == kind);
            let (group, version, kind, plural) = optional?;
            ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: format!("{group}/{version}"),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            }
        }
    })
}

/// What of an object's state matters.
fn state(kind: &str, object: &DynamicObject) -> serde_json::Result<State> {
    fn parsed<K: serde::de::DeserializeOwned>(object: &DynamicObject) -> serde_json::Result<K> {
        serde_json::from_value(serde_json::to_value(object)?)
    }
    Ok(match kind {
        "Deployment" => State::from(&parsed::<Deployment>(object)?),
        "StatefulSet" => State::from(&parsed::<StatefulSet>(object)?),
        "Job" => State::from(&parsed::<Job>(object)?),
        "Service" => State::from(&parsed::<Service>(object)?),
        _ => State::Plain,
    })
}
