//! Of objects that have a state, what of it matters.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::Service,
    },
    jiff::Timestamp,
};
use kube::api::ObjectMeta;
use serde_json::Value;

use crate::{
    crd::{Address as PublicAddress, AddressType},
    names,
};

/// On Deployments and StatefulSets: which pod template we applied.
pub(crate) const TEMPLATE_HASH: &str = "starling.im/template-hash";

/// How an object fares.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It has no state, or none that matters.
    Plain,
    /// A Deployment or StatefulSet.
    Workload(Workload),
    /// A Job.
    Job(JobState),
    /// A Service.
    Clients(Clients),
    /// A Pod.
    Pod(Pod),
}

/// How a Deployment or StatefulSet fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Which pod template we applied.
    pub template: String,
    /// Whether its controller has seen it as it is now.
    pub is_observed: bool,
    /// How many pods it is to have.
    pub wanted: i32,
    /// How many it has.
    pub replicas: i32,
    /// How many of them are of the newest template.
    pub updated: i32,
    /// How many are ready.
    pub ready: i32,
    /// How many have been ready for long enough.
    pub available: i32,
    /// Why it does not get on, in its controller's words.
    pub stuck: Option<String>,
    /// Whether we say how many pods there are.
    pub counts_for_us: bool,
}

impl Workload {
    /// Whether all its pods are new and available, and no others are there.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_observed && self.updated == self.wanted && self.available == self.wanted && self.replicas == self.wanted
    }
}

/// How a Job fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It goes on.
    Running,
    /// It is done.
    Succeeded,
    /// It has given up; since when, and why.
    Failed(Timestamp, String),
}

/// How a Service is reached from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// Addresses that its load balancer has.
    pub addresses: Vec<Address>,
    /// Ports of nodes that lead to it, by the names of its ports.
    pub node_ports: Vec<(String, i32)>,
}

/// An address that a Service got.
pub type Address = PublicAddress;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What it is there for, as in labels.
    pub component: String,
    /// If it is to end: by when it is killed.
    pub ends_by: Option<Timestamp>,
}

impl Pod {
    pub(super) fn read(meta: &ObjectMeta) -> Self {
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
        Self {
            component: label("app.kubernetes.io/component").unwrap_or_default(),
            ends_by: meta.deletion_timestamp.as_ref().map(|time| time.0),
        }
    }
}

/// The fields of an object that are ours, as the API server keeps the books.
pub(super) fn owned_fields(meta: &ObjectMeta) -> Option<&Value> {
    let ours = meta.managed_fields.iter().flatten().find(|entry| {
        entry.manager.as_deref() == Some(names::MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    })?;
    ours.fields_v1.as_ref().map(|fields| &fields.0)
}

fn template(meta: &ObjectMeta) -> String {
    let annotations = meta.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(TEMPLATE_HASH)).cloned().unwrap_or_default()
}

fn counts_for_us(meta: &ObjectMeta) -> bool {
    owned_fields(meta).and_then(|fields| fields.pointer("/f:spec/f:replicas")).is_some()
}

impl From<&Deployment> for State {
    fn from(object: &Deployment) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let stuck = conditions.into_iter().find(|condition| {
            condition.status == "False" && condition.type_ == "Progressing"
                // Pods that are not let in for want of quota, for one.
                || condition.status == "True" && condition.type_ == "ReplicaFailure"
        });
        Self::Workload(Workload {
            template: template(&object.metadata),
            is_observed: status.observed_generation >= object.metadata.generation,
            wanted: object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            replicas: status.replicas.unwrap_or_default(),
            updated: status.updated_replicas.unwrap_or_default(),
            ready: status.ready_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            stuck: stuck.map(|condition| condition.message.or(condition.reason).unwrap_or_default()),
            counts_for_us: counts_for_us(&object.metadata),
        })
    }
}

impl From<&StatefulSet> for State {
    fn from(object: &StatefulSet) -> Self {
        let status = object.status.clone().unwrap_or_default();
        Self::Workload(Workload {
            template: template(&object.metadata),
            is_observed: status.observed_generation >= object.metadata.generation,
            wanted: object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            replicas: status.replicas,
            updated: status.updated_replicas.unwrap_or_default(),
            ready: status.ready_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            stuck: None,
            counts_for_us: counts_for_us(&object.metadata),
        })
    }
}

impl From<&Job> for State {
    fn from(object: &Job) -> Self {
        let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ended = conditions.filter(|condition| condition.status == "True").find_map(|condition| {
            match condition.type_.as_str() {
                "Complete" => Some(JobState::Succeeded),
                "Failed" => Some(JobState::Failed(
                    condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
                    condition.message.clone().unwrap_or_default(),
                )),
                _ => None,
            }
        });
        Self::Job(ended.unwrap_or(JobState::Running))
    }
}

impl From<&Service> for State {
    fn from(object: &Service) -> Self {
        let ingress = object.status.iter().filter_map(|status| status.load_balancer.as_ref());
        let ingress = ingress.flat_map(|balancer| balancer.ingress.iter().flatten());
        let addresses = ingress.flat_map(|ingress| {
            let ip = ingress.ip.clone().map(|value| Address { type_: AddressType::IpAddress, value });
            let host = ingress.hostname.clone().map(|value| Address { type_: AddressType::Hostname, value });
            ip.into_iter().chain(host)
        });
        let ports = object.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        Self::Clients(Clients {
            addresses: addresses.collect(),
            node_ports: ports.filter_map(|port| Some((port.name.clone()?, port.node_port?))).collect(),
        })
    }
}
