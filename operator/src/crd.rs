//! The resource: what people write, and what they are told. `starling.im/v1alpha1`, kind `XmppServer`.
//!
//! ```text
//!   XmppServer
//!   ├── spec      XmppServerSpec     domains, profile, what it stands on, each role's pods, policies
//!   └── status    XmppServerStatus   conditions, pods ready, DNS records to create, addresses
//! ```
//!
//! Doc comments here are the fields' descriptions in the cluster (`kubectl explain xmpp.spec`). What the schema or its CEL
//! rules can refuse, they refuse, with words for people; what needs other objects is refused by `validate`.

#![allow(unreachable_pub, reason = "the derive of schemas makes a copy of each type that nobody sees")]

mod backends;
mod bounds;
mod observe;
mod policy;
mod roles;
mod scalar;
mod service;
mod status;
mod tls;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    backends::{CaKeyRef, CaSource, Database, Migrate, Redis, Storage, UrlKeyRef},
    bounds::definition,
    observe::{Log, LogFormat, Monitoring, NetworkPolicies, PodMonitor, PrometheusRule},
    policy::{Archive, Auth, Conflict, Drain, FirstAdmin, Limits, PasswordKeyRef, Registration, Sessions},
    roles::{Autoscaling, C2s, Pods, Resources, Router, Scheduling, SessionRole},
    scalar::{Limit, Scalar},
    service::{C2sService, IpFamily, IpFamilyPolicy, ProxyProtocol, ServiceType, TrafficPolicy},
    status::{
        Address, AddressType, CertificateStatus, ConditionType, DnsRecord, RecordType, RoleStatus, XmppServerStatus,
    },
    tls::{IssuerRef, SecretRef, Tls},
};

/// What an XMPP server is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "starling.im",
    version = "v1alpha1",
    kind = "XmppServer",
    plural = "xmppservers",
    shortname = "xmpp",
    namespaced,
    status = "XmppServerStatus",
    derive = "PartialEq",
    doc = "An XMPP server: its domains, what it stands on, and how its pods are run.",
    scale(
        spec_replicas_path = ".spec.c2s.replicas",
        status_replicas_path = ".status.c2s.replicas",
        label_selector_path = ".status.c2s.selector"
    ),
    printcolumn(name = "Domains", type_ = "string", json_path = ".status.domains", description = "The domains that are served"),
    printcolumn(name = "C2S", type_ = "string", json_path = ".status.c2s.summary", description = "Pods for client connections: ready/desired"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "The release that all pods run"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether clients are served"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is, or is not"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since it was created"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "The reason at length", priority = "1"),
    printcolumn(name = "Profile", type_ = "string", json_path = ".spec.profile", description = "Standalone or Distributed", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name begins the names of Services: at most 40 lower-case letters, digits and '-', a letter first")
)]
#[x_kube(
    validation = Rule::new("self.profile == 'Standalone' || has(self.redis)")
        .message("a Distributed server needs redis; for a trial in one pod set profile: Standalone"),
    validation = Rule::new("self.profile == 'Standalone' || has(self.database)")
        .message("a Distributed server needs a database; for a trial in one pod set profile: Standalone"),
    validation = Rule::new("self.profile == 'Standalone' || has(self.tls)")
        .message("a Distributed server needs tls: an issuerRef of cert-manager, or secretRefs"),
    validation = Rule::new("self.profile != 'Standalone' || !has(self.redis)")
        .message("a Standalone server needs no redis: leave it out, or set profile: Distributed"),
    validation = Rule::new("self.profile != 'Standalone' || !has(self.database)")
        .message("a Standalone server keeps its data in its volume: leave database out, or set profile: Distributed"),
    validation = Rule::new("self.profile != 'Standalone' || (!has(self.session) && !has(self.router))")
        .message("a Standalone server does everything in one pod: session and router are for Distributed, c2s is for that pod"),
    validation = Rule::new("self.profile != 'Standalone' || (self.c2s.replicas <= 2 && !has(self.c2s.autoscaling))")
        .message("a Standalone server is one pod: leave c2s.replicas and c2s.autoscaling out, or set profile: Distributed"),
    validation = Rule::new("self.profile == 'Standalone' || !has(self.storage)")
        .message("a Distributed server keeps nothing in its pods: storage is for Standalone"),
    validation = Rule::new("has(self.storage) == has(oldSelf.storage)")
        .message("the volume is made with the server: storage cannot be added or taken away")
)]
#[serde(rename_all = "camelCase")]
pub struct XmppServerSpec {
    /// `Standalone`: one pod with a volume, and nothing beside it, for a trial or a small server. `Distributed`: pods that
    /// keep nothing, on Redis and PostgreSQL, which scale and can be lost. Cannot be changed: the data does not move.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the profile cannot be changed: the data would not move with it"))]
    pub profile: Profile,
    /// The domains that are served: what stands behind the `@` of addresses. The first is named to clients that ask for none.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub domains: Vec<Domain>,
    /// The image of the server. Without it, the one of the operator's own release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When the image is pulled. Without it, what Kubernetes chooses by the image's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets of this namespace by which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretRef>,
    /// Certificates for clients. Needed by a Distributed server; a Standalone one makes itself a self-signed one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Redis, for who is where. Needed by a Distributed server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// PostgreSQL, for what must last. Needed by a Distributed server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// The volume of a Standalone server. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the volume is made with the server: it cannot be changed"))]
    pub storage: Option<Storage>,
    /// Pods that take client connections. Of a Standalone server, its one pod.
    #[serde(default)]
    pub c2s: C2s,
    /// Pods that do what is to be done for accounts without a connection, such as cleaning up behind pods that died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionRole>,
    /// Pods that forward between the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Router>,
    /// Log-in. A change is taken up without a restart.
    #[serde(default)]
    pub auth: Auth,
    /// Accounts of administrators, as bare addresses (`alice@example.com`) of the served domains. A change is taken up
    /// without a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 2047)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new(r#"self.all(address, address.matches("^[^@/ \"&'<>:]+@[^@/ ]+$"))"#)
            .message("each is a bare address, like alice@example.com")
    )]
    pub admins: Vec<String>,
    /// An account that is made if it does not exist. It becomes an administrator as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_admin: Option<FirstAdmin>,
    /// In-band registration (XEP-0077). A change is taken up without a restart.
    #[serde(default)]
    pub registration: Registration,
    /// Sessions of accounts. A change is taken up without a restart.
    #[serde(default)]
    pub sessions: Sessions,
    /// The archive of messages.
    #[serde(default)]
    pub archive: Archive,
    /// Bounds of client connections. What is left out is as the server has it by default. A change is taken up without a
    /// restart; connections that are there keep most of the old ones: see `starlingd config reference`.
    #[serde(default)]
    pub limits: Limits,
    /// How pods end.
    #[serde(default)]
    pub drain: Drain,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// Metrics and alerts. Needs prometheus-operator; where it is missing, status says so, and nothing else suffers.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may reach the pods, and whom they may reach.
    #[serde(default)]
    pub network_policy: NetworkPolicies,
    /// `true`: the operator leaves everything as it is until this is `false` again.
    #[serde(default)]
    pub paused: bool,
}

/// How much of a server it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Profile {
    /// One pod with a volume.
    Standalone,
    /// Pods that keep nothing, on Redis and PostgreSQL.
    #[default]
    Distributed,
}

/// A host's name: labels of DNS.
const HOST: &str = "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
const HOST_IS: &str = "a domain is written in lower-case ASCII letters, digits, '-' and '.': example.com";

/// A domain that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// Its name: `example.com`. Of an internationalised one, its ASCII form.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(format!("self.matches('{HOST}')")).message(HOST_IS))]
    pub name: String,
    /// Names of services beside it (`conference.example.com`, `upload.example.com`): they stand in its certificate as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Set,
        validation = Rule::new(format!("self.all(host, host.matches('{HOST}'))")).message(HOST_IS)
    )]
    pub service_hosts: Vec<String>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// For each pod.
    Always,
    /// If the node lacks it.
    IfNotPresent,
    /// Never: it is there.
    Never,
}

impl ImagePullPolicy {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
