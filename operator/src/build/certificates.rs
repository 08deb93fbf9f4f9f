//! `Certificate`s of cert-manager: one for each domain, so that one that cannot be had hinders no other.

use kube::{
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde_json::json;

use crate::{names, validate::Validated};

use super::metadata;

pub(super) fn all(server: &Validated) -> Vec<DynamicObject> {
    let issuer = server.spec.tls.as_ref().and_then(|tls| tls.issuer_ref.as_ref());
    let Some(issuer) = issuer.filter(|_| server.cluster.cert_manager) else { return Vec::new() };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let certificate = |domain: &crate::crd::Domain| {
        let name = names::certificate(&server.owner.name, &domain.name);
        let names: Vec<_> = [&domain.name].into_iter().chain(&domain.service_hosts).collect();
        let mut object = DynamicObject::new(&name, &resource).data(json!({
            "spec": {
                "secretName": name,
                "dnsNames": names,
                "issuerRef": { "name": issuer.name, "kind": issuer.kind, "group": issuer.group },
                "usages": ["digital signature", "key encipherment", "server auth"],
                "privateKey": { "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always" },
            }
        }));
        object.metadata = metadata(&server.owner, name, None);
        object
    };
    server.spec.domains.iter().map(certificate).collect()
}
