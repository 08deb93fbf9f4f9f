//! What pods read: ConfigMaps with settings, Secrets with passwords and certificates, and who they are.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret, ServiceAccount},
};

use crate::{
    names::{self, Component},
    validate::Validated,
};

use super::metadata;

pub(super) fn config_map(server: &Validated, component: Component) -> Option<ConfigMap> {
    let written = server.settings.get(&component)?;
    Some(ConfigMap {
        metadata: metadata(&server.owner, names::of(&server.owner.name, component), Some(component)),
        data: Some([(names::CONFIG_FILE.to_owned(), written.text.clone())].into()),
        ..ConfigMap::default()
    })
}

/// Pods ask nothing of the API.
pub(super) fn service_account(server: &Validated) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(&server.owner, names::service_account(&server.owner.name), None),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub(super) fn secrets(server: &Validated) -> Vec<Secret> {
    let name = &server.owner.name;
    let secret = |name: String, data: BTreeMap<String, String>| {
        let data = data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes())));
        let data = Some(data.collect()).filter(|data: &BTreeMap<_, _>| !data.is_empty());
        Secret {
            metadata: metadata(&server.owner, name, None),
            type_: Some("Opaque".to_owned()),
            data,
            ..Secret::default()
        }
    };
    let mut secrets = Vec::new();
    if !server.is_standalone() {
        secrets.push(secret(names::backends_secret(name), backends(server)));
    }
    for component in [Component::Router, Component::C2s] {
        let Some(link) = &server.link else { continue };
        let pair = if component == Component::Router { &link.router } else { &link.instance };
        let files = [
            ("tls.crt", pair.certificate.as_str()),
            ("tls.key", pair.key.reveal()),
            ("ca.crt", link.authorities.as_str()),
        ];
        let files = files.map(|(file, text)| (file.to_owned(), text.to_owned())).into();
        secrets.push(secret(names::link_secret(name, component), files));
    }
    if let Some(account) = &server.first_admin {
        let line = format!("{} {}\n", account.address, account.password.reveal());
        secrets.push(secret(names::accounts_secret(name), [(names::ACCOUNTS_FILE.to_owned(), line)].into()));
    }
    secrets
}

fn backends(server: &Validated) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut file = |name: &str, text: Option<&str>| files.extend(text.map(|text| (name.to_owned(), text.to_owned())));
    if let Some(database) = &server.database {
        file(names::DATABASE_PASSWORD, database.connection.password.as_ref().map(|password| password.reveal()));
        file(names::DATABASE_CA, database.ca.as_deref());
    }
    if let Some(redis) = &server.redis {
        file(names::REDIS_PASSWORD, redis.connection.password.as_ref().map(|password| password.reveal()));
        file(names::SENTINEL_PASSWORD, redis.connection.sentinel_password.as_ref().map(|password| password.reveal()));
        file(names::REDIS_CA, redis.ca.as_deref());
    }
    files
}
