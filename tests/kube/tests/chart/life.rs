//! The chart's life in a cluster: installed, upgraded, rolled back, uninstalled.

use std::{fs, ops::Deref, path::Path, process::Command};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        rbac::v1::{Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::DynamicObject};
use serde_json::{Value, json};
use starling_kube_tests::{ControlPlane, Kubelet, Life, Namespace, Options, PATIENCE, asked, until};

use crate::{
    cluster::{api, apply},
    file,
    helm::{Helm, TRIAL, chart, documents},
};

const DEFINITION: &str = "xmppservers.starling.im";
/// A field that the definition of the previous chart lacks.
const FIELD: &str = "registration";

/// The chart as it was before: another version, and a definition without [`FIELD`]. Returns its package.
async fn previous(helm: &Helm, folder: &Path) -> String {
    let chart = folder.join("starling");
    assert!(Command::new("cp").arg("-r").arg(crate::helm::chart()).arg(&chart).status().unwrap().success());
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = chart.join(name);
        let mut value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, value.to_string()).unwrap();
    };
    edit("Chart.yaml", &|chart| {
        chart["version"] = json!("0.0.9");
        chart["appVersion"] = json!("0.0.9");
    });
    edit("files/xmppservers.starling.im.yaml", &|definition| {
        let spec = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties");
        spec.unwrap().as_object_mut().unwrap().remove(FIELD).unwrap();
    });
    let folder = folder.display().to_string();
    helm.succeed(&["package", &chart.display().to_string(), "--destination", &folder]).await;
    format!("{folder}/starling-0.0.9.tgz")
}

fn server(name: &str) -> Value {
    let mut server = documents(&fs::read_to_string(file("examples/standalone.yaml")).unwrap()).remove(0);
    server["metadata"]["name"] = json!(name);
    server["spec"][FIELD] = json!({"enabled": true});
    server
}

struct Cluster {
    plane: ControlPlane,
    at: Namespace,
    helm: Helm,
    _kubelet: Kubelet,
}

impl Deref for Cluster {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.at
    }
}

impl Cluster {
    async fn start(options: Options) -> Self {
        let plane = ControlPlane::start(options).await;
        let (client, namespace) = (plane.client().await, plane.namespace().await);
        let _kubelet = Kubelet::start(client.clone(), Some(&namespace), Life::good).await;
        let helm = Helm::of(plane.admin()).await;
        Self { plane, at: Namespace::of(client, namespace), helm, _kubelet }
    }

    async fn helm(&self, arguments: &[&str]) -> String {
        let common = ["--namespace", &self.namespace, "--timeout", "100s"];
        self.helm.succeed(&[arguments, &common].concat()).await
    }

    /// The release of the operator that runs.
    async fn version(&self) -> String {
        let deployment = self.api::<Deployment>().get("demo-starling").await;
        let pod = deployment.unwrap().spec.unwrap().template.spec.unwrap();
        pod.containers[0].image.as_ref().unwrap().rsplit_once(':').unwrap().1.to_owned()
    }

    /// Whether the definition has its [`FIELD`].
    async fn assert_field(&self, known: bool) {
        let definitions = Api::<CustomResourceDefinition>::all(self.client.clone());
        let has = |definition: Option<&CustomResourceDefinition>| {
            let definition = serde_json::to_value(definition?).unwrap();
            let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")?;
            Some(spec.get(FIELD).is_some())
        };
        let definition = definitions.get(DEFINITION).await.unwrap();
        assert_eq!(has(Some(&definition)), Some(known));
    }

    async fn servers(&self) -> Api<DynamicObject> {
        api(self, &server("chat")).await
    }
}

#[tokio::test]
async fn an_upgrade_upgrades_the_definition_a_rollback_takes_it_back_and_it_outlives_the_release() {
    let cluster = Cluster::start(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let (previous, chart) = (previous(&cluster.helm, folder.path()).await, chart());

    let said = cluster.helm(&["install", "demo", &previous, "--wait"]).await;
    assert!(said.contains("Next, ask for a server"), "{said}");
    cluster.assert_field(false).await;
    assert_eq!(cluster.version().await, "0.0.9");
    let refused = apply(&cluster, &server("chat")).await.unwrap_err();
    assert!(refused.to_string().contains(FIELD), "{refused}");

    cluster.helm(&["upgrade", "demo", &chart, "--wait"]).await;
    cluster.assert_field(true).await;
    assert_eq!(cluster.version().await, env!("CARGO_PKG_VERSION"));
    let made = serving(&cluster, FIELD).await;
    let uid = made.metadata.uid.unwrap();

    cluster.helm(&["rollback", "demo", "1", "--wait"]).await;
    cluster.assert_field(false).await;
    assert_eq!(cluster.version().await, "0.0.9");
    let there = cluster.servers().await.get("chat").await.unwrap();
    assert_eq!(there.metadata.uid.as_ref(), Some(&uid));

    cluster.helm(&["upgrade", "demo", &chart, "--wait"]).await;
    let said = cluster.helm(&["uninstall", "demo", "--wait"]).await;
    assert!(said.contains("[CustomResourceDefinition] xmppservers.starling.im"), "it says what it kept: {said}");
    until(&cluster.api::<Deployment>(), "demo-starling", |deployment| deployment.is_none()).await;
    cluster.assert_field(true).await;
    let there = cluster.servers().await.get("chat").await.unwrap();
    assert_eq!((there.metadata.uid, there.metadata.deletion_timestamp), (Some(uid), None));

    // Under its name again, it takes over what is there.
    cluster.helm(&["install", "demo", &chart, "--wait"]).await;
    // Another does not.
    let other = ["install", "other", &chart, "--namespace", &cluster.namespace];
    let said = cluster.helm.fail(&other).await;
    assert!(said.contains("cannot be imported into the current release"), "{said}");
    cluster.helm(&["install", "other", &chart, "--set", "crds.install=false"]).await;
}

/// Upgrades as soon as the API server says that it has the kind: one that was just defined, it offers a moment later.
async fn upgraded(cluster: &Cluster, arguments: &[&str]) -> String {
    let run = async || {
        let output = cluster.helm.run(arguments).await;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("the cluster does not have the kind XmppServer yet"), "{said}");
        Err(said)
    };
    asked(PATIENCE, run).await
}

/// Applies the server as soon as the API server takes its fields: a definition that has changed is served a moment later.
async fn serving(cluster: &Cluster, field: &str) -> DynamicObject {
    let apply = async || {
        let made = apply(cluster, &server("chat")).await;
        made.inspect_err(|error| assert!(error.to_string().contains(field), "{error}"))
    };
    asked(PATIENCE, apply).await
}

#[tokio::test]
async fn a_server_comes_with_an_upgrade_and_outlives_the_release() {
    let cluster = Cluster::start(Options::default()).await;
    let chart = chart();
    let with_server = ["--set", "server.create=true", "--set-json", TRIAL];
    let install = ["install", "demo", &chart, "--namespace", &cluster.namespace];
    let said = cluster.helm.fail(&[install.as_slice(), &with_server].concat()).await;
    assert!(said.contains("Install without it first"), "{said}");

    cluster.helm(&install[..3]).await;
    let upgrade = ["upgrade", "demo", &chart];
    let all = [upgrade.as_slice(), &with_server, &["--namespace", &cluster.namespace]].concat();
    let said = upgraded(&cluster, &all).await;
    assert!(said.contains("get xmpp xmpp"), "{said}");
    let made = cluster.servers().await.get("xmpp").await.unwrap();
    assert_eq!(made.data["spec"]["profile"], "Standalone");

    cluster.helm(&[&upgrade, with_server.as_slice(), &["--set", "server.spec.paused=true"]].concat()).await;
    let changed = cluster.servers().await.get("xmpp").await.unwrap();
    assert_eq!((&changed.metadata.uid, &changed.data["spec"]["paused"]), (&made.metadata.uid, &json!(true)));
    cluster.helm(&["uninstall", "demo", "--wait"]).await;
    let kept = cluster.servers().await.get("xmpp").await.unwrap();
    assert_eq!((kept.metadata.uid, kept.metadata.deletion_timestamp), (made.metadata.uid, None));
}

#[tokio::test]
async fn who_may_do_anything_in_one_namespace_alone_can_install_for_it() {
    let crds = vec![starling_operator::crd::definition()];
    let cluster = Cluster::start(Options { crds, ..Options::default() }).await;
    let rule = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    cluster.create::<Role>(json!({"metadata": {"name": "all"}, "rules": [rule]})).await;
    let binding = json!({
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tenant"}],
    });
    cluster.create::<RoleBinding>(binding).await;

    let helm = Helm::of(&cluster.plane.user("tenant", &[])).await;
    let (chart, watched) = (chart(), format!("watchNamespace={},crds.install=false", cluster.namespace));
    let install = ["install", "demo", &chart, "--namespace", &cluster.namespace];
    let said = helm.fail(&install).await;
    assert!(said.contains("cannot"), "{said}");
    helm.succeed(&[install.as_slice(), &["--set", &watched, "--wait", "--timeout", "100s"]].concat()).await;
    helm.succeed(&["uninstall", "demo", "--namespace", &cluster.namespace]).await;
}
