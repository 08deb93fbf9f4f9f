//! The client's side of a stream management session (XEP-0198): what it sent, what of that was counted, what it received.

use std::collections::VecDeque;

use crate::journal::{Event, HeardBy, Journal, Message, Session};

/// A message that a client has sent or is to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    /// Whole, as it goes onto the stream.
    pub(crate) stanza: String,
    /// Sendings before this one.
    pub(crate) copy: u32,
}

/// A stanza that was not counted by the server yet.
#[derive(Debug)]
enum Waiting {
    Message(Outgoing),
    Other(String),
}

/// A session. Lives in the client over all its connections, until it is refused or closed.
#[derive(Debug)]
pub(crate) struct Managed {
    pub(crate) session: Session,
    /// For `<resume/>`, if the server allowed it.
    pub(crate) id: Option<String>,
    /// What was sent, counted as the server does.
    sent: u32,
    waiting: VecDeque<Waiting>,
    /// What was received and handled.
    pub(crate) received: u32,
    /// What of it the server was told.
    pub(crate) told: u32,
}

impl Managed {
    pub(crate) const fn new(session: Session, id: Option<String>) -> Self {
        Self { session, id, sent: 0, waiting: VecDeque::new(), received: 0, told: 0 }
    }

    /// How many stanzas were not counted.
    pub(crate) fn uncounted(&self) -> usize {
        self.waiting.len()
    }

    /// Counts a stanza that is no message, and is about to be sent.
    pub(crate) fn say(&mut self, user: u32, journal: &Journal, stanza: String) {
        self.sent = self.sent.wrapping_add(1);
        journal.note(Some(user), Event::Said { session: self.session, n: self.sent });
        self.waiting.push_back(Waiting::Other(stanza));
    }

    /// Counts a message that is about to be sent.
    pub(crate) fn send(&mut self, user: u32, journal: &Journal, outgoing: Outgoing) {
        self.sent = self.sent.wrapping_add(1);
        let Outgoing { message, copy, .. } = outgoing;
        journal.note(Some(user), Event::Sent { message, place: Some((self.session, self.sent)), copy });
        self.waiting.push_back(Waiting::Message(outgoing));
    }

    /// Takes the server's count: what it covers waits no longer. A count that cannot be is for the journal's reader; here it
    /// changes nothing.
    pub(crate) fn hear(&mut self, user: u32, journal: &Journal, h: u32, by: HeardBy) {
        journal.note(Some(user), Event::Heard { session: self.session, h, by });
        let before = self.sent.wrapping_sub(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX));
        let counted = h.wrapping_sub(before) as usize;
        if counted <= self.waiting.len() {
            self.waiting.drain(..counted);
        }
    }

    /// What is to be sent again after a resumption (§5), in its order.
    pub(crate) fn replay(&self, user: u32, journal: &Journal) -> String {
        let mut out = String::new();
        let first = self.sent.wrapping_sub(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX));
        for (waiting, n) in self.waiting.iter().zip(1..) {
            match waiting {
                Waiting::Message(outgoing) => {
                    let place = (self.session, first.wrapping_add(n));
                    journal.note(Some(user), Event::Replayed { message: outgoing.message, place });
                    out.push_str(&outgoing.stanza);
                }
                Waiting::Other(stanza) => out.push_str(stanza),
            }
        }
        out
    }

    /// The session is over: the messages that were not counted, to be sent again in another.
    pub(crate) fn left(self) -> impl Iterator<Item = Outgoing> {
        self.waiting.into_iter().filter_map(|waiting| match waiting {
            Waiting::Message(outgoing) => Some(Outgoing { copy: outgoing.copy + 1, ..outgoing }),
            Waiting::Other(_) => None,
        })
    }

    /// The `<a/>` for what was received, and that the server is told so.
    pub(crate) fn answer(&mut self, user: u32, journal: &Journal) -> String {
        self.told = self.received;
        journal.note(Some(user), Event::Counted { session: self.session, h: self.told });
        format!("<a xmlns='{}' h='{}'/>", crate::wire::SM, self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(sequence: u32) -> Outgoing {
        let message = Message { from: 0, to: 1, sequence };
        Outgoing { message, stanza: format!("<message id='{message}'/>"), copy: 0 }
    }

    fn managed(journal: &Journal) -> Managed {
        let mut managed = Managed::new(Session(0), None);
        managed.say(0, journal, "<presence/>".to_owned());
        (0..3).for_each(|sequence| managed.send(0, journal, outgoing(sequence)));
        managed
    }

    #[test]
    fn what_was_counted_waits_no_longer_and_the_rest_keeps_its_place() {
        let journal = Journal::default();
        let mut managed = managed(&journal);
        assert_eq!(managed.uncounted(), 4);
        managed.hear(0, &journal, 2, HeardBy::Answer);
        assert_eq!(managed.uncounted(), 2);
        // Again, lower, and more than was sent.
        for h in [2, 1, 5, u32::MAX] {
            managed.hear(0, &journal, h, HeardBy::Answer);
            assert_eq!(managed.uncounted(), 2, "{h}");
        }
        assert_eq!(managed.replay(0, &journal), "<message id='chaos-0-1-1'/><message id='chaos-0-1-2'/>");
        let places: Vec<_> = journal
            .entries()
            .into_iter()
            .filter_map(|entry| match entry.event {
                Event::Replayed { message, place } => Some((message.sequence, place.1)),
                _ => None,
            })
            .collect();
        assert_eq!(places, [(1, 3), (2, 4)]);
        managed.hear(0, &journal, 3, HeardBy::Resumed);
        assert_eq!(managed.left().map(|left| (left.message.sequence, left.copy)).collect::<Vec<_>>(), [(2, 1)]);
    }

    #[test]
    fn presence_is_replayed_in_a_resumed_session_and_not_carried_into_another() {
        let journal = Journal::default();
        assert!(managed(&journal).replay(0, &journal).starts_with("<presence/><message"));
        assert_eq!(managed(&journal).left().count(), 3);
    }
}
