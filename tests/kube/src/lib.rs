//! A real Kubernetes control plane on one machine, without containers: what the operator and the chart are tested against.
//! Used by the tests of `operator`, by `tests/kube/up`, and by nothing of the program.
//!
//! ```text
//!   test ──► ControlPlane ─┬─ etcd ◄── kube-apiserver ◄── kube-controller-manager    children: loopback, ports that were
//!     │                    │                 │    │                                  free, data in a temporary folder
//!     │                    └─ Access ────────┘    └──► audit log ──► Audit
//!     │                       kubeconfig, client          who asked for what, and what it was told
//!     ├────► Kubelet          binds Pods, runs them, ends them, by the rule that the test gives: nothing really runs
//!     └────► Node             the same of pods of `starlingd`, which do run: processes, networks, files
//! ```
//!
//! API server and controllers are Kubernetes' own, with the admission plugins that are on by default. What is missing is
//! nodes, so there is no scheduler either: [`Kubelet`] and [`Node`] play both. The programs are built from their modules when they are
//! first asked for ([`programs`]), which takes minutes.
//!
//! Everything in it panics when something is not as expected: it is part of tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

mod access;
mod audit;
mod certificates;
mod control_plane;
mod foreign;
mod golden;
mod http;
mod isolated;
mod kubelet;
mod namespace;
mod node;
mod operator;
mod process;
pub mod programs;
mod servers;
mod wait;

pub use self::{
    access::Access,
    audit::{Audit, Entry, ObjectReference, ResponseStatus, User},
    certificates::certificate,
    control_plane::{ControlPlane, Options},
    foreign::{kinds_of_others, prometheus_operator},
    golden::assert_golden,
    isolated::isolated,
    kubelet::{End, Kubelet, Life, State},
    namespace::Namespace,
    node::{Ended, Endpoints, Node},
    operator::Operator,
    wait::{PATIENCE, asked, until},
};
