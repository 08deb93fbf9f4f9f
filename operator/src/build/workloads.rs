//! What keeps pods running: a Deployment for each role, or the StatefulSet of a Standalone server.

use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet,
            StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
        },
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::{
    names::{self, Component},
    validate::Validated,
};

use super::{Role, label_selector, metadata, pod};

/// A new pod must have been ready for so long before an old one goes.
const MIN_READY: i32 = 10;
/// Beyond the time in which an old pod ends, for images, certificates and the schema.
const PROGRESS: i64 = 900;

/// Templates that a roll back can go back to.
const HISTORY: i32 = 5;

pub(super) fn deployment(server: &Validated, role: &Role) -> Deployment {
    let component = role.component;
    // Every other pod connects to each router: they are replaced one by one.
    let surge =
        if component == Component::Router { IntOrString::Int(1) } else { IntOrString::String("25%".to_owned()) };
    let deadline = PROGRESS + pod::termination_grace(&server.spec.drain, component);
    Deployment {
        metadata: metadata(&server.owner, names::of(&server.owner.name, component), Some(component)),
        spec: Some(DeploymentSpec {
            // Left out while something else counts: two who say how many would fight.
            replicas: role.pods.autoscaling.is_none().then_some(role.replicas),
            selector: label_selector(&server.owner, component),
            template: pod::template(server, role),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(surge),
                }),
            }),
            min_ready_seconds: Some(MIN_READY),
            progress_deadline_seconds: i32::try_from(deadline).ok(),
            revision_history_limit: Some(HISTORY),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

pub(super) fn stateful_set(server: &Validated) -> StatefulSet {
    let component = Component::Standalone;
    let role = Role::of(server, component);
    StatefulSet {
        metadata: metadata(&server.owner, names::of(&server.owner.name, component), Some(component)),
        spec: Some(StatefulSetSpec {
            replicas: Some(role.replicas),
            selector: label_selector(&server.owner, component),
            service_name: Some(names::metrics_service(&server.owner.name)),
            // Else Kubernetes waits for a pod that never gets ready, and never puts the one with the way back in its place.
            pod_management_policy: Some("Parallel".to_owned()),
            template: pod::template(server, &role),
            volume_claim_templates: Some(vec![volume(server)]),
            // Accounts and messages outlive the resource.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            revision_history_limit: Some(HISTORY),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Kubernetes takes no change of it, labels included.
fn volume(server: &Validated) -> PersistentVolumeClaim {
    let storage = server.spec.storage.clone().unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(pod::DATA_VOLUME.to_owned()),
            labels: Some(names::selector(&server.owner.name, Component::Standalone)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name,
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), storage.size)].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
