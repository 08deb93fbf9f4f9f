//! A namespace, and what a test does to the objects in it.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A namespace, by whoever may do everything in it. The worlds of tests are this and more, and deref to it.
#[derive(Clone)]
pub struct Namespace {
    /// Of the test.
    pub client: Client,
    /// Its name.
    pub namespace: String,
    manager: Option<String>,
}

impl Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Namespace").field(&self.namespace).finish()
    }
}

impl Namespace {
    /// One that is there.
    #[must_use]
    pub const fn of(client: Client, namespace: String) -> Self {
        Self { client, namespace, manager: None }
    }

    /// The same, whose fields are [changed](Self::change) by a manager of this name, and not by one that the API server names.
    #[must_use]
    pub fn managed_by(self, manager: &str) -> Self {
        Self { manager: Some(manager.to_owned()), ..self }
    }

    /// All objects of a kind.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes an object.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        self.api().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// Changes an object as a user would.
    pub async fn change<K>(&self, name: &str, patch: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let params = PatchParams { field_manager: self.manager.clone(), ..PatchParams::default() };
        self.api().patch(name, &params, &Patch::Merge(patch)).await.unwrap()
    }

    /// Makes a Secret of these texts.
    pub async fn secret(&self, name: &str, texts: &[(&str, &str)]) {
        let texts: BTreeMap<_, _> = texts.iter().copied().collect();
        self.create::<Secret>(json!({ "metadata": { "name": name }, "stringData": texts })).await;
    }
}
