//! What a run has shown, for people.

use std::{fmt::Write as _, time::Duration};

use crate::{
    journal::{Entry, Event, Message},
    verdict::{Fault, Rows, Verdict},
};

/// Faults whose history is told.
const HISTORIES: usize = 5;
/// Lines of a history.
const LINES: usize = 120;
/// Around a message's life, what else happened to its sender, its recipient and the server.
const AROUND: Duration = Duration::from_secs(3);

/// The same, of connections, sessions and the server: long enough to see when a recipient came who had been away.
const LATER: Duration = Duration::from_secs(15);

/// Everything that a run leaves.
#[derive(Debug)]
pub struct Outcome {
    /// What was found.
    pub verdict: Verdict,
    /// The whole journal.
    pub entries: Vec<Entry>,
    /// The rows of the store, if they can be read.
    pub rows: Option<Rows>,
    /// The end of the server's log.
    pub log: String,
}

impl Outcome {
    /// The table, and how it came to the faults, if there are any.
    #[must_use]
    pub fn report(&self) -> String {
        let mut out = format!("{}\n", self.verdict);
        let mut told = Vec::new();
        for fault in &self.verdict.faults {
            let line = self.line(fault);
            // Of each kind some: all of one kind mostly have one cause.
            let same = told.iter().filter(|kind| **kind == fault.kind).count();
            if same >= HISTORIES {
                continue;
            }
            told.push(fault.kind);
            push(&mut out, format_args!("\n{line}\n"));
            let history = match (fault.message, fault.user) {
                (Some(message), _) => self.history(message, fault.beside),
                (None, Some(user)) => self.life(user),
                (None, None) => continue,
            };
            out.push_str(&history);
        }
        if !self.verdict.is_good() {
            push(&mut out, format_args!("\nThe end of the server's log:\n{}", self.log));
        }
        out
    }

    fn line(&self, fault: &Fault) -> String {
        let about = match (fault.message, fault.user) {
            (Some(message), _) => message.to_string(),
            (None, Some(user)) => format!("user{user}"),
            (None, None) => "the server".to_owned(),
        };
        let row = fault.message.and_then(|message| self.rows.as_ref().map(|rows| rows.get(&message)));
        let row = match row {
            Some(Some(kept)) => format!(" (its row: {kept:?})"),
            Some(None) => " (no row)".to_owned(),
            None => String::new(),
        };
        format!("{:?}: {about}: {}{row}", fault.kind, fault.text)
    }

    /// What happened to a message, and to another one of the same pair, and around them to their sender's and their
    /// recipient's sessions, and to the server.
    #[must_use]
    pub fn history(&self, message: Message, beside: Option<Message>) -> String {
        let is_told = |other: Message| other == message || Some(other) == beside;
        let own = |entry: &&Entry| about(&entry.event).is_some_and(is_told);
        let first = self.entries.iter().find(own).map(|entry| entry.at).unwrap_or_default();
        let last = self.entries.iter().rfind(own).map(|entry| entry.at).unwrap_or_default();
        let near = first.saturating_sub(AROUND)..=last + AROUND;
        let later = first.saturating_sub(AROUND)..=last + LATER;
        self.told(|entry| {
            let party = entry.user.is_none() || entry.user == Some(message.from) || entry.user == Some(message.to);
            match &entry.event {
                Event::Sent { message: of, .. }
                | Event::Replayed { message: of, .. }
                | Event::Received { message: of, .. }
                | Event::Returned { message: of, .. } => is_told(*of),
                Event::Said { .. } | Event::Heard { .. } | Event::Counted { .. } => party && near.contains(&entry.at),
                _ => party && later.contains(&entry.at),
            }
        })
    }

    /// The end of what happened to a user.
    fn life(&self, user: u32) -> String {
        let count = self.entries.iter().filter(|entry| entry.user == Some(user)).count();
        let mut number = 0;
        self.told(|entry| {
            let own = entry.user == Some(user);
            number += usize::from(own);
            own && number + LINES / 2 > count
        })
    }

    fn told(&self, mut is_told: impl FnMut(&Entry) -> bool) -> String {
        let lines: Vec<&Entry> = self.entries.iter().filter(|entry| is_told(entry)).collect();
        let mut out = String::new();
        for entry in lines.iter().take(LINES) {
            push(&mut out, format_args!("{entry}\n"));
        }
        if lines.len() > LINES {
            push(&mut out, format_args!("… {} more\n", lines.len() - LINES));
        }
        out
    }
}

/// The message that an event is about.
const fn about(event: &Event) -> Option<Message> {
    match event {
        Event::Sent { message, .. }
        | Event::Replayed { message, .. }
        | Event::Received { message, .. }
        | Event::Returned { message, .. } => Some(*message),
        _ => None,
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A String takes everything.
    out.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::Session, verdict::Kind};

    #[test]
    fn the_history_of_a_lost_message_says_who_did_what_when() {
        let message = Message { from: 1, to: 2, sequence: 3 };
        let other = Message { sequence: 4, ..message };
        let entry = |at, user, event| Entry { at: Duration::from_secs(at), user, event };
        let place = Some((Session(0), 7));
        let entries = vec![
            entry(1, Some(1), Event::Bound { session: Some(Session(0)) }),
            entry(10, Some(1), Event::Sent { message, place, copy: 0 }),
            entry(10, Some(1), Event::Sent { message: other, place, copy: 0 }),
            entry(11, Some(3), Event::Bound { session: None }),
            entry(11, None, Event::Killed),
        ];
        let fault =
            Fault { kind: Kind::Lost, message: Some(message), beside: None, user: None, text: "gone".to_owned() };
        let verdict = Verdict { faults: vec![fault], ..Verdict::default() };
        let outcome = Outcome { verdict, entries, rows: Some(Rows::new()), log: "the log".to_owned() };
        let report = outcome.report();
        let told = report.split_once("Lost: chaos-1-2-3: gone (no row)\n").map(|(_, told)| told);
        let lines = told.map(|told| told.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>());
        assert_eq!(
            lines.as_deref(),
            Some(&["   10.000 user1    -> chaos-1-2-3, session 0, n 7", "   11.000 server   KILLED"][..]),
            "{report}"
        );
        assert!(report.ends_with("the log"), "{report}");
    }
}
