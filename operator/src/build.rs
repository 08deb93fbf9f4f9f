//! From what is asked for to the objects that make it so. No client, no clock, no chance: the same comes out of the same.
//!
//! ```text
//!   stage       objects                                                        before the next stage
//!   ─────────   ────────────────────────────────────────────────────────────   ──────────────────────
//!   Shared      Secrets, ServiceAccount, Services, NetworkPolicies,
//!               Certificates, monitoring
//!   Migration   Jobs: schema, first administrator                              they have succeeded
//!   Routers     ┐                                                              ┐
//!   Sessions    ├ ConfigMap, Deployment or StatefulSet, PDB, HPA of the role   ├ all pods are new and ready
//!   C2s         ┘                                                              ┘
//! ```
//!
//! Pods wait for the schema by themselves, and nothing breaks if the order is not kept: it makes roll-outs short.

mod certificates;
mod config;
mod jobs;
mod monitoring;
mod network;
mod object;
mod pod;
mod restart;
mod scaling;
mod services;
mod workloads;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource as _;

use crate::{
    crd::{Pods, XmppServer},
    names::{self, Component},
    validate::{Owner, Validated},
};

pub use self::{object::Object, pod::termination_grace, restart::settings_hash};

/// When objects are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// What all pods use.
    Shared,
    /// Jobs that must have succeeded.
    Migration,
    /// Routers.
    Routers,
    /// Pods for accounts without a connection.
    Sessions,
    /// Pods that take clients; the only pod of a Standalone server.
    C2s,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Shared, Self::Migration, Self::Routers, Self::Sessions, Self::C2s];
}

/// Everything that there is to be, by stages.
#[derive(Clone, Debug, Default)]
pub struct Objects(Vec<(Stage, Object)>);

impl Objects {
    /// Those of a stage, in the order in which they are applied.
    pub fn of(&self, stage: Stage) -> impl Iterator<Item = &Object> {
        self.0.iter().filter(move |(of, _)| *of == stage).map(|(_, object)| object)
    }

    /// All, in the order in which they are applied.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, &Object)> {
        Stage::ALL.into_iter().flat_map(|stage| self.of(stage).map(move |object| (stage, object)))
    }

    fn push(&mut self, stage: Stage, object: impl Into<Object>) {
        self.0.push((stage, object.into()));
    }

    fn extend<T: Into<Object>>(&mut self, stage: Stage, objects: impl IntoIterator<Item = T>) {
        self.0.extend(objects.into_iter().map(|object| (stage, object.into())));
    }
}

/// Builds everything.
#[must_use]
pub fn build(server: &Validated) -> Objects {
    let mut objects = Objects::default();
    objects.push(Stage::Shared, config::service_account(server));
    objects.extend(Stage::Shared, config::secrets(server));
    objects.extend(Stage::Shared, certificates::all(server));
    objects.extend(Stage::Shared, services::all(server));
    objects.extend(Stage::Shared, network::policies(server));
    objects.extend(Stage::Shared, monitoring::all(server));
    if server.is_standalone() {
        objects.extend(Stage::C2s, config::config_map(server, Component::Standalone));
        objects.push(Stage::C2s, workloads::stateful_set(server));
        return objects;
    }
    jobs::all(server, &mut objects);
    for (stage, component) in
        [(Stage::Routers, Component::Router), (Stage::Sessions, Component::Session), (Stage::C2s, Component::C2s)]
    {
        let role = Role::of(server, component);
        objects.extend(stage, config::config_map(server, component));
        objects.push(stage, workloads::deployment(server, &role));
        objects.extend(stage, scaling::disruption_budget(server, &role));
        objects.extend(stage, scaling::autoscaler(server, &role));
    }
    objects
}

/// How the pods of a component are to be run.
struct Role {
    component: Component,
    replicas: i32,
    pods: Pods,
}

impl Role {
    fn of(server: &Validated, component: Component) -> Self {
        let spec = &server.spec;
        let (replicas, pods) = match component {
            Component::Router => {
                let router = spec.router.clone().unwrap_or_default();
                (router.replicas, router.pods)
            }
            Component::C2s => (spec.c2s.replicas, spec.c2s.pods.clone()),
            Component::Standalone => (spec.c2s.replicas.min(1), spec.c2s.pods.clone()),
            // Jobs run where these run: they need what these need.
            Component::Session | Component::Migrate | Component::FirstAdmin => {
                let session = spec.session.clone().unwrap_or_default();
                (session.replicas, session.pods)
            }
        };
        Self { component, replicas, pods }
    }

    /// Of how many pods there are at least.
    fn least(&self) -> i32 {
        self.pods.autoscaling.as_ref().map_or(self.replicas, |scaling| scaling.min_replicas)
    }
}

fn metadata(owner: &Owner, name: String, component: Option<Component>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.namespace.clone()),
        labels: Some(names::labels(&owner.name, component)),
        owner_references: Some(vec![OwnerReference {
            api_version: XmppServer::api_version(&()).into_owned(),
            kind: XmppServer::kind(&()).into_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

fn label_selector(owner: &Owner, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(names::selector(&owner.name, component)), ..LabelSelector::default() }
}
