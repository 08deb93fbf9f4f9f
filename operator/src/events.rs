//! Events: what changed, and nothing that stayed.
//!
//! Each condition that comes to say something else is one Event. What is so from the start, and as it should be, is none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::crd::ConditionType;

/// As long as an Event's note may be.
const NOTE: usize = 1024;

/// What became otherwise from `before` to `now`.
#[must_use]
pub fn transitions(before: &[Condition], now: &[Condition]) -> Vec<Event> {
    let changed = now.iter().filter(|new| {
        let old = before.iter().find(|old| old.type_ == new.type_);
        match old {
            Some(old) => (&old.status, &old.reason) != (&new.status, &new.reason),
            None => is_bad(new),
        }
    });
    changed.map(event).collect()
}

/// One that is to be looked into.
fn is_bad(condition: &Condition) -> bool {
    let is = |type_: ConditionType, status: &str| condition.type_ == type_.as_str() && condition.status == status;
    let is_on_its_way =
        ["Starting", "NotStarted", "Migrating", "CertificatePending"].contains(&condition.reason.as_str());
    is(ConditionType::Degraded, "True")
        || (!is_on_its_way
            && (is(ConditionType::Ready, "False")
                || is(ConditionType::TlsReady, "False")
                || is(ConditionType::Migrated, "False")))
}

fn event(condition: &Condition) -> Event {
    let note = if condition.message.is_empty() {
        format!("{} is {}", condition.type_, condition.status)
    } else {
        format!("{} is {}: {}", condition.type_, condition.status, condition.message)
    };
    let end = (0..=NOTE.min(note.len())).rev().find(|at| note.is_char_boundary(*at)).unwrap_or_default();
    Event {
        type_: if is_bad(condition) { EventType::Warning } else { EventType::Normal },
        reason: condition.reason.clone(),
        note: note.get(..end).map(str::to_owned),
        action: condition.type_.clone(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "ä".repeat(2000),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn only_what_became_otherwise_is_an_event() {
        let told = |before: &[Condition], now: &[Condition]| -> Vec<_> {
            let events = transitions(before, now).into_iter();
            events.map(|event| (event.action, event.reason, event.type_ == EventType::Warning)).collect()
        };
        let good = [condition("Ready", "True", "AllAvailable"), condition("Degraded", "False", "AsExpected")];
        let bad = [condition("Ready", "True", "AllAvailable"), condition("Degraded", "True", "PodsMissing")];
        assert!(told(&[], &good).is_empty(), "as it should be from the start");
        assert!(told(&good, &good).is_empty());
        assert!(told(&bad, &bad).is_empty());
        let one = |action: &str, reason: &str, warns| vec![(action.to_owned(), reason.to_owned(), warns)];
        assert_eq!(told(&[], &bad), one("Degraded", "PodsMissing", true));
        assert_eq!(told(&good, &bad), one("Degraded", "PodsMissing", true));
        assert_eq!(told(&bad, &good), one("Degraded", "AsExpected", false));
    }

    #[test]
    fn a_note_is_no_longer_than_an_event_takes() {
        let events = transitions(&[], &[condition("Degraded", "True", "PodsMissing")]);
        let note = events[0].note.as_deref().unwrap();
        assert!(note.len() <= NOTE && note.ends_with('ä'), "{}", note.len());
    }
}
