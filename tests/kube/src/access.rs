//! Who somebody is to the API server: a kubeconfig, and clients made from it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext},
};

use crate::{
    certificates::{Pair, write},
    programs,
};

/// How long a service account's token is good for, in seconds: longer than any test.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// A user's way to the API server. Its file is there as long as the control plane.
#[derive(Clone)]
pub struct Access {
    kubeconfig: Kubeconfig,
    file: PathBuf,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Access").field(&self.file).finish()
    }
}

impl Access {
    /// The kubeconfig's file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What a client is made from.
    pub async fn config(&self) -> Config {
        Config::from_custom_kubeconfig(self.kubeconfig.clone(), &KubeConfigOptions::default()).await.unwrap()
    }

    /// A client that shows every answer: also one that asks to try again later, with which others wait for minutes. It
    /// belongs to the runtime that it was made in: one for each test.
    pub async fn client(&self) -> Client {
        let mut config = self.config().await;
        config.default_retry = false;
        config.try_into().unwrap()
    }

    /// `helm` or `kubectl`, with this kubeconfig; built first if need be.
    pub async fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs::program(program).await);
        command.env("KUBECONFIG", &self.file);
        command
    }

    /// By a client's certificate.
    pub(crate) fn certificate(folder: &Path, name: &str, server: &str, ca: &Path, pair: &Pair) -> Self {
        let cluster =
            Cluster { server: Some(server.to_owned()), certificate_authority: Some(text(ca)), ..Cluster::default() };
        let user = AuthInfo {
            client_certificate: Some(text(&pair.certificate)),
            client_key: Some(text(&pair.key)),
            ..AuthInfo::default()
        };
        Self::write(folder, name, cluster, user)
    }

    /// By the kubeconfig of a cluster that runs already, as `KUBECONFIG` names it.
    pub(crate) fn given(file: PathBuf) -> Self {
        Self { kubeconfig: Kubeconfig::read_from(&file).unwrap(), file }
    }

    /// As somebody else, whom this one, who may do everything, speaks for.
    pub(crate) fn speaking_for(&self, folder: &Path, name: &str, user: &str, groups: &[&str]) -> Self {
        let (cluster, own) = self.current();
        let other = AuthInfo {
            impersonate: Some(user.to_owned()),
            impersonate_groups: Some(groups.iter().map(|&group| group.to_owned()).collect()),
            ..own
        };
        Self::write(folder, name, cluster, other)
    }

    /// As a service account, by a token that this one asks for.
    pub(crate) async fn service_account(&self, folder: &Path, name: &str, namespace: &str, account: &str) -> Self {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        let token = answer.status.unwrap().token;
        let user = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        Self::write(folder, name, self.current().0, user)
    }

    fn current(&self) -> (Cluster, AuthInfo) {
        let Kubeconfig { clusters, contexts, auth_infos, current_context, .. } = &self.kubeconfig;
        let current = current_context.as_ref().unwrap();
        let context = contexts.iter().find(|context| context.name == *current).unwrap().context.clone().unwrap();
        let cluster = clusters.iter().find(|cluster| cluster.name == context.cluster).unwrap().cluster.clone();
        let user = auth_infos.iter().find(|user| Some(&user.name) == context.user.as_ref());
        (cluster.unwrap(), user.unwrap().auth_info.clone().unwrap())
    }

    fn write(folder: &Path, name: &str, cluster: Cluster, user: AuthInfo) -> Self {
        let context = Context { cluster: "tests".to_owned(), user: Some(name.to_owned()), ..Context::default() };
        let named = |name: &str| name.to_owned();
        let kubeconfig = Kubeconfig {
            api_version: Some(named("v1")),
            kind: Some(named("Config")),
            clusters: vec![NamedCluster { name: named("tests"), cluster: Some(cluster), ..NamedCluster::default() }],
            auth_infos: vec![NamedAuthInfo { name: named(name), auth_info: Some(user), ..NamedAuthInfo::default() }],
            contexts: vec![NamedContext { name: named("tests"), context: Some(context), ..NamedContext::default() }],
            current_context: Some(named("tests")),
            ..Kubeconfig::default()
        };
        // What is JSON is YAML.
        let content = serde_json::to_string_pretty(&kubeconfig).unwrap();
        let file = write(folder, &format!("{name}.kubeconfig"), &content);
        Self { kubeconfig, file }
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
