//! The programs: those of the control plane, built when they are not there by `tests/kube/control-plane/build`; and the
//! project's own, which Cargo has built beside the tests.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a control plane is made of.
pub const CONTROL_PLANE: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// The folder that has these programs. Takes minutes if one of them must be built first; whoever else asks for one
/// meanwhile, in any process, waits. `KUBEBUILDER_ASSETS`, if it has them all, is the folder.
pub async fn folder(programs: &[&str]) -> PathBuf {
    let mut build = tokio::process::Command::from(Command::new(script()));
    build.args(programs).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = build.output().await.unwrap();
    assert!(output.status.success(), "{programs:?} cannot be built");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// One of them, for example `helm` or `kubectl`.
pub async fn program(name: &str) -> PathBuf {
    folder(&[name]).await.join(name)
}

/// `starlingd` or `starling-operator`. `STARLINGD` names another `starlingd`.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn own(name: &str) -> PathBuf {
    starling_backends::program(name).unwrap_or_else(|error| panic!("{error}"))
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane/build")
}
