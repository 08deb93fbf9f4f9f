//! Certificates for clients.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Where the certificates come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.issuerRef) != has(self.secretRefs)")
    .message("exactly one of issuerRef and secretRefs"))]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// cert-manager makes and renews one for each domain, with the names of its service hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// Secrets of this namespace, of type `kubernetes.io/tls`. A client gets the certificate for the name that it asks
    /// for, else the first. New certificates in them are taken up without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub secret_refs: Option<Vec<SecretRef>>,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer` (of this namespace), `ClusterIssuer`, or the kind of an external issuer.
    #[serde(default = "IssuerRef::kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The API group of the kind.
    #[serde(default = "IssuerRef::group")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

impl IssuerRef {
    fn kind() -> String {
        "Issuer".to_owned()
    }

    fn group() -> String {
        "cert-manager.io".to_owned()
    }
}

/// A Secret, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
