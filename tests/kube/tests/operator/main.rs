//! The operator against a real API server and Kubernetes' own controllers; nodes are simulated.
//!
//! Each test has a namespace of its own, and an operator of its own for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod changes;
#[path = "../../../../operator/tests/common/mod.rs"]
mod common;
mod fewer;
mod fields;
mod leading;
mod life;
mod offers;
mod process;
mod refusals;
mod rollouts;
mod secrets;
mod steps;
mod trouble;
mod world;

use starling_kube_tests::{ControlPlane, Options, kinds_of_others};
use tokio::sync::OnceCell;

/// The control plane of all tests here but one: with all kinds that servers may use, and addresses of both families.
async fn plane() -> &'static ControlPlane {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    let start = || async {
        let crds = [vec![starling_operator::crd::definition()], kinds_of_others()].concat();
        let api_server = vec!["--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112".to_owned()];
        ControlPlane::start(Options { crds, api_server, ..Options::default() }).await
    };
    PLANE.get_or_init(start).await
}
