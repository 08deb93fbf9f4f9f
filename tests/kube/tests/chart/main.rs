//! The chart, its examples and the images: what Helm makes of them, an API server takes, and the operator means.
//!
//! ```text
//!   generated    what is written from something else is as that is now        (no cluster)
//!   templates    what is rendered, for many values                            (shared cluster, dry runs)
//!   examples     helm/examples, applied                                       (shared cluster)
//!   life         install, upgrade, roll back, uninstall                       (a cluster for each)
//!   rights       what the operator may do is what it does            (a cluster for each)
//!   log_in       what `helm test` runs                                        (a real starlingd)
//!   images       helm/images/build, unpacked and run                          (no cluster)
//! ```
#![allow(clippy::unwrap_used, clippy::panic, clippy::string_slice, reason = "what fails fails the test")]

mod cluster;
#[path = "../../../../operator/tests/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the operator's tests use all of it")]
#[path = "../operator/conditions.rs"]
mod conditions;
mod examples;
mod generated;
mod helm;
mod images;
mod life;
mod log_in;
mod rights;
mod templates;

use std::path::PathBuf;

/// A file or folder below `helm`.
fn file(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../helm", path].iter().collect()
}
