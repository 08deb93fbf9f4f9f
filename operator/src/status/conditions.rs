//! What is so, and what is not.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::{SignedDuration, Timestamp},
};

use crate::{
    crd::{ConditionType, Migrate, Profile, XmppServer},
    dereference::{CertificateLookup, certificate_secrets},
    inventory::{JobState, Workload},
    names::Component,
    rollout::Progress,
    validate::{Note, Problem},
};

use super::{Finding, Outcome, PATIENCE, STUCK_AFTER, taking_clients, workload};

/// As long as Kubernetes lets it be.
const MESSAGE: usize = 4096;

/// A condition's status, reason and message.
struct Said {
    status: &'static str,
    reason: String,
    message: String,
}

fn said(status: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Said {
    Said { status, reason: reason.into(), message: message.into() }
}

/// All conditions, and when one of them may change although nothing else does.
pub(super) fn conditions(server: &XmppServer, finding: &Finding<'_>) -> (Vec<Condition>, Option<Timestamp>) {
    let mut again = Vec::new();
    let all = ConditionType::ALL.map(|type_| {
        let said = match type_ {
            ConditionType::Ready => ready(server, finding),
            ConditionType::Progressing => progressing(finding),
            ConditionType::Degraded => degraded(server, finding, &mut again),
            ConditionType::TlsReady => tls_ready(server, finding),
            ConditionType::Migrated => migrated(server, finding),
            ConditionType::Paused => paused(finding),
        };
        Condition {
            type_: type_.as_str().to_owned(),
            status: said.status.to_owned(),
            reason: said.reason,
            message: cut(said.message),
            observed_generation: server.metadata.generation,
            last_transition_time: Time(finding.now),
        }
    });
    (all.into(), again.into_iter().filter(|time| *time > finding.now).min())
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE {
        let end = (0..=MESSAGE - 3).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
        message.truncate(end);
        message.push('…');
    }
    message
}

fn before(server: &XmppServer, type_: ConditionType) -> Option<&Condition> {
    server.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// What was said before, of which there is nothing new.
fn as_before(server: &XmppServer, type_: ConditionType) -> Said {
    match before(server, type_) {
        Some(Condition { status, reason, message, .. }) => {
            let status = match status.as_str() {
                "True" => "True",
                "False" => "False",
                _ => "Unknown",
            };
            said(status, reason.clone(), message.clone())
        }
        None => said("Unknown", "NotKnownYet", "nothing was done yet"),
    }
}

fn sentence(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// Whether clients are served.
fn ready(server: &XmppServer, finding: &Finding<'_>) -> Said {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let of = |component| workload(finding.there, name, component);
    let problem = match &finding.outcome {
        Outcome::Invalid(problems @ [first, ..]) => Some(said("False", first.reason, sentence(problems))),
        Outcome::Refused { message, .. } => Some(said("False", "ApplyRefused", message.clone())),
        _ => None,
    };
    let Some(clients) = of(taking_clients(server)) else {
        return problem.unwrap_or_else(|| match &finding.outcome {
            Outcome::Applied { progress: Progress::Stuck { reason, message, .. }, .. } => {
                said("False", *reason, message.clone())
            }
            Outcome::Applied { progress: Progress::Going { message, .. }, .. } => {
                said("False", "Starting", message.clone())
            }
            _ => said("False", "NotStarted", "there are no pods for clients yet"),
        });
    };
    if clients.wanted == 0 {
        return said("False", "ScaledToZero", "c2s.replicas is 0: nobody takes connections");
    }
    let routers = of(Component::Router);
    let none = |reason: &str, message: &str| match &finding.outcome {
        Outcome::Applied { progress: Progress::Stuck { message: why, .. }, .. } => {
            said("False", reason, format!("{message}; {why}"))
        }
        _ => said("False", reason, message),
    };
    if clients.available == 0 {
        return none("NoPodAvailable", "no pod for clients is available");
    }
    if server.spec.profile == Profile::Distributed && routers.is_none_or(|routers| routers.available == 0) {
        return none("NoRouterAvailable", "no router is available: clients are let in when there is one");
    }
    let is_whole = |workload: Option<&Workload>| workload.is_none_or(|workload| workload.available >= workload.wanted);
    if is_whole(Some(clients)) && is_whole(routers) {
        said("True", "AllAvailable", "clients are served")
    } else {
        said("True", "SomeAvailable", "clients are served, by fewer pods than there are to be")
    }
}

/// Whether what runs is being changed to what is asked for.
fn progressing(finding: &Finding<'_>) -> Said {
    match &finding.outcome {
        Outcome::Paused => said("False", "Paused", "spec.paused is true: everything stays as it is"),
        Outcome::Invalid(problems) => {
            let reason = problems.first().map_or("InvalidSpec", |problem| problem.reason);
            said("False", reason, sentence(problems))
        }
        Outcome::Refused { message, .. } => said("False", "ApplyRefused", message.clone()),
        Outcome::Applied { progress: Progress::Going { message, .. }, .. } => {
            said("True", "RollingOut", message.clone())
        }
        Outcome::Applied { progress: Progress::Stuck { reason, message, .. }, .. } => {
            said("False", *reason, message.clone())
        }
        Outcome::Applied { progress: Progress::Complete, .. } => {
            if finding.there.pods.values().any(|pod| pod.ends_by.is_some() && !is_of_job(&pod.component)) {
                said("True", "Draining", "pods end, once their clients have gone")
            } else {
                said("False", "Complete", "everything is as it is asked for")
            }
        }
    }
}

fn is_of_job(component: &str) -> bool {
    [Component::Migrate, Component::FirstAdmin].iter().any(|job| job.as_str() == component)
}

/// Whether something does not work as it should.
fn degraded(server: &XmppServer, finding: &Finding<'_>, again: &mut Vec<Timestamp>) -> Said {
    let mut wrong: Vec<(String, String)> = Vec::new();
    match &finding.outcome {
        Outcome::Paused => {}
        Outcome::Invalid(problems) => {
            wrong.extend(problems.iter().map(|problem| (problem.reason.to_owned(), problem.message.clone())));
        }
        Outcome::Refused { message, .. } => wrong.push(("ApplyRefused".to_owned(), message.clone())),
        Outcome::Applied { progress, server: validated, notes, .. } => {
            if let Progress::Stuck { reason, message, .. } = progress {
                wrong.push(((*reason).to_owned(), message.clone()));
            }
            let notes = validated.notes.iter().chain(*notes).filter(|note| note.about == ConditionType::Degraded);
            wrong.extend(notes.map(|note| (note.reason.to_owned(), note.message.clone())));
        }
    }
    wrong.extend(stuck_pods(finding, again));
    wrong.extend(missed(server, finding, again));
    match wrong.first() {
        None => said("False", "AsExpected", ""),
        Some((reason, _)) => {
            let reason = reason.clone();
            let messages: Vec<_> = wrong.into_iter().map(|(_, message)| message).collect();
            said("True", reason, messages.join("; "))
        }
    }
}

fn stuck_pods(finding: &Finding<'_>, again: &mut Vec<Timestamp>) -> Option<(String, String)> {
    let late = SignedDuration::try_from(STUCK_AFTER).unwrap_or_default();
    let mut stuck = Vec::new();
    for (name, pod) in &finding.there.pods {
        let Some(ends_by) = pod.ends_by else { continue };
        if finding.now >= ends_by + late {
            stuck.push(name.as_str());
        } else {
            again.push(ends_by + late);
        }
    }
    if stuck.is_empty() {
        return None;
    }
    let names = super::short(stuck.into_iter());
    let message = format!("should have ended, and have not (does their node answer?): {names}");
    Some(("PodStuckTerminating".to_owned(), message))
}

/// Pods that were there, and have not come back for long.
fn missed(server: &XmppServer, finding: &Finding<'_>, again: &mut Vec<Timestamp>) -> Option<(String, String)> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let components = [Component::Router, Component::Session, taking_clients(server)];
    let missing = components.into_iter().find_map(|component| {
        let workload = workload(finding.there, name, component)?;
        (workload.updated == workload.wanted && workload.available < workload.wanted)
            .then(|| format!("{}: {} of {} are available", component.as_str(), workload.available, workload.wanted))
    })?;
    let since = before(server, ConditionType::Progressing).filter(|condition| condition.status == "True");
    // Since now, if it was not so before.
    let since = since.map_or(finding.now, |condition| condition.last_transition_time.0);
    let due = since + SignedDuration::try_from(PATIENCE).unwrap_or_default();
    if due > finding.now {
        again.push(due);
        return None;
    }
    Some(("PodsMissing".to_owned(), missing))
}

/// Whether the certificates for clients are there, for the right names, and valid.
fn tls_ready(server: &XmppServer, finding: &Finding<'_>) -> Said {
    let secrets = certificate_secrets(server);
    if secrets.is_empty() {
        return said(
            "True",
            "SelfSigned",
            "without tls, the server makes itself a certificate that no client believes",
        );
    }
    let Some(read) = finding.read else { return as_before(server, ConditionType::TlsReady) };
    let notes: Vec<&Note> = match &finding.outcome {
        Outcome::Applied { server, .. } | Outcome::Refused { server, .. } => {
            server.notes.iter().filter(|note| note.about == ConditionType::TlsReady).collect()
        }
        _ => Vec::new(),
    };
    if let Some(first) = notes.first() {
        let messages: Vec<_> = notes.iter().map(|note| note.message.as_str()).collect();
        // There is time left, and it works.
        let is_soon = notes.iter().all(|note| note.reason == "CertificateExpiresSoon");
        return said(if is_soon { "True" } else { "False" }, first.reason, messages.join("; "));
    }
    for secret in &secrets {
        match read.certificates.get(secret) {
            Some(CertificateLookup::Found(_)) => {}
            Some(CertificateLookup::Unusable(reason)) => {
                return said(
                    "False",
                    "CertificateUnusable",
                    format!("the certificate in the Secret {secret}: {reason}"),
                );
            }
            Some(CertificateLookup::Missing) | None => {
                return said("False", "SecretMissing", format!("there is no Secret {secret} in this namespace"));
            }
        }
    }
    said("True", "Valid", "certificates are there for all domains")
}

/// Whether the database's schema is that of the release.
fn migrated(server: &XmppServer, finding: &Finding<'_>) -> Said {
    let Some(database) = &server.spec.database else {
        return said("True", "NotNeeded", "the server looks after its own database");
    };
    if database.migrate == Migrate::Manual {
        return said(
            "Unknown",
            "Manual",
            "database.migrate is Manual: pods wait until somebody has run starlingd migrate",
        );
    }
    let Outcome::Applied { migration, .. } = &finding.outcome else {
        return as_before(server, ConditionType::Migrated);
    };
    match migration {
        None => said("False", "NotStarted", "the Job that changes the schema is not there yet"),
        Some(JobState::Running) => said("False", "Migrating", "the schema is being changed"),
        Some(JobState::Succeeded) => said("True", "Migrated", "the schema is that of the release"),
        Some(JobState::Failed(_, message)) => said("False", "MigrationFailed", message.clone()),
    }
}

fn paused(finding: &Finding<'_>) -> Said {
    match finding.outcome {
        Outcome::Paused => said("True", "Paused", "spec.paused is true"),
        _ => said("False", "NotPaused", ""),
    }
}
