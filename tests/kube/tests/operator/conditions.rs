//! What the conditions of a server say. Also the other tests' that wait for servers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use starling_operator::crd::XmppServer;

pub(crate) fn condition<'a>(server: &'a XmppServer, type_: &str) -> Option<&'a Condition> {
    server.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Type, status and reason of all conditions.
pub(crate) fn conditions(server: &XmppServer) -> Vec<String> {
    let conditions = server.status.iter().flat_map(|status| &status.conditions);
    conditions.map(|condition| format!("{} {} {}", condition.type_, condition.status, condition.reason)).collect()
}

/// A condition, if it is about the newest spec.
pub(crate) fn current<'a>(server: &'a XmppServer, type_: &str) -> Option<&'a Condition> {
    condition(server, type_).filter(|condition| condition.observed_generation == server.metadata.generation)
}

/// Whether a condition says this about the newest spec.
pub(crate) fn says(server: &XmppServer, type_: &str, status: &str, reason: &str) -> bool {
    current(server, type_).is_some_and(|condition| (&*condition.status, &*condition.reason) == (status, reason))
}

/// Whether everything is as it is asked for, and clients are served.
pub(crate) fn is_settled(server: Option<&XmppServer>) -> bool {
    server.is_some_and(|server| {
        says(server, "Ready", "True", "AllAvailable") && says(server, "Progressing", "False", "Complete")
    })
}
