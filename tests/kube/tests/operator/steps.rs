//! What people are told at each step of a roll-out, beside what was looked at and found good: `golden/NAME.txt`.

use std::{fmt::Write as _, path::Path};

use starling_kube_tests::{assert_golden, until};
use starling_operator::crd::{RoleStatus, XmppServer};

use crate::world::{World, current};

/// The steps so far.
pub(crate) struct Steps {
    name: &'static str,
    text: String,
}

impl Steps {
    pub(crate) const fn of(name: &'static str) -> Self {
        Self { name, text: String::new() }
    }

    /// Waits until `Progressing` says this about the newest spec of `chat`, and notes all that is said then.
    pub(crate) async fn note(&mut self, world: &World, title: &str, progress: &str) -> XmppServer {
        let is_told = |server: Option<&XmppServer>| {
            let told = server.and_then(|server| current(server, "Progressing"));
            told.is_some_and(|condition| condition.message.contains(progress))
        };
        let server = until(&world.api::<XmppServer>(), "chat", is_told).await.unwrap();
        let status = server.status.clone().unwrap();
        let gap = if self.text.is_empty() { "" } else { "\n" };
        writeln!(self.text, "{gap}== {title}").unwrap();
        for condition in &status.conditions {
            let (type_, status, reason) = (&condition.type_, &condition.status, &condition.reason);
            let line = format!("{type_:<12} {status:<6} {reason:<16} {}", without_chance(&condition.message));
            writeln!(self.text, "{}", line.trim_end()).unwrap();
        }
        let ready =
            |role: &Option<RoleStatus>| role.as_ref().map_or_else(|| "-".to_owned(), |role| role.summary.clone());
        writeln!(
            self.text,
            "release {}, routers {}, session pods {}, pods for clients {}",
            status.version.as_deref().unwrap_or("-"),
            ready(&status.router),
            ready(&status.session),
            ready(&status.c2s)
        )
        .unwrap();
        server
    }

    /// Compares them.
    pub(crate) fn finish(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operator/golden");
        assert_golden(&folder.join(format!("{}.txt", self.name)), &self.text);
    }
}

/// Names of pods and ReplicaSets end with a hash, and with what Kubernetes makes up; and why something is forbidden depends on
/// how far its books are.
fn without_chance(message: &str) -> String {
    let message = match message.split_once(" is forbidden: ") {
        Some((before, _)) => format!("{before} is forbidden"),
        None => message.to_owned(),
    };
    let word = |word: &str| match word.strip_prefix("\"chat-").and_then(|rest| rest.split_once('-')) {
        Some((role, _)) => format!("\"chat-{role}-…\""),
        None => word.to_owned(),
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
