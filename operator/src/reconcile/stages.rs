//! What is to be, by stages, beside what there is.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::{
    apply::Prepared,
    build::{Objects, Stage},
    inventory::{JobState, Key, Need, Snapshot, State, Workload},
    names::{self, Component},
    rollout::{Health, Standing, Template},
    status::waiting_for,
};

/// All objects, prepared.
pub(super) struct Stages {
    stages: Vec<(Stage, Vec<Prepared>)>,
    keys: BTreeSet<Key>,
}

impl Stages {
    pub(super) fn prepare(objects: &Objects) -> serde_json::Result<Self> {
        let mut stages = Vec::new();
        for stage in Stage::ALL {
            let prepared = objects.of(stage).map(Prepared::new).collect::<serde_json::Result<Vec<_>>>()?;
            stages.push((stage, prepared));
        }
        let keys = stages.iter().flat_map(|(_, objects)| objects.iter().map(|object| object.key.clone())).collect();
        Ok(Self { stages, keys })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Stage, &[Prepared])> {
        self.stages.iter().map(|(stage, objects)| (*stage, objects.as_slice()))
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    fn jobs(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.kind == "Job")
    }

    /// How the Job stands that changes the schema, if there is one.
    pub(super) fn migration<'a>(&self, server: &str, there: &'a Snapshot) -> Option<&'a JobState> {
        let prefix = format!("{}-", names::of(server, Component::Migrate));
        self.jobs().find(|key| key.name.starts_with(&prefix)).and_then(|key| job(there, key))
    }

    /// Jobs that have given up, and when.
    pub(super) fn failed_jobs<'a>(&'a self, there: &'a Snapshot) -> impl Iterator<Item = (&'a Key, Timestamp)> {
        self.jobs().filter_map(|key| match job(there, key) {
            Some(JobState::Failed(time, _)) => Some((key, *time)),
            _ => None,
        })
    }

    /// How each stage stands that has pods.
    pub(super) fn standings(&self, there: &Snapshot) -> Vec<Standing> {
        self.iter().filter_map(|(stage, objects)| standing(stage, objects, there)).collect()
    }
}

impl Prepared {
    pub(super) fn need(&self, there: &Snapshot) -> Need {
        there.need(&self.key, self.digest())
    }
}

/// How a Job stands, unless it is being deleted.
fn job<'a>(there: &'a Snapshot, key: &Key) -> Option<&'a JobState> {
    let child = there.children.get(key).filter(|child| !child.is_ending)?;
    match &child.state {
        State::Job(job) => Some(job),
        _ => None,
    }
}

/// How a Deployment or StatefulSet stands, unless it is being deleted.
pub(super) fn workload<'a>(there: &'a Snapshot, key: &Key) -> Option<&'a Workload> {
    let child = there.children.get(key).filter(|child| !child.is_ending)?;
    match &child.state {
        State::Workload(workload) => Some(workload),
        _ => None,
    }
}

fn standing(stage: Stage, objects: &[Prepared], there: &Snapshot) -> Option<Standing> {
    let each = objects.iter().filter_map(|object| match object.key.kind.as_str() {
        "Job" => Some(of_job(job(there, &object.key))),
        "Deployment" | "StatefulSet" => {
            Some(of_workload(stage, object.template.as_deref(), workload(there, &object.key)))
        }
        _ => None,
    });
    // The worst speaks for all of them.
    let (template, health) = each.max_by_key(|(template, health)| (rank(*template), severity(health)))?;
    Some(Standing { stage, template, health })
}

const fn rank(template: Template) -> u8 {
    match template {
        Template::Current => 0,
        Template::Other => 1,
        Template::Missing => 2,
    }
}

const fn severity(health: &Health) -> u8 {
    match health {
        Health::Complete => 0,
        Health::Usable(_) => 1,
        Health::Waiting(_) => 2,
        Health::Stuck { .. } => 3,
    }
}

fn of_job(job: Option<&JobState>) -> (Template, Health) {
    match job {
        None => (Template::Missing, Health::Waiting("Jobs that come first are to be made".to_owned())),
        Some(JobState::Running) => (Template::Current, Health::Waiting("Jobs that come first are at work".to_owned())),
        Some(JobState::Succeeded) => (Template::Current, Health::Complete),
        Some(JobState::Failed(_, message)) => {
            let message = format!("a Job that comes first has failed, and is tried again: {message}");
            (Template::Current, Health::Stuck { is_usable: false, reason: "JobFailed", message })
        }
    }
}

fn of_workload(stage: Stage, template: Option<&str>, workload: Option<&Workload>) -> (Template, Health) {
    let Some(workload) = workload else {
        return (Template::Missing, Health::Waiting(format!("{} are to be made", crate::rollout::pods(stage))));
    };
    let is_current = template == Some(workload.template.as_str());
    let health = if workload.is_complete() {
        Health::Complete
    } else if let Some(message) = workload.stuck.clone().filter(|_| workload.is_observed) {
        let message = format!("{} do not get on: {message}", crate::rollout::pods(stage));
        Health::Stuck { is_usable: workload.available > 0, reason: "RolloutStuck", message }
    } else if workload.available > 0 {
        Health::Usable(waiting_for(stage, workload))
    } else {
        Health::Waiting(waiting_for(stage, workload))
    };
    (if is_current { Template::Current } else { Template::Other }, health)
}
