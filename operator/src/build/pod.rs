//! A pod: one container, which writes to its data and to what is empty at its start, and may do nothing beyond that.
//!
//! ```text
//!   /etc/starling/config     ConfigMap of the component      settings
//!   /etc/starling/backends   Secret                          passwords and authorities of Redis and database
//!   /etc/starling/link       Secret                          mutual TLS between pods
//!   /etc/starling/tls/…      Secrets, one folder each        certificates for clients
//!   /etc/starling/accounts   Secret                          the first administrator, to import
//!   /var/lib/starling        volume, or empty                data; the socket that `starlingd user` speaks to
//!   /tmp                     empty, of Standalone alone      what SQLite sorts and cannot keep in memory
//! ```
//!
//! All are mounted as folders: files that are mounted one by one never change, and these do.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction, KeyToPath,
        Lifecycle, LifecycleHandler, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
        ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecretVolumeSource,
        SecurityContext, SleepAction, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::{
    crd::Drain,
    names::{self, Component},
    validate::Validated,
};

use super::{Role, label_selector, restart::settings_hash};

/// The volume of the data folder.
pub(super) const DATA_VOLUME: &str = "data";
/// The volume of temporary files.
const TEMPORARY_VOLUME: &str = "tmp";
/// `nonroot` of distroless images.
const USER: i64 = 65532;
/// Owner and group may read.
const READABLE: i32 = 0o440;
/// Seconds after the streams' end for what `starlingd` still has to do in order: clients that close their side, helpers,
/// the journal, the link, the registry, the store. Its own bounds add up to less.
const MARGIN: i64 = 45;

/// Seconds until Kubernetes kills a pod that is to end: a pod's own bounds, one after the other.
#[must_use]
pub fn termination_grace(drain: &Drain, component: Component) -> i64 {
    let streams = if component.takes_clients() { i64::from(drain.duration_seconds) } else { 0 };
    pause(drain, component) + streams + MARGIN
}

/// Seconds that a pod goes on as before: until nobody new is sent to it.
fn pause(drain: &Drain, component: Component) -> i64 {
    match component {
        Component::Standalone | Component::C2s | Component::Router => drain.grace_seconds.into(),
        // Nobody looks for these.
        Component::Session | Component::Migrate | Component::FirstAdmin => 0,
    }
}

pub(super) fn template(server: &Validated, role: &Role) -> PodTemplateSpec {
    let (component, owner) = (role.component, &server.owner);
    let mut labels = role.pods.pod_labels.clone();
    labels.extend(names::selector(&owner.name, component));
    let mut annotations = role.pods.pod_annotations.clone();
    let hash = server.settings.get(&component).map(settings_hash);
    annotations.extend(hash.map(|hash| (names::SETTINGS_HASH.to_owned(), hash)));
    if let (Component::FirstAdmin, Some(account)) = (component, &server.first_admin) {
        // For another account, the Job is another.
        annotations.insert(names::ACCOUNT.to_owned(), account.address.clone());
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() }),
        spec: Some(spec(server, role)),
    }
}

fn spec(server: &Validated, role: &Role) -> PodSpec {
    let component = role.component;
    let scheduling = role.pods.scheduling.clone().unwrap_or_default();
    let is_job = component.is_job();
    let secrets = server.spec.image_pull_secrets.iter();
    let secrets: Vec<_> = secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect();
    let imports = component == Component::Standalone && server.first_admin.is_some();
    PodSpec {
        service_account_name: Some(names::service_account(&server.owner.name)),
        automount_service_account_token: Some(false),
        // Kubernetes' variables for Services may begin with STARLING_, and be taken for settings.
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: Some(secrets).filter(|secrets| !secrets.is_empty()),
        init_containers: imports.then(|| vec![container(server, role, Component::FirstAdmin)]),
        containers: vec![container(server, role, component)],
        volumes: Some(volumes(server, component)),
        restart_policy: is_job.then(|| "OnFailure".to_owned()),
        termination_grace_period_seconds: Some(termination_grace(&server.spec.drain, component)),
        topology_spread_constraints: (!is_job && component != Component::Standalone).then(|| spread(server, role)),
        node_selector: Some(scheduling.node_selector).filter(|labels| !labels.is_empty()),
        affinity: scheduling.affinity,
        tolerations: Some(scheduling.tolerations).filter(|tolerations| !tolerations.is_empty()),
        priority_class_name: scheduling.priority_class_name,
        ..PodSpec::default()
    }
}

/// The container of a pod of `role` that does what `component` does.
fn container(server: &Validated, role: &Role, component: Component) -> Container {
    let file = format!("{}/{}", names::CONFIG, names::CONFIG_FILE);
    let accounts = format!("{}/{}", names::ACCOUNTS, names::ACCOUNTS_FILE);
    let arguments: &[&str] = match component {
        Component::Standalone | Component::C2s | Component::Session | Component::Router => &["run"],
        Component::Migrate => &["migrate"],
        // Who was there before stays as he is.
        Component::FirstAdmin => &["user", "import", "--skip", &accounts],
    };
    let serves = !component.is_job();
    let pause = pause(&server.spec.drain, component);
    let sleep = LifecycleHandler { sleep: Some(SleepAction { seconds: pause }), ..LifecycleHandler::default() };
    Container {
        name: if serves { "starlingd".to_owned() } else { component.as_str().to_owned() },
        image: Some(server.image.clone()),
        image_pull_policy: server.spec.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        args: Some(arguments.iter().copied().chain(["--config", &file]).map(str::to_owned).collect()),
        ports: serves.then(|| ports(component)),
        resources: Some(resources(role, component)),
        volume_mounts: Some(mounts(server, role, component)),
        // It starts to listen when all that it stands on is there; that may be long in coming, as the schema.
        startup_probe: serves.then(|| probe("/healthz", 2, 5, 450)),
        liveness_probe: serves.then(|| probe("/healthz", 10, 5, 6)),
        readiness_probe: serves.then(|| probe("/readyz", 5, 5, 2)),
        lifecycle: (serves && pause > 0).then(|| Lifecycle { pre_stop: Some(sleep), ..Lifecycle::default() }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn ports(component: Component) -> Vec<ContainerPort> {
    let mut ports = vec![("http", names::HTTP)];
    if component.takes_clients() {
        ports.extend([("starttls", names::STARTTLS), ("direct-tls", names::DIRECT_TLS)]);
    }
    if component == Component::Router {
        ports.push(("router", names::ROUTER));
    }
    let port = |(name, number): (&str, u16)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    ports.into_iter().map(port).collect()
}

fn probe(path: &str, every: i32, within: i32, times: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(every),
        timeout_seconds: Some(within),
        failure_threshold: Some(times),
        ..Probe::default()
    }
}

/// Somebody's own, or so much that a pod is not put onto a full node.
fn resources(role: &Role, component: Component) -> ResourceRequirements {
    let quantities =
        |values: [(&str, &str); 2]| values.map(|(name, value)| (name.to_owned(), Quantity(value.to_owned())));
    match &role.pods.resources {
        Some(resources) => ResourceRequirements {
            requests: Some(resources.requests.clone()).filter(|requests| !requests.is_empty()),
            limits: Some(resources.limits.clone()).filter(|limits| !limits.is_empty()),
            ..ResourceRequirements::default()
        },
        None => {
            let requests = match component {
                Component::Standalone | Component::C2s => [("cpu", "250m"), ("memory", "256Mi")],
                _ => [("cpu", "100m"), ("memory", "64Mi")],
            };
            ResourceRequirements { requests: Some(quantities(requests).into()), ..ResourceRequirements::default() }
        }
    }
}

/// Over nodes and zones, as far as there are any: a pod on a full node is better than none.
fn spread(server: &Validated, role: &Role) -> Vec<TopologySpreadConstraint> {
    let selector = label_selector(&server.owner, role.component);
    let own = role.pods.scheduling.as_ref().and_then(|scheduling| scheduling.topology_spread_constraints.clone());
    if let Some(own) = own {
        let selected = |constraint: TopologySpreadConstraint| TopologySpreadConstraint {
            label_selector: constraint.label_selector.clone().or_else(|| Some(selector.clone())),
            ..constraint
        };
        return own.into_iter().map(selected).collect();
    }
    let constraint = |key: &str| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        max_skew: 1,
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector.clone()),
        ..TopologySpreadConstraint::default()
    };
    ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(constraint).to_vec()
}

/// The volumes of a component's pods, with the folders where they are mounted.
fn mounted(server: &Validated, component: Component) -> Vec<(Volume, &'static str)> {
    let name = &server.owner.name;
    let secret = |volume: &str, secret: String| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(READABLE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut volumes = vec![(config(names::of(name, component)), names::CONFIG)];
    if component.needs_database() || component.needs_redis() {
        volumes.push((secret("backends", names::backends_secret(name)), names::BACKENDS));
    }
    if component.needs_link() {
        volumes.push((secret("link", names::link_secret(name, component)), names::LINK));
    }
    if component.takes_clients() && !server.certificates.is_empty() {
        volumes.push((certificates(&server.certificates), names::TLS));
    }
    let imports = matches!(component, Component::Standalone | Component::FirstAdmin) && server.first_admin.is_some();
    if imports {
        volumes.push((secret("accounts", names::accounts_secret(name)), names::ACCOUNTS));
    }
    volumes.push(match component {
        Component::Standalone => (empty(TEMPORARY_VOLUME, "1Gi"), "/tmp"),
        _ => (empty(DATA_VOLUME, "64Mi"), names::DATA),
    });
    volumes
}

fn empty(name: &str, at_most: &str) -> Volume {
    let nothing = EmptyDirVolumeSource { size_limit: Some(Quantity(at_most.to_owned())), medium: None };
    Volume { name: name.to_owned(), empty_dir: Some(nothing), ..Volume::default() }
}

fn volumes(server: &Validated, component: Component) -> Vec<Volume> {
    mounted(server, component).into_iter().map(|(volume, _)| volume).collect()
}

/// A Standalone server's own volume is its StatefulSet's, and accounts are for whoever imports them.
fn mounts(server: &Validated, role: &Role, component: Component) -> Vec<VolumeMount> {
    let mounted = mounted(server, role.component);
    let folders = mounted.into_iter().map(|(volume, folder)| (volume.name, folder));
    let folders = folders.filter(|(volume, _)| volume != "accounts" || component == Component::FirstAdmin);
    let own = (role.component == Component::Standalone).then(|| (DATA_VOLUME.to_owned(), names::DATA));
    let mount = |(name, folder): (String, &str)| VolumeMount {
        read_only: (![DATA_VOLUME, TEMPORARY_VOLUME].contains(&name.as_str())).then_some(true),
        name,
        mount_path: folder.to_owned(),
        ..VolumeMount::default()
    };
    folders.chain(own).map(mount).collect()
}

fn config(name: String) -> Volume {
    Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource { name, ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    }
}

/// One volume for all: pods that wait for a certificate wait before they start, not after.
fn certificates(secrets: &[String]) -> Volume {
    let file = |secret: &str, key: &str| KeyToPath { key: key.to_owned(), path: format!("{secret}/{key}"), mode: None };
    let source = |secret: &String| VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.clone(),
            items: Some(["tls.crt", "tls.key"].map(|key| file(secret, key)).to_vec()),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: "tls".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(READABLE),
            sources: Some(secrets.iter().map(source).collect()),
        }),
        ..Volume::default()
    }
}
