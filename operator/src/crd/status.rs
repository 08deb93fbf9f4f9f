//! What people are told. Counts of connections and phases stay out of it: they would be written all day long.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct XmppServerStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is so, and what is not, each with the generation that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The domains that are served, as one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub domains: Option<String>,
    /// The release that all pods run; while they are replaced, the one that they had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub version: Option<String>,
    /// Pods that take client connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c2s: Option<RoleStatus>,
    /// Pods for accounts without a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<RoleStatus>,
    /// Pods that forward between the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RoleStatus>,
    /// Records to create in the domains' DNS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub dns_records: Vec<DnsRecord>,
    /// Addresses that the Service for clients got.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub addresses: Vec<Address>,
    /// The certificates for clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["secret".into()]))]
    pub certificates: Vec<CertificateStatus>,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Clients are served.
    Ready,
    /// What runs is being changed to what is asked for.
    Progressing,
    /// Something does not work as it should.
    Degraded,
    /// The certificates for clients are there, for the right names, and valid.
    TlsReady,
    /// The database's schema is that of the release.
    Migrated,
    /// The operator leaves everything as it is.
    Paused,
}

impl ConditionType {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Progressing, Self::Degraded, Self::TlsReady, Self::Migrated, Self::Paused];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::TlsReady => "TLSReady",
            Self::Migrated => "Migrated",
            Self::Paused => "Paused",
        }
    }
}

/// The pods of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleStatus {
    /// How many there are.
    #[serde(default)]
    pub replicas: i32,
    /// How many of them are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// How many of them are of the newest template.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Ready and desired, as one text: `2/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub summary: String,
    /// The labels by which they are found, as one text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub selector: String,
}

/// A record to create.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DnsRecord {
    /// Its name, without a dot at the end.
    #[schemars(length(max = 300))]
    pub name: String,
    /// Of which type it is.
    #[serde(rename = "type")]
    pub type_: RecordType,
    /// What it says, as zone files have it.
    #[schemars(length(max = 512))]
    pub value: String,
}

/// The type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Where a service is.
    #[serde(rename = "SRV")]
    Srv,
}

/// An address that a Service got.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// What it is.
    #[serde(rename = "type")]
    pub type_: AddressType,
    /// The address or the name.
    #[schemars(length(max = 253))]
    pub value: String,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    /// IPv4 or IPv6.
    #[serde(rename = "IPAddress")]
    IpAddress,
    /// A name.
    Hostname,
}

/// A certificate for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The Secret that it is in.
    #[schemars(length(max = 253))]
    pub secret: String,
    /// Until when it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}
