//! What a run has shown, from its journal and from the rows that the server left behind.
//!
//! | fault | what it is |
//! |---|---|
//! | lost | acknowledged to its sender, and neither received, nor in the recipient's rows, nor returned as an error |
//! | archive only | the same, but there is a row, as of something that the recipient has: nobody will ever get it |
//! | left pending | the same, but a row still waits, although the recipient was there at the end |
//! | kept too long | a row still waits, although the recipient's client acknowledged it |
//! | doubled | a copy that neither a sender's resend nor what was in flight explains, see below |
//! | out of order | see below |
//! | `h` back, `h` too high | an `<a/>` or `<resumed/>` below an earlier one of its session, or above what was sent |
//! | not resumed | a session that was refused, though its client may stay away for long and no registry had lost it |
//! | stuck | a client that could not connect, or was not acknowledged, when all was quiet |
//! | astray | a message at a client that it is not for, or one that nobody sent |
//! | trouble | what a server must never say or do, whatever happens |
//!
//! **A loss can be told of a recipient with stream management.** One without has what the connection took: for it, *archive
//! only* is no fault, nor is *lost* with the archive off (there is no row, then). Both are printed.
//!
//! **Doubled.** A sending is one place in the order of what its sender sent: a replay after a resumption is the same
//! sending, a resend after a failed one is another. A message may have as many stanza-ids (XEP-0359) as sendings. With one
//! stanza-id a client may get it again only in a later session, and only if it was *in flight* when the session before was
//! lost: if the client had not acknowledged it, or so late (within [`Rules::grace`] of a cut or kill) that the server may not
//! have got or written that. Without stream management, what came within the grace before a cut or a kill was in flight.
//!
//! A replay at another server, after the one that it was first sent to was killed, may be the first that is known of it: it may
//! have an id of its own. And where a server was killed after a receipt, the message may come again in the same session, if it
//! was in flight then.
//!
//! **Order.** Of two messages of one pair, the one that was first sent first must be first at the recipient; of copies, the
//! first counts. Exempt is a message whose sender sent it *again* after it had first sent the other one: it may come behind.
//! And one that came *early*, to a full JID that was bound and whose presence the server had not sent back yet, may come before
//! others: it must be delivered at once (RFC 6121 §8.5.3.1), while what was kept waits for presence. What is sent without
//! stream management has an order within its connection alone (RFC 6120 §10.1). And what was sent while routers, Redis or the
//! database were away is in no order with what its sender sent in another session.

mod story;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::Duration,
};

use crate::journal::{Entry, Event, Message, Session};
use story::{Receipt, Story, Told};

/// A recipient's row of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The recipient has it, as far as the server knows.
    Archived,
    /// Somebody must still get it.
    Waiting,
}

/// The rows of all recipients.
pub type Rows = HashMap<Message, Kept>;

/// What a run is judged by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many users there were.
    pub users: u32,
    /// Those that do not use stream management.
    pub without_sm: HashSet<u32>,
    /// Those whose sessions can be resumed whenever they come back, as far as is known.
    pub resume: HashSet<u32>,
    /// Whether the server keeps an archive.
    pub archive: bool,
    /// How long an acknowledgement of the client may take to the server and into its files.
    pub grace: Duration,
}

/// A kind of fault. Each must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the table at the top says what they are")]
pub enum Kind {
    Lost,
    ArchiveOnly,
    LeftPending,
    KeptTooLong,
    Doubled,
    OutOfOrder,
    HBack,
    HTooHigh,
    NotResumed,
    Stuck,
    Astray,
    Trouble,
}

impl Kind {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Lost, "lost"),
        (Self::ArchiveOnly, "only in the archive"),
        (Self::LeftPending, "left pending"),
        (Self::KeptTooLong, "kept too long"),
        (Self::Doubled, "doubled beyond what was in flight"),
        (Self::OutOfOrder, "out of order"),
        (Self::HBack, "h went back"),
        (Self::HTooHigh, "h too high"),
        (Self::NotResumed, "not resumed"),
        (Self::Stuck, "stuck clients"),
        (Self::Astray, "astray"),
        (Self::Trouble, "trouble"),
    ];
}

/// A fault that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of what kind.
    pub kind: Kind,
    /// The message that it is about.
    pub message: Option<Message>,
    /// Another one that has to do with it.
    pub beside: Option<Message>,
    /// The user that it is about, if it is not about a message.
    pub user: Option<u32>,
    /// In words.
    pub text: String,
}

/// Numbers that are no faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names in the table are these")]
pub struct Figures {
    pub messages: u64,
    pub acknowledged: u64,
    pub resends: u64,
    pub replayed: u64,
    pub received: u64,
    pub returned: u64,
    pub returned_and_received: u64,
    pub doubled: u64,
    pub doubled_by_id: u64,
    pub doubled_though_told: u64,
    pub doubled_latest: Duration,
    pub in_flight: u64,
    pub without_sm_lost: u64,
    pub without_sm_archive_only: u64,
    pub received_without_row: u64,
    pub kills: u64,
    pub stops: u64,
    pub cuts: u64,
    pub bound: u64,
    pub resumed: u64,
    pub refused: u64,
    pub longest_wait: Duration,
    pub longest_away: Duration,
    pub errors: BTreeMap<String, u64>,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What happened.
    pub figures: Figures,
    /// What should not have.
    pub faults: Vec<Fault>,
}

impl Verdict {
    /// Judges a run. Without `rows`, the server's rows are not known: what is nowhere else is
    /// lost.
    #[must_use]
    pub fn new(entries: &[Entry], rows: Option<&Rows>, rules: &Rules) -> Self {
        let told = Told::new(entries);
        let mut verdict = Self::default();
        for (message, story) in &told.messages {
            verdict.outcome(*message, story, rows, &told, rules);
            verdict.copies(*message, story, &told, rules);
        }
        verdict.order(&told);
        verdict.sessions(&told, rules);
        let figures = &mut verdict.figures;
        (figures.kills, figures.stops) = (told.killed.len() as u64, told.terminated);
        (figures.cuts, figures.bound) = (told.cut, told.bound);
        (figures.resumed, figures.refused, figures.replayed) = (told.resumed, told.refused, told.replayed);
        (figures.longest_wait, figures.longest_away) = (told.longest, told.longest_away);
        if figures.acknowledged == 0 || figures.received == 0 {
            verdict.fault(Kind::Trouble, None, None, "nothing was acknowledged, or nothing received".to_owned());
        }
        verdict
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many faults of this kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.faults.iter().filter(|fault| fault.kind == kind).count()
    }

    fn fault(&mut self, kind: Kind, message: Option<Message>, user: Option<u32>, text: String) {
        self.faults.push(Fault { kind, message, beside: None, user, text });
    }

    /// Where a message ended.
    fn outcome(&mut self, message: Message, story: &Story, rows: Option<&Rows>, told: &Told, rules: &Rules) {
        let figures = &mut self.figures;
        figures.messages += 1;
        figures.acknowledged += u64::from(story.acknowledged.is_some());
        figures.received += u64::from(!story.receipts.is_empty());
        figures.resends += (story.sendings.len() as u64).saturating_sub(1);
        figures.returned += u64::from(!story.returned.is_empty());
        figures.returned_and_received += u64::from(!story.returned.is_empty() && !story.receipts.is_empty());
        for (_, error) in &story.returned {
            *figures.errors.entry(error.clone()).or_default() += 1;
        }
        let row = rows.and_then(|rows| rows.get(&message)).copied();
        let without_sm = rules.without_sm.contains(&message.to);
        if !story.receipts.is_empty() {
            self.received(message, story, row, rows.is_some() && rules.archive, told);
            return;
        }
        let Some(acknowledged) = story.acknowledged.filter(|_| story.returned.is_empty()) else { return };
        let since = format!("acknowledged at {:.3} s, never received", acknowledged.as_secs_f64());
        match row {
            None if without_sm && !(rules.archive && rows.is_some()) => self.figures.without_sm_lost += 1,
            None => self.fault(Kind::Lost, Some(message), None, format!("{since}, no row")),
            Some(Kept::Archived) if without_sm => self.figures.without_sm_archive_only += 1,
            Some(Kept::Archived) => self.fault(Kind::ArchiveOnly, Some(message), None, since),
            Some(Kept::Waiting) => self.fault(Kind::LeftPending, Some(message), None, since),
        }
    }

    fn received(&mut self, message: Message, story: &Story, row: Option<Kept>, archive: bool, told: &Told) {
        self.figures.received_without_row += u64::from(archive && row.is_none());
        let told_so = |receipt: &Receipt| receipt.place.is_some_and(|(session, n)| told.counted(session) >= n);
        // Only in the last session: what came in another may be pending for good reason, and come once more.
        let last = story
            .receipts
            .last()
            .filter(|receipt| receipt.place.is_some_and(|(session, _)| told.last.get(&receipt.user) == Some(&session)));
        if row == Some(Kept::Waiting) && last.is_some_and(told_so) {
            self.fault(Kind::KeptTooLong, Some(message), None, "acknowledged by its recipient".to_owned());
        }
        if story.sendings.is_empty() {
            self.fault(Kind::Astray, Some(message), None, "nobody sent it".to_owned());
        }
        if let Some(stray) = story.receipts.iter().find(|receipt| receipt.user != message.to) {
            self.fault(Kind::Astray, Some(message), None, format!("received by user{}", stray.user));
        }
    }

    /// What came more than once.
    fn copies(&mut self, message: Message, story: &Story, told: &Told, rules: &Rules) {
        let is_last = |receipt: &Receipt| {
            receipt.place.is_some_and(|(session, _)| told.last.get(&receipt.user) == Some(&session))
        };
        let in_flight =
            story.receipts.iter().filter(|receipt| !is_last(receipt) && !told.is_settled(receipt, None, rules.grace));
        self.figures.in_flight += in_flight.count() as u64;
        if story.receipts.len() < 2 {
            return;
        }
        self.figures.doubled += story.receipts.len() as u64 - 1;
        let mut by_id: BTreeMap<Option<&str>, Vec<&Receipt>> = BTreeMap::new();
        for receipt in &story.receipts {
            by_id.entry(receipt.stanza_id.as_deref()).or_default().push(receipt);
        }
        let ids = by_id.keys().flatten().count();
        if ids > story.sendings.len() + story.anew {
            let text = format!("{ids} stanza-ids, sent {} times, {} of them anew", story.sendings.len(), story.anew);
            self.fault(Kind::Doubled, Some(message), None, text);
        }
        for (id, receipts) in by_id {
            let session = |receipt: &Receipt| receipt.place.map(|(session, _)| session);
            let unexplained = receipts.windows(2).filter(|pair| match pair {
                [one, two] => {
                    let same = session(one).is_some() && session(one) == session(two);
                    (same && !told.is_killed_between(one, two, rules.grace))
                        || told.is_settled(one, Some(two.at), rules.grace)
                }
                _ => false,
            });
            let unexplained = unexplained.count();
            // Copies without an id may be different sendings.
            let allowed = if id.is_some() { 0 } else { story.sendings.len().saturating_sub(1 + ids) };
            for first in receipts.iter().take(receipts.len() - 1).filter(|receipt| receipt.place.is_some()) {
                let known = told.told_before_end(first);
                self.figures.doubled_though_told += u64::from(told.told_at(first).is_some());
                self.figures.doubled_latest = self.figures.doubled_latest.max(known.unwrap_or_default());
            }
            self.figures.doubled_by_id += if id.is_some() { receipts.len() as u64 - 1 } else { 0 };
            if unexplained > allowed {
                let text = format!("{} copies of {}", receipts.len(), id.unwrap_or("no stanza-id"));
                self.fault(Kind::Doubled, Some(message), None, text);
            }
        }
    }

    /// Faults that others have found.
    pub fn add(&mut self, kind: Kind, text: String) {
        self.fault(kind, None, None, text);
    }

    fn order(&mut self, told: &Told) {
        let mut pairs: BTreeMap<_, Vec<(usize, Message)>> = BTreeMap::new();
        for (message, story) in &told.messages {
            if let (Some(first), Some(sending)) = (story.receipts.first(), story.sendings.first()) {
                let pair = (message.from, message.to, sending.connection);
                pairs.entry(pair).or_default().push((first.entry, *message));
            }
        }
        for deliveries in pairs.values_mut() {
            deliveries.sort_unstable();
            // Of those received so far, the one that was first sent last: if any came too early, it did.
            let mut latest: Option<(usize, Message)> = None;
            for (_, message) in deliveries {
                let Some(Story { sendings, receipts, .. }) = told.messages.get(message) else { continue };
                let (Some(first), Some(last)) = (sendings.first(), sendings.last()) else { continue };
                let early = receipts.first().is_some_and(|receipt| receipt.early);
                match latest {
                    Some((_, other)) if told.is_other_session(last, other) => {}
                    Some((sent, other)) if last.entry < sent => {
                        let text = format!("came behind {other}");
                        let (kind, message) = (Kind::OutOfOrder, Some(*message));
                        self.faults.push(Fault { kind, message, beside: Some(other), user: None, text });
                    }
                    Some((sent, _)) if first.entry < sent => {}
                    _ if early => {}
                    _ => latest = Some((first.entry, *message)),
                }
            }
        }
    }

    fn sessions(&mut self, told: &Told, rules: &Rules) {
        for wrong in &told.wrong {
            let kind = if wrong.went_back { Kind::HBack } else { Kind::HTooHigh };
            let Session(session) = wrong.session;
            self.fault(kind, None, Some(wrong.user), format!("session {session}: {}", wrong.text));
        }
        for (user, Session(session), why) in &told.refusals {
            if rules.resume.contains(user) {
                self.fault(Kind::NotResumed, None, Some(*user), format!("session {session}: {why}"));
            }
        }
        for user in 0..rules.users {
            let stuck = match told.settled.get(&user) {
                Some(stuck) => stuck.clone(),
                None => Some("did not come to an end".to_owned()),
            };
            if let Some(why) = stuck {
                self.fault(Kind::Stuck, None, Some(user), why);
            }
        }
        for (user, what) in &told.trouble {
            self.fault(Kind::Trouble, None, *user, what.clone());
        }
    }
}

/// How it went with a message from a sender with stream management.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// Which.
    pub message: Message,
    /// When it was first sent.
    pub sent: Duration,
    /// When its sender knew that it was safe, or that it was not: acknowledged, or returned as an error.
    pub settled: Option<Duration>,
    /// Whether it was returned.
    pub is_returned: bool,
    /// When it was first received.
    pub received: Option<Duration>,
}

/// How it went with each message.
#[must_use]
pub fn courses(entries: &[Entry]) -> Vec<Course> {
    let told = Told::new(entries);
    let courses = told.messages.iter().filter_map(|(message, story)| {
        let sent = story.sendings.first().and_then(|sending| entries.get(sending.entry))?;
        let Event::Sent { place: Some(_), .. } = sent.event else { return None };
        let returned = story.returned.first().map(|(at, _)| *at);
        let settled = [story.acknowledged, returned].into_iter().flatten().min();
        let received = story.receipts.first().map(|receipt| receipt.at);
        Some(Course { message: *message, sent: sent.at, settled, is_returned: returned.is_some(), received })
    });
    courses.collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        let rows = [
            ("kills", figures.kills),
            ("orderly stops", figures.stops),
            ("connections cut by clients", figures.cuts),
            ("sessions begun", figures.bound),
            ("sessions resumed", figures.resumed),
            ("resumptions refused", figures.refused),
            ("messages", figures.messages),
            ("acknowledged to their senders", figures.acknowledged),
            ("replayed after a resumption", figures.replayed),
            ("sent again in a new session", figures.resends),
            ("received", figures.received),
            ("returned as errors", figures.returned),
            ("returned, yet received", figures.returned_and_received),
            ("doubled, by body", figures.doubled),
            ("doubled, by stanza-id", figures.doubled_by_id),
            ("  of them acknowledged by the client before", figures.doubled_though_told),
            ("bound: in flight when a session was lost", figures.in_flight),
            ("bound: that and what was sent again", figures.in_flight + figures.resends),
            ("received, but not in the archive", figures.received_without_row),
            ("lost to those without XEP-0198", figures.without_sm_lost),
            ("archive only, without XEP-0198", figures.without_sm_archive_only),
        ];
        for (name, count) in rows {
            writeln!(f, "{name:<42} {count:>8}")?;
        }
        writeln!(f, "{:<42} {:>8.2} s", "longest wait for an acknowledgement", figures.longest_wait.as_secs_f64())?;
        let latest = figures.doubled_latest.as_secs_f64();
        writeln!(f, "{:<42} {latest:>8.2} s", "  the longest before its end or a kill")?;
        let away = figures.longest_away.as_secs_f64();
        writeln!(f, "{:<42} {away:>8.2} s", "longest from a broken connection to a resumption")?;
        for (error, count) in &figures.errors {
            writeln!(f, "  error {error:<34} {count:>8}")?;
        }
        for (kind, name) in Kind::ALL {
            let count = self.count(kind);
            writeln!(f, "{name:<42} {count:>8}   {}", if count == 0 { "ok" } else { "MUST BE 0" })?;
        }
        write!(f, "verdict: {}", if self.is_good() { "good" } else { "FAILED" })
    }
}

#[cfg(test)]
mod tests;
