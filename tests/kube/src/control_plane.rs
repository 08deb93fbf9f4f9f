//! The control plane, as tests hold it.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use tokio::sync::OnceCell;

use crate::{
    Access, Audit,
    process::Folder,
    servers::{self, Servers},
    until,
};

/// What a control plane is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Installed before the controllers start, unless they are there. They ask only every 30 s which kinds there are: the garbage collector would
    /// not hear before that of owners of a kind that comes later.
    pub crds: Vec<CustomResourceDefinition>,
    /// More flags of kube-apiserver.
    pub api_server: Vec<String>,
    /// More flags of kube-controller-manager.
    pub controller_manager: Vec<String>,
}

/// A control plane that runs: etcd, API server, controllers. They end when it is dropped, or with the process.
///
/// With `USE_EXISTING_CLUSTER=true`, the cluster that `KUBECONFIG` names, whose user may do everything: a cluster for tests,
/// that is, which is why a `KUBECONFIG` alone is not enough. That has no [`Audit`], and its API server cannot be stopped.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: the servers before their folder.
    servers: Option<Servers>,
    admin: Access,
    names: AtomicU32,
    folder: Folder,
}

impl ControlPlane {
    /// Starts one, and returns when the controllers are at work.
    pub async fn start(options: Options) -> Self {
        let folder = Folder::temporary();
        let (servers, admin) = if env::var_os("USE_EXISTING_CLUSTER").is_some_and(|value| value == "true") {
            let file = env::var_os("KUBECONFIG").expect("USE_EXISTING_CLUSTER wants a KUBECONFIG");
            let admin = Access::given(PathBuf::from(file));
            servers::install(&admin, &options.crds).await;
            (None, admin)
        } else {
            let servers = Servers::start(&folder, &options).await;
            let admin = servers.admin().clone();
            (Some(servers), admin)
        };
        let plane = Self { servers, admin, names: AtomicU32::new(0), folder };
        controllers_are_at_work(&plane.client().await, "default").await;
        plane
    }

    /// The one that all tests of a program share, each in namespaces of its own. It is started when it is first asked for.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::start(Options::default())).await
    }

    /// Whether it was started here, and is not one that was there before.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.servers.is_some()
    }

    /// Who may do everything.
    #[must_use]
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// A client that may do everything. It belongs to the runtime that it was made in: one for each test.
    pub async fn client(&self) -> Client {
        self.admin.client().await
    }

    /// A user, who may do what roles say that are bound to the name or to one of the groups; nothing at first. The audit log
    /// names the administrator as well, who speaks for the user: see [`crate::Entry::who`].
    #[must_use]
    pub fn user(&self, user: &str, groups: &[&str]) -> Access {
        self.admin.speaking_for(self.folder.path(), &self.unused("user"), user, groups)
    }

    /// A service account, as a pod of it would be.
    pub async fn service_account(&self, namespace: &str, account: &str) -> Access {
        let name = self.unused("account");
        self.admin.service_account(self.folder.path(), &name, namespace, account).await
    }

    /// A new namespace, with what the controllers put into every one. It stays.
    pub async fn namespace(&self) -> String {
        self.namespace_with(&[]).await
    }

    /// A new namespace with labels, for example `pod-security.kubernetes.io/enforce`.
    pub async fn namespace_with(&self, labels: &[(&str, &str)]) -> String {
        let client = self.client().await;
        let labels: BTreeMap<_, _> =
            labels.iter().map(|&(label, value)| (label.to_owned(), value.to_owned())).collect();
        let metadata =
            ObjectMeta { generate_name: Some("test-".to_owned()), labels: Some(labels), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let made = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        controllers_are_at_work(&client, &made.name_any()).await;
        made.name_any()
    }

    /// Kinds that come later than the controllers, which may take half a minute to notice: see [`Options::crds`].
    pub async fn install(&self, crds: &[CustomResourceDefinition]) {
        servers::install(&self.admin, crds).await;
    }

    /// What the API server was asked for, and by whom.
    ///
    /// # Panics
    /// If it [is not ours](Self::is_own).
    #[must_use]
    pub fn audit(&self) -> Audit {
        assert!(self.is_own(), "only one's own control plane has an audit log");
        Audit::of(self.folder.path())
    }

    /// Kills the API server. What it has answered is in etcd.
    ///
    /// # Panics
    /// If it does not run, or [is not ours](Self::is_own).
    pub async fn stop_api_server(&self) {
        self.own().stop_api_server().await;
    }

    /// Starts the API server again, on its port, and returns when it is ready.
    ///
    /// # Panics
    /// If it runs, or [is not ours](Self::is_own).
    pub async fn start_api_server(&self) {
        self.own().start_api_server(&self.folder).await;
    }

    fn own(&self) -> &Servers {
        self.servers.as_ref().expect("only one's own API server can be stopped")
    }

    fn unused(&self, kind: &str) -> String {
        format!("{kind}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }
}

/// Two of the controllers leave their mark in every namespace; without the account no pod is let in.
async fn controllers_are_at_work(client: &Client, namespace: &str) {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    until(&maps, "kube-root-ca.crt", |map| map.is_some()).await;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    until(&accounts, "default", |account| account.is_some()).await;
}
