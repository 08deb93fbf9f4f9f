//! What people are told: conditions, pods, addresses, DNS records. Pure: what was found goes in, with the clock.
//!
//! ```text
//!   Finding (how it went, what there is, now) ──┬─► conditions   Ready, Progressing, Degraded, TLSReady, Migrated, Paused
//!                                               ├─► dns          records to create, addresses
//!                                               └─► roles        pods ready and desired, selectors
//! ```
//!
//! A condition keeps its time while it stays as it is, and texts hold nothing that changes all day: a status that says the
//! same is the same, and is not written.

mod conditions;
mod dns;

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{
    build::Stage,
    crd::{CertificateStatus, ConditionType, Profile, RoleStatus, XmppServer, XmppServerStatus},
    dereference::{CertificateLookup, Dereferenced, certificate_secrets},
    inventory::{Clients, JobState, Snapshot, State, Workload},
    names::{self, Component},
    rollout::Progress,
    validate::{Note, Problem, Validated},
};

/// A pod that should have ended so long ago is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Pods that are missing for so long are missed.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// As long as the schema lets it be.
const TEXT: usize = 1024;

/// What was found of a server.
#[derive(Debug)]
pub struct Finding<'a> {
    /// When.
    pub now: Timestamp,
    /// What there is of it.
    pub there: &'a Snapshot,
    /// What was read for it, if anything was.
    pub read: Option<&'a Dereferenced>,
    /// How it went.
    pub outcome: Outcome<'a>,
}

/// How it went.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Nothing was done, as was asked for.
    Paused,
    /// Nothing was done: that stood in the way.
    Invalid(&'a [Problem]),
    /// The API server did not take something.
    Refused {
        /// What was to be.
        server: &'a Validated,
        /// What it did not take, and why.
        message: String,
    },
    /// It was applied, as far as it could be yet.
    Applied {
        /// What was to be.
        server: &'a Validated,
        /// How far it is.
        progress: &'a Progress,
        /// The Job that changes the schema, if there is one.
        migration: Option<&'a JobState>,
        /// Beside those of `server`.
        notes: &'a [Note],
    },
}

/// The status, and when to look again although nothing changes.
#[must_use]
pub fn status(server: &XmppServer, finding: &Finding<'_>) -> (XmppServerStatus, Option<Timestamp>) {
    let before = server.status.clone().unwrap_or_default();
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let clients = clients(name, finding.there);
    let (conditions, again) = conditions::conditions(server, finding);
    let status = XmppServerStatus {
        observed_generation: server.metadata.generation,
        conditions: kept(&before.conditions, conditions, finding.now),
        domains: Some(short(server.spec.domains.iter().map(|domain| domain.name.as_str()))),
        version: version(&before, finding),
        c2s: role(server, finding.there, taking_clients(server)),
        session: role(server, finding.there, Component::Session),
        router: role(server, finding.there, Component::Router),
        dns_records: dns::records(&server.spec, clients),
        addresses: clients.map(|clients| clients.addresses.clone()).unwrap_or_default(),
        certificates: certificates(server, finding.read, &before),
    };
    (status, again)
}

/// The conditions of a resource that cannot be understood: what was said before stays, but for those that now say so.
#[must_use]
pub fn undecodable(before: &[Condition], problem: &Problem, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let said = |type_: ConditionType, status: &str| Condition {
        type_: type_.as_str().to_owned(),
        status: status.to_owned(),
        reason: problem.reason.to_owned(),
        message: problem.message.clone(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    let mut all = vec![said(ConditionType::Progressing, "False"), said(ConditionType::Degraded, "True")];
    // What runs goes on, and serves clients as it did.
    if !before.iter().any(|condition| condition.type_ == ConditionType::Ready.as_str()) {
        all.insert(0, said(ConditionType::Ready, "False"));
    }
    let others = before.iter().filter(|old| !all.iter().any(|new| new.type_ == old.type_)).cloned();
    let mut all: Vec<_> = others.chain(kept(before, all.clone(), now)).collect();
    let place = |condition: &Condition| ConditionType::ALL.iter().position(|of| of.as_str() == condition.type_);
    all.sort_by_key(place);
    all
}

/// The workload of a component.
#[must_use]
pub fn workload<'a>(there: &'a Snapshot, name: &str, component: Component) -> Option<&'a Workload> {
    let kind = if component == Component::Standalone { "StatefulSet" } else { "Deployment" };
    match there.state(kind, &names::of(name, component)) {
        Some(State::Workload(workload)) => Some(workload),
        _ => None,
    }
}

/// Which pods clients connect to.
#[must_use]
pub fn taking_clients(server: &XmppServer) -> Component {
    match server.spec.profile {
        Profile::Standalone => Component::Standalone,
        Profile::Distributed => Component::C2s,
    }
}

fn clients<'a>(name: &str, there: &'a Snapshot) -> Option<&'a Clients> {
    match there.state("Service", &names::c2s_service(name)) {
        Some(State::Clients(clients)) => Some(clients),
        _ => None,
    }
}

fn role(server: &XmppServer, there: &Snapshot, component: Component) -> Option<RoleStatus> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let workload = workload(there, name, component)?;
    let selector: Vec<_> =
        names::selector(name, component).into_iter().map(|(label, value)| format!("{label}={value}")).collect();
    Some(RoleStatus {
        replicas: workload.replicas,
        ready_replicas: workload.ready,
        updated_replicas: workload.updated,
        summary: format!("{}/{}", workload.ready, workload.wanted),
        selector: selector.join(","),
    })
}

/// The release that all run; until then, that of before.
fn version(before: &XmppServerStatus, finding: &Finding<'_>) -> Option<String> {
    match &finding.outcome {
        Outcome::Applied { server, progress: Progress::Complete, .. } => Some(release(&server.image)),
        _ => before.version.clone(),
    }
}

/// What stands behind the name of an image: its tag, else its digest, else all of it.
fn release(image: &str) -> String {
    let (named, digest) = image.split_once('@').map_or((image, None), |(named, digest)| (named, Some(digest)));
    // A colon before the last slash is a port's.
    let tag = named.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    tag.or(digest).unwrap_or(image).chars().take(512).collect()
}

fn certificates(server: &XmppServer, read: Option<&Dereferenced>, before: &XmppServerStatus) -> Vec<CertificateStatus> {
    let Some(read) = read else { return before.certificates.clone() };
    let status = |secret: String| {
        let not_after = match read.certificates.get(&secret) {
            Some(CertificateLookup::Found(facts)) => Timestamp::try_from(facts.not_after).ok().map(Time),
            _ => None,
        };
        CertificateStatus { secret, not_after }
    };
    certificate_secrets(server).into_iter().map(status).collect()
}

/// As much of a list as fits.
fn short<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for item in items {
        let separator = if text.is_empty() { "" } else { ", " };
        if text.len() + separator.len() + item.len() > TEXT - "…".len() {
            text.push('…');
            break;
        }
        text.push_str(separator);
        text.push_str(item);
    }
    text
}

/// Those that are as they were keep their time.
fn kept(before: &[Condition], now: Vec<Condition>, time: Timestamp) -> Vec<Condition> {
    let keep = |mut condition: Condition| {
        let old = before.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        // To the second, as it is written: else it would differ from itself when it is read.
        let new = Timestamp::from_second(time.as_second()).unwrap_or(time);
        condition.last_transition_time = old.map_or(Time(new), |old| old.last_transition_time.clone());
        condition
    };
    now.into_iter().map(keep).collect()
}

/// How far the stages are, in words for a Deployment or StatefulSet.
#[must_use]
pub fn waiting_for(stage: Stage, workload: &Workload) -> String {
    let pods = crate::rollout::pods(stage);
    if workload.updated < workload.wanted || workload.replicas > workload.updated {
        format!("{pods}: {} of {} are of the new template", workload.updated.min(workload.wanted), workload.wanted)
    } else {
        format!("{pods}: {} of {} are available", workload.available.min(workload.wanted), workload.wanted)
    }
}

#[cfg(test)]
mod tests;
