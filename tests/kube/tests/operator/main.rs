//! The operator against a real API server and Kubernetes' own controllers; nodes are simulated.
//!
//! Each test has a namespace of its own, and an operator of its own for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod changes;
mod leading;
mod life;
mod rollouts;
mod trouble;
mod world;

use starling_kube_tests::{ControlPlane, Options};
use tokio::sync::OnceCell;

/// The control plane of all tests here.
async fn plane() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    let crds = vec![starling_operator::crd::definition()];
    PLANE.get_or_init(|| ControlPlane::start(Options { crds, ..Options::default() })).await
}
