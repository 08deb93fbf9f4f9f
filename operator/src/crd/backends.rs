//! What a server stands on: Redis and PostgreSQL, or a volume.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "has(self.keyPrefix) == has(oldSelf.keyPrefix) && (!has(self.keyPrefix) || self.keyPrefix == oldSelf.keyPrefix)"
).message("keyPrefix cannot be changed: pods of before and after would not see each other"))]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// The key of a Secret in this namespace that holds the URL: `redis://user:password@host:6379`, `rediss://…` with TLS,
    /// `redis+sentinel://user:password@host:26379,host:26379/name-of-the-primary?sentinel_password=…`,
    /// `redis+cluster://user:password@host:6379,host:6379`; `rediss+sentinel` and `rediss+cluster` with TLS.
    pub secret_ref: UrlKeyRef,
    /// The authorities that the servers' certificates are checked against, in PEM. Without it, those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// What the keys in Redis begin with. Without it, it is made of namespace and name, so that servers can share a Redis.
    /// Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[!-z|~]+$')")
        .message("keyPrefix is of visible ASCII characters without braces, which name slots in Redis"))]
    pub key_prefix: Option<String>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// The key of a Secret in this namespace that holds the URL: `postgres://user:password@host:5432/name`, with
    /// `?sslmode=…` if need be.
    pub secret_ref: UrlKeyRef,
    /// The authorities that the server's certificate is checked against, in PEM. Without it, `sslmode` of the URL decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// `Auto`: the operator brings the schema up to date by a Job before pods of a new release start. `Manual`: somebody
    /// else does, by `starlingd migrate`; pods wait until it is done.
    #[serde(default)]
    pub migrate: Migrate,
    /// Connections of each pod at most.
    #[serde(default = "Database::connections")]
    #[schemars(range(min = 4, max = 1000))]
    pub connections: u32,
}

impl Database {
    const fn connections() -> u32 {
        12
    }
}

/// Who brings the schema up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Migrate {
    /// The operator.
    #[default]
    Auto,
    /// Somebody else.
    Manual,
}

/// The volume of a Standalone server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// How large it is.
    #[serde(default = "Storage::size")]
    pub size: Quantity,
    /// Of which class. Without it, of the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Storage {
    fn size() -> Quantity {
        Quantity("1Gi".to_owned())
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: Self::size(), storage_class_name: None }
    }
}

/// A key of a Secret that holds a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "UrlKeyRef::url")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl UrlKeyRef {
    fn url() -> String {
        "url".to_owned()
    }
}

/// Where authorities stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.configMapRef)")
    .message("exactly one of secretRef and configMapRef"))]
#[serde(rename_all = "camelCase")]
pub struct CaSource {
    /// In a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<CaKeyRef>,
    /// In a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<CaKeyRef>,
}

/// A key that holds authorities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaKeyRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "CaKeyRef::ca_crt")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl CaKeyRef {
    fn ca_crt() -> String {
        "ca.crt".to_owned()
    }
}
