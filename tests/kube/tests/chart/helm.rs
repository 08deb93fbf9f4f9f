//! Helm, with a home of its own: it keeps what it learns of a server by its address, and ports are used again.

use std::{path::PathBuf, process::Output};

use serde_json::Value;
use starling_kube_tests::{Access, programs};
use tempfile::TempDir;
use tokio::process::Command;

/// The spec of a server for a trial, as an argument of `--set-json`.
pub(crate) const TRIAL: &str = r#"server.spec={"profile":"Standalone","domains":[{"name":"example.com"}],"firstAdmin":{"address":"admin@example.com"}}"#;

/// Helm for one user of one cluster, or of none.
pub(crate) struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: TempDir,
}

impl Helm {
    pub(crate) async fn of(access: &Access) -> Self {
        Self::new(access.file().to_owned()).await
    }

    /// For what needs no cluster.
    pub(crate) async fn alone() -> Self {
        Self::new(PathBuf::from("/dev/null")).await
    }

    async fn new(kubeconfig: PathBuf) -> Self {
        Self { program: programs::program("helm").await, kubeconfig, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.env("HOME", self.home.path()).env("KUBECONFIG", &self.kubeconfig).args(arguments).kill_on_drop(true);
        command.output().await.unwrap()
    }

    /// What it prints.
    pub(crate) async fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "helm {arguments:?}: {out}{errors}");
        out.into_owned()
    }

    /// Why it does not.
    pub(crate) async fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(!output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The chart's objects, those of hooks as well.
    pub(crate) async fn template(&self, namespace: &str, more: &[&str]) -> Vec<Value> {
        let chart = chart();
        let mut arguments = vec!["template", "demo", &chart, "--namespace", namespace];
        for kind in ["starling.im/v1alpha1/XmppServer", "monitoring.coreos.com/v1/PodMonitor"] {
            arguments.extend(["--api-versions", kind]);
        }
        arguments.extend(["--api-versions", "monitoring.coreos.com/v1/PrometheusRule"]);
        arguments.extend(more);
        documents(&self.succeed(&arguments).await)
    }
}

/// The chart's folder.
pub(crate) fn chart() -> String {
    crate::file("starling").display().to_string()
}

/// The objects of a file.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// The one of this kind.
pub(crate) fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}
