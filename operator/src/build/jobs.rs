//! Jobs that come before pods: the schema, and the first administrator.
//!
//! A Job cannot be changed. Its name holds a hash of its pod: what is to be done anew is a new Job.

use k8s_openapi::api::batch::v1::{Job, JobSpec};

use crate::{
    hash,
    names::{self, Component},
    validate::Validated,
};

use super::{Objects, Role, Stage, config, metadata, pod};

/// A migration may take long, and so may the one that is waited for.
const PATIENCE: i64 = 3600;
const TRIES: i32 = 6;

pub(super) fn all(server: &Validated, objects: &mut Objects) {
    let jobs = [Component::Migrate, Component::FirstAdmin];
    for component in jobs.into_iter().filter(|component| server.settings.contains_key(component)) {
        objects.extend(Stage::Migration, config::config_map(server, component));
        objects.push(Stage::Migration, job(server, component));
    }
}

fn job(server: &Validated, component: Component) -> Job {
    let template = pod::template(server, &Role::of(server, component));
    // What cannot be written as JSON does not exist among pods.
    let hash = hash::short(&serde_json::to_vec(&template).unwrap_or_default());
    let name = format!("{}-{hash}", names::of(&server.owner.name, component));
    Job {
        metadata: metadata(&server.owner, name, Some(component)),
        spec: Some(JobSpec {
            template,
            backoff_limit: Some(TRIES),
            active_deadline_seconds: Some(PATIENCE),
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}
