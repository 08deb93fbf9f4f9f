//! Secrets and ConfigMaps of a namespace, as a kubelet knows them.

use std::{collections::BTreeMap, fmt::Debug, pin::pin, sync::Arc};

use futures_util::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// What an object holds.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// All of a kind, by name. `None`: not listed yet.
type Listed = Option<BTreeMap<String, Arc<Data>>>;

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    secrets: Listed,
    config_maps: Listed,
}

impl Objects {
    /// `None`: it is not there, or not known yet.
    pub(super) fn secret(&self, name: &str) -> Option<&Data> {
        self.secrets.as_ref()?.get(name).map(Arc::as_ref)
    }

    /// `None`: it is not there, or not known yet.
    pub(super) fn config_map(&self, name: &str) -> Option<&Data> {
        self.config_maps.as_ref()?.get(name).map(Arc::as_ref)
    }
}

/// Keeps `objects` as they are in the namespace, until it is dropped.
pub(super) async fn follow(client: Client, namespace: String, objects: Arc<watch::Sender<Objects>>) {
    let secrets = follow_kind::<Secret>(
        &client,
        &namespace,
        &objects,
        |objects| &mut objects.secrets,
        |secret| secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect(),
    );
    let config_maps = follow_kind::<ConfigMap>(
        &client,
        &namespace,
        &objects,
        |objects| &mut objects.config_maps,
        |map| {
            let text = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
            text.chain(map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0))).collect()
        },
    );
    tokio::join!(secrets, config_maps);
}

async fn follow_kind<K>(
    client: &Client,
    namespace: &str,
    objects: &watch::Sender<Objects>,
    of: fn(&mut Objects) -> &mut Listed,
    data: fn(K) -> Data,
) where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = BTreeMap::new(),
            Ok(Event::InitApply(object)) => {
                listed.insert(object.name_any(), Arc::new(data(object)));
            }
            Ok(Event::InitDone) => {
                let all = std::mem::take(&mut listed);
                objects.send_modify(|objects| *of(objects) = Some(all));
            }
            Ok(Event::Apply(object)) => {
                let (name, data) = (object.name_any(), Arc::new(data(object)));
                objects.send_modify(|objects| {
                    of(objects).get_or_insert_default().insert(name, data);
                });
            }
            Ok(Event::Delete(object)) => {
                let name = object.name_any();
                objects.send_modify(|objects| {
                    of(objects).get_or_insert_default().remove(&name);
                });
            }
            // It tries again by itself.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
impl Objects {
    /// These Secrets, and no ConfigMaps.
    pub(super) fn of_secrets<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [(&'a str, &'a str)])>) -> Self {
        let data = |pairs: &[(&str, &str)]| {
            Arc::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect())
        };
        let secrets = secrets.into_iter().map(|(name, pairs)| (name.to_owned(), data(pairs))).collect();
        Self { secrets: Some(secrets), config_maps: Some(BTreeMap::new()) }
    }
}
