//! What is rendered: taken by an API server, of the level `restricted`, and no more than is asked for.

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json};
use starling_kube_tests::{Namespace, programs};

use crate::{
    cluster::{dry_run, pod_of, shared},
    helm::{Helm, TRIAL, chart, one},
};

/// Values, and what they are called.
fn sets() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("as they are", vec![]),
        ("a server", vec!["--set", "server.create=true", "--set-json", TRIAL]),
        ("one namespace", vec!["--set", "watchNamespace=NAMESPACE,crds.install=false"]),
        (
            "everything",
            vec![
                "--set",
                "replicas=3,image.tag=1.2.3,image.pullPolicy=Always,imagePullSecrets[0].name=registry",
                "--set",
                "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "--set",
                "serverImage=registry.example:5000/starlingd:1,leaderElection.leaseSeconds=15,log.format=human",
                "--set-string",
                "podLabels.team=chat,podAnnotations.note=1,serviceAccount.annotations.note=1,nodeSelector.pool=chat",
                "--set-json",
                r#"tolerations=[{"key":"chat","operator":"Exists"}]"#,
                "--set-json",
                r#"topologySpreadConstraints=[{"topologyKey":"kubernetes.io/hostname","maxSkew":1,"whenUnsatisfiable":"ScheduleAnyway"}]"#,
                "--set-json",
                r#"affinity={"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"a","operator":"Exists"}]}]}}}"#,
                "--set-json",
                r#"networkPolicy.metricsFrom=[{"namespaceSelector":{}}]"#,
                "--set-json",
                r#"networkPolicy.apiServer=[{"ipBlock":{"cidr":"10.0.0.1/32"}}]"#,
                "--set",
                "podMonitor.labels.release=prometheus,prometheusRule.labels.release=prometheus,dashboards.enabled=true",
                "--set",
                "server.create=true,server.keep=false,test.caSecret=authority,http.port=9090,priorityClassName=high",
                "--set-json",
                TRIAL,
            ],
        ),
        (
            "as little as can be",
            vec![
                "--set",
                "crds.install=false,rbac.create=false,serviceAccount.create=false,networkPolicy.enabled=false",
                "--set",
                "podMonitor.enabled=false,prometheusRule.enabled=false,replicas=0,resources=null",
            ],
        ),
    ]
}

#[tokio::test]
async fn the_chart_is_without_a_fault() {
    let helm = Helm::alone().await;
    for (name, values) in sets() {
        let values: Vec<_> = values.iter().map(|value| value.replace("NAMESPACE", "chat")).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        // It has no way to say which kinds there are: the definition is taken to be there.
        let makes = values.iter().any(|value| value.contains("server.create=true"));
        let given: &[_] = if makes { &["--set", "crds.install=false"] } else { &[] };
        let said = helm.succeed(&[&["lint", "--strict", &chart()], values.as_slice(), given].concat()).await;
        assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{name}: {said}");
    }
}

#[tokio::test]
async fn what_is_rendered_is_taken_by_the_api_server() {
    let plane = shared().await;
    let at = Namespace::of(plane.client().await, plane.namespace().await);
    let helm = Helm::of(plane.admin()).await;
    for (name, values) in sets() {
        let values: Vec<_> = values.iter().map(|value| value.replace("NAMESPACE", &at.namespace)).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let objects = helm.template(&at.namespace, &values).await;
        assert!(objects.iter().any(|object| object["kind"] == "Deployment"), "{name}");
        for object in &objects {
            let kind = &object["kind"];
            dry_run(&at, object).await.unwrap_or_else(|error| panic!("{name}: {kind}: {error}"));
        }
    }
}

#[tokio::test]
async fn the_operator_s_pod_and_that_of_the_test_are_of_the_level_restricted() {
    let plane = shared().await;
    let namespace = plane.namespace_with(&[("pod-security.kubernetes.io/enforce", "restricted")]).await;
    let at = Namespace::of(plane.client().await, namespace);
    let values = ["--set", "server.create=true", "--set-json", TRIAL];
    let objects = Helm::alone().await.template(&at.namespace, &values).await;
    let mut operator = pod_of(one(&objects, "Deployment"));
    assert_eq!(operator.pointer("/spec/containers/0/securityContext/readOnlyRootFilesystem"), Some(&json!(true)));
    operator["spec"]["serviceAccountName"] = json!("default");
    for pod in [&operator, one(&objects, "Pod")] {
        dry_run(&at, pod).await.unwrap_or_else(|error| panic!("{error}: {pod:#}"));
    }
    operator["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    dry_run(&at, &operator).await.unwrap_err();
}

#[tokio::test]
async fn values_that_cannot_be_are_refused_by_their_names() {
    let helm = Helm::alone().await;
    for (values, words) in [
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.tags=1", "at '/image': additional properties 'tags' not allowed"),
        ("replicas=-1", "at '/replicas': minimum: got -1, want 0"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of"),
        ("image.digest=sha256:00", "at '/image/digest'"),
        ("leaderElection.leaseSeconds=1", "at '/leaderElection/leaseSeconds': minimum"),
        ("log.format=xml", "at '/log/format': value must be one of 'json', 'human'"),
        ("watchNamespace=a b", "at '/watchNamespace'"),
        ("http.port=0", "at '/http/port'"),
        ("networkPolicy.apiServerPorts={https}", "at '/networkPolicy/apiServerPorts/0': got string, want integer"),
        ("server.name=Chat", "at '/server/name'"),
        ("server.create=true", "at '/server/spec': missing property 'domains'"),
        ("podMonitor.intervalSeconds=30s", "at '/podMonitor/intervalSeconds': got string, want integer"),
    ] {
        let said = helm.fail(&["template", "demo", &chart(), "--set", values]).await;
        assert!(said.contains("values don't meet the specifications") && said.contains(words), "{values}: {said}");
    }
}

#[tokio::test]
async fn for_one_namespace_nothing_of_the_whole_cluster_is_made() {
    let helm = Helm::alone().await;
    let objects = helm.template("operators", &["--set", "watchNamespace=chat,crds.install=false"]).await;
    for object in &objects {
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.starts_with("Cluster"), "{kind}");
        let expected: &[&str] = if kind.starts_with("Role") { &["chat", "operators"] } else { &["operators"] };
        assert!(expected.contains(&object["metadata"]["namespace"].as_str().unwrap()), "{kind}");
    }
    let arguments = one(&objects, "Deployment").pointer("/spec/template/spec/containers/0/args").unwrap();
    assert!(arguments.as_array().unwrap().contains(&json!("--namespace=chat")), "{arguments}");
}

#[tokio::test]
async fn the_same_rules_hold_for_one_namespace_and_for_all() {
    let helm = Helm::alone().await;
    let rules = |objects: &[Value], kind: &str, name: &str| {
        let role = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        role.unwrap_or_else(|| panic!("no {kind} {name}"))["rules"].clone()
    };
    let all = rules(&helm.template("chat", &[]).await, "ClusterRole", "chat:demo-starling");
    let one = rules(&helm.template("chat", &["--set", "watchNamespace=chat"]).await, "Role", "demo-starling");
    assert_eq!(all, one);
    for rule in all.as_array().unwrap() {
        for field in ["apiGroups", "resources", "verbs"] {
            assert!(!rule[field].as_array().unwrap().contains(&json!("*")), "{rule}");
        }
    }
}

#[tokio::test]
async fn two_releases_are_in_no_way_of_each_other() {
    let helm = Helm::alone().await;
    let names = async |namespace: &str| {
        let objects = helm.template(namespace, &["--set", "crds.install=false"]).await;
        let key = |object: &Value| {
            (object["kind"].clone(), object["metadata"]["namespace"].clone(), object["metadata"]["name"].clone())
        };
        objects.iter().map(|object| format!("{:?}", key(object))).collect::<BTreeSet<_>>()
    };
    assert!(names("one").await.is_disjoint(&names("two").await));
}

#[tokio::test]
async fn what_the_cluster_lacks_is_left_out() {
    let said = Helm::alone().await.succeed(&["template", "demo", &chart()]).await;
    assert!(said.contains("kind: Deployment") && !said.contains("monitoring.coreos.com/v1\n"), "{said}");
}

#[tokio::test]
async fn a_server_is_not_made_at_once_with_its_kind() {
    let arguments = ["template", "demo", &chart(), "--set", "server.create=true", "--set-json", TRIAL];
    let said = Helm::alone().await.fail(&arguments).await;
    assert!(said.contains("Install without it first; then run `helm upgrade`"), "{said}");
}

/// The names in an expression that are metrics.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("starling_") || word.starts_with("process_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[tokio::test]
async fn dashboards_ask_for_metrics_that_there_are() {
    let printed = Command::new(programs::own("starlingd")).arg("metrics").output().unwrap();
    let reference = String::from_utf8(printed.stdout).unwrap();
    let known: BTreeSet<_> = reference.lines().filter_map(|line| line.split('`').nth(1)).collect();
    let objects = Helm::alone().await.template("chat", &["--set", "dashboards.enabled=true"]).await;
    let mut asked = 0;
    for map in objects.iter().filter(|object| object["kind"] == "ConfigMap") {
        for text in map["data"].as_object().unwrap().values() {
            let dashboard: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            let panels = dashboard["panels"].as_array().unwrap();
            let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
            for metric in targets.flat_map(|target| metrics(target["expr"].as_str().unwrap())) {
                // The operator's are in its own code, and not printed.
                assert!(known.contains(metric.as_str()) || metric.starts_with("starling_operator_"), "{metric}");
                asked += 1;
            }
        }
    }
    assert!(asked > 10);
}

#[tokio::test]
async fn servers_have_their_image_from_where_the_operator_has_its_own() {
    let helm = Helm::alone().await;
    for (set, image) in [
        ("image.tag=v9", "ghcr.io/starling-im/starlingd"),
        ("image.repository=registry.example:5000/a/b/operator", "registry.example:5000/a/b/starlingd"),
        ("image.repository=operator", "starlingd"),
    ] {
        let objects = helm.template("chat", &["--set", set]).await;
        let arguments = one(&objects, "Deployment").pointer("/spec/template/spec/containers/0/args").unwrap();
        let expected = format!("--server-image={image}:{}", env!("CARGO_PKG_VERSION"));
        assert!(arguments.as_array().unwrap().contains(&json!(expected)), "{set}: {arguments}");
    }
}
