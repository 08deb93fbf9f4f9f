//! The journal, sorted by what it tells of: messages, sessions, pairs.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::journal::{Entry, Event, HeardBy, Message, Session};

/// A sending of a message. What a session replays in its place after a resumption is the same sending.
#[derive(Debug)]
pub(super) struct Sending {
    /// Its place in the journal.
    pub(super) entry: usize,
    /// Without stream management: the place where the connection's resource was bound.
    pub(super) connection: Option<usize>,
    /// With it.
    pub(super) session: Option<Session>,
    at: Duration,
}

/// What came to a client.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) entry: usize,
    pub(super) at: Duration,
    pub(super) user: u32,
    pub(super) place: Option<(Session, u32)>,
    pub(super) stanza_id: Option<String>,
    pub(super) early: bool,
}

/// What happened to a message.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) sendings: Vec<Sending>,
    /// Replays by which its sender's new server may have heard of it first: the one before was killed meanwhile.
    pub(super) anew: usize,
    /// When it was last sent or replayed.
    last: Duration,
    pub(super) acknowledged: Option<Duration>,
    pub(super) receipts: Vec<Receipt>,
    pub(super) returned: Vec<(Duration, String)>,
}

/// What happened in a session.
#[derive(Debug, Default)]
struct SessionStory {
    said: u32,
    heard: Option<u32>,
    waiting: VecDeque<(u32, Message)>,
    counted: Vec<(Duration, u32)>,
}

/// An `h` that cannot be.
#[derive(Debug)]
pub(super) struct WrongH {
    pub(super) user: u32,
    pub(super) session: Session,
    pub(super) text: String,
    pub(super) went_back: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) messages: BTreeMap<Message, Story>,
    sessions: HashMap<Session, SessionStory>,
    /// When each user's connections ended.
    gone: HashMap<u32, Vec<Duration>>,
    /// Where each user's last resource was bound.
    bindings: HashMap<u32, usize>,
    /// The last session of each user.
    pub(super) last: HashMap<u32, Session>,
    pub(super) killed: Vec<Duration>,
    /// When the server's files failed.
    faults: Vec<(Duration, Duration)>,
    pub(super) wrong: Vec<WrongH>,
    pub(super) settled: HashMap<u32, Option<String>>,
    pub(super) trouble: Vec<(Option<u32>, String)>,
    pub(super) resumed: u64,
    pub(super) refused: u64,
    /// Who was refused, in which session, and why.
    pub(super) refusals: Vec<(u32, Session, String)>,
    /// When connections ended that their clients had not left.
    broken: HashMap<u32, Duration>,
    /// The longest from such an end to a resumption.
    pub(super) longest_away: Duration,
    pub(super) bound: u64,
    pub(super) cut: u64,
    pub(super) replayed: u64,
    pub(super) terminated: u64,
    /// The longest that a sender waited for its count.
    pub(super) longest: Duration,
    sent_at: HashMap<Message, Duration>,
}

impl Told {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let mut told = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            told.take(index, entry);
        }
        told
    }

    fn take(&mut self, index: usize, entry: &Entry) {
        let (at, user) = (entry.at, entry.user.unwrap_or_default());
        match &entry.event {
            Event::Started | Event::Blow(_) => {}
            Event::Killed => self.killed.push(at),
            Event::Terminated => self.terminated += 1,
            Event::FaultBegins(_) => self.faults.push((at, Duration::MAX)),
            Event::FaultEnds => {
                if let Some((_, end)) = self.faults.last_mut() {
                    *end = at;
                }
            }
            Event::Bound { session } => {
                self.bound += 1;
                self.bindings.insert(user, index);
                if let Some(session) = session {
                    self.last.insert(user, *session);
                }
            }
            Event::Resumed { .. } => {
                self.resumed += 1;
                if let Some(broken) = self.broken.remove(&user) {
                    self.longest_away = self.longest_away.max(at.saturating_sub(broken));
                }
            }
            Event::Refused { session, condition } => {
                self.refused += 1;
                self.broken.remove(&user);
                self.refusals.push((user, *session, condition.clone()));
            }
            Event::Gone(end) => {
                self.cut += u64::from(matches!(end, crate::journal::End::Cut | crate::journal::End::Hung));
                self.gone.entry(user).or_default().push(at);
                if matches!(end, crate::journal::End::Broken(_)) {
                    self.broken.entry(user).or_insert(at);
                }
            }
            Event::Said { session, n } => self.session(*session).said = *n,
            Event::Sent { message, place, .. } => {
                let connection = self.bindings.get(&user).copied().filter(|_| place.is_none());
                let story = self.messages.entry(*message).or_default();
                let session = place.map(|(session, _)| session);
                story.sendings.push(Sending { entry: index, connection, session, at });
                story.last = at;
                self.sent_at.entry(*message).or_insert(at);
                if let Some((session, n)) = place {
                    let story = self.session(*session);
                    story.said = *n;
                    story.waiting.push_back((*n, *message));
                }
            }
            Event::Replayed { message, .. } => {
                self.replayed += 1;
                let killed = self.killed.last().copied().unwrap_or_default();
                let story = self.messages.entry(*message).or_default();
                story.anew += usize::from(killed >= story.last);
                story.last = at;
            }
            Event::Heard { session, h, by } => self.hear(at, user, *session, *h, *by),
            Event::Counted { session, h } => self.session(*session).counted.push((at, *h)),
            Event::Received { message, place, stanza_id, early, .. } => {
                let (place, early, stanza_id) = (*place, *early, stanza_id.clone());
                let receipt = Receipt { entry: index, at, user, place, stanza_id, early };
                self.messages.entry(*message).or_default().receipts.push(receipt);
            }
            Event::Returned { message, error } => {
                self.messages.entry(*message).or_default().returned.push((at, error.clone()));
            }
            Event::Settled { stuck } => {
                self.settled.insert(user, stuck.clone());
            }
            Event::Trouble(what) => self.trouble.push((entry.user, what.clone())),
        }
    }

    fn session(&mut self, session: Session) -> &mut SessionStory {
        self.sessions.entry(session).or_default()
    }

    fn hear(&mut self, at: Duration, user: u32, session: Session, h: u32, by: HeardBy) {
        let story = self.sessions.entry(session).or_default();
        // What a server says of a session that it no longer has may be from long ago (XEP-0198 §5); it still counts.
        let before = story.heard.filter(|_| by != HeardBy::Failed);
        if let Some(before) = before.filter(|before| h < *before) {
            let text = format!("h {h} by {by:?} after {before}");
            self.wrong.push(WrongH { user, session, text, went_back: true });
        }
        if h > story.said {
            let text = format!("h {h} by {by:?} after {} stanzas", story.said);
            self.wrong.push(WrongH { user, session, text, went_back: false });
        }
        story.heard = Some(story.heard.map_or(h, |before| before.max(h)));
        while let Some((_, message)) = story.waiting.front().filter(|(n, _)| *n <= h).copied() {
            story.waiting.pop_front();
            if let Some(story) = self.messages.get_mut(&message) {
                story.acknowledged.get_or_insert(at);
            }
            if let Some(sent) = self.sent_at.get(&message) {
                self.longest = self.longest.max(at.saturating_sub(*sent));
            }
        }
    }

    /// Whether `other` was sent in another session than this, which was sent while something was away that servers need.
    pub(super) fn is_other_session(&self, sending: &Sending, other: Message) -> bool {
        let in_fault = self.faults.iter().any(|(begin, end)| (*begin..=*end).contains(&sending.at));
        let other = self.messages.get(&other).and_then(|story| story.sendings.first());
        in_fault && other.is_some_and(|other| other.session != sending.session)
    }

    /// Whether a server was killed between the two, and with it what it knew of the first. What a client reads may have been
    /// sent right before a kill.
    pub(super) fn is_killed_between(&self, first: &Receipt, second: &Receipt, grace: Duration) -> bool {
        self.killed.iter().any(|killed| (first.at.saturating_sub(grace)..=second.at).contains(killed))
    }

    /// When the client told the server that it has this. Without stream management: when the connection had taken it, which
    /// is all that the server will ever know.
    pub(super) fn told_at(&self, receipt: &Receipt) -> Option<Duration> {
        let Some((session, count)) = receipt.place else { return Some(receipt.at) };
        let counted = self.sessions.get(&session).map(|story| story.counted.as_slice()).unwrap_or_default();
        counted.iter().find(|(_, h)| *h >= count).map(|(at, _)| *at)
    }

    /// How long before the next kill, or the next end of the client's connection, the client told that it has this.
    pub(super) fn told_before_end(&self, receipt: &Receipt) -> Option<Duration> {
        let told = self.told_at(receipt)?;
        let gone = self.gone.get(&receipt.user).map(Vec::as_slice).unwrap_or_default();
        let ends = [gone, &self.killed].map(|times| times.get(times.partition_point(|time| *time < told)).copied());
        Some(ends.into_iter().flatten().min()?.saturating_sub(told))
    }

    /// Whether the server must know for good that the client has this: the client said so, and neither its connection
    /// nor the server ended within `grace` from then on. While the server's files failed, nothing was known for good. After
    /// a resumption the client has said it again. `until`: what was said later, or just before, is not asked.
    pub(super) fn is_settled(&self, receipt: &Receipt, until: Option<Duration>, grace: Duration) -> bool {
        let gone = self.gone.get(&receipt.user).map(Vec::as_slice).unwrap_or_default();
        let first_after = |times: &[Duration], told: Duration| {
            times.get(times.partition_point(|time| *time < told)).copied().unwrap_or(Duration::MAX)
        };
        let lasts = |told: Duration| {
            let fault = self.faults.iter().filter(|(begin, end)| (*begin..=*end).contains(&told)).map(|(_, end)| *end);
            let known = fault.fold(told, Duration::max).saturating_add(grace);
            first_after(gone, told) >= told.saturating_add(grace) && first_after(&self.killed, told) >= known
        };
        let is_early = |told: Duration| until.is_none_or(|until| told + grace <= until);
        match receipt.place {
            None => lasts(receipt.at),
            Some((session, count)) => {
                let counted = self.sessions.get(&session).map(|story| story.counted.as_slice()).unwrap_or_default();
                counted.iter().any(|(at, h)| *h >= count && is_early(*at) && lasts(*at))
            }
        }
    }

    /// The highest `h` that the client told in each session, by user and session.
    pub(super) fn counted(&self, session: Session) -> u32 {
        let story = self.sessions.get(&session);
        story.and_then(|story| story.counted.iter().map(|(_, h)| *h).max()).unwrap_or_default()
    }
}
