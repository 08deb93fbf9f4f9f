//! What a session's client sent and what of it is not safe yet: the entry's side of *acknowledged means safe*.
//!
//! ```text
//!  handled(n) ─► held (a kept message) ─► journaled ─► safe ─► counted: `safe()` is n of the last before the first unsafe
//!                   │ archive off: the recipient's acknowledgement makes it safe; after a second a row does
//!                   │ other instances have not said whether they hold it: journaled when they have, or after a second
//!                   └ the journal is full: tried again; after five seconds the sender is told
//! ```
//!
//! It also keeps a session's messages to one account in their order: what is on its way to the store holds up what could
//! overtake it.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use starling_link::{Entry, Envelope, Tracking};
use starling_registry::InstanceId;
use starling_xmpp::jid::bare_str;

/// Stanzas of one session that may be unsafe before it is no longer read.
pub(crate) const UNSAFE_STANZAS: usize = 256;
/// Their bytes, likewise.
pub(crate) const UNSAFE_BYTES: usize = 1 << 20;
/// How long a session is not read for that; then kept messages are refused (`resource-constraint`, type wait), until
/// there is room again.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);
/// How long a message waits for its recipient's acknowledgement, without an archive, and for the word of other instances,
/// before it gets a row.
const UNACKNOWLEDGED: Duration = Duration::from_secs(1);
/// A journal that is full is tried again after this, and given up after [`PAUSE`].
const FULL_JOURNAL: Duration = Duration::from_millis(100);

/// A kept message that is not known to be safe.
#[derive(Debug)]
struct Held {
    /// Which of the session's stanzas it was.
    number: u64,
    envelope: Arc<Envelope>,
    since: Instant,
    /// When it goes to the journal if it is not safe by then; `None`: it has.
    journal_at: Option<Instant>,
    /// It was meant for the store, not for a session.
    diverted: bool,
    /// The journal refused it.
    refused: bool,
}

impl Held {
    fn tracking(&self) -> Option<&Tracking> {
        self.envelope.tracking.as_ref()
    }

    fn is_safe(&self) -> bool {
        self.tracking().is_none_or(Tracking::is_safe)
    }

    /// Whether it is where it stays: what is sent from now on does not overtake it.
    fn is_settled(&self) -> bool {
        self.tracking().is_none_or(|tracking| tracking.is_safe() && tracking.is_answered() && !tracking.is_returning())
    }

    /// Whether it need not be held any longer. What belongs into the archive is held until it is there, so that a database
    /// that does not keep up slows its senders down, and nothing is missing.
    fn is_done(&self) -> bool {
        self.is_settled() && self.tracking().is_none_or(|tracking| !tracking.archived || tracking.is_written())
    }

    /// Whether it goes, or went, to the store, and is not there yet.
    fn is_diverted(&self) -> bool {
        let is_returned = || self.tracking().is_some_and(Tracking::is_returned);
        (self.diverted || is_returned()) && !self.is_settled()
    }
}

/// How a message enters the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journaled {
    /// Its rows are with the journal.
    Yes,
    /// Not yet: its recipient's client may be quick to acknowledge it, or another instance has to say first whether it
    /// holds it.
    Later,
    /// The journal is full.
    Refused,
}

/// What the ledger asks for.
#[derive(Debug)]
pub(crate) enum Due {
    /// Push its rows, and say by [`Ledger::journaled`] whether the journal took them.
    Journal(Arc<Envelope>),
    /// It could not be kept: tell its sender. It counts as safe then.
    Failed(Arc<Envelope>),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: VecDeque<Held>,
    bytes: usize,
    handled: u64,
    /// How many of them are not with the journal.
    unjournaled: usize,
    /// How many of these it refused.
    refused: usize,
    entry: Arc<Entry>,
    full_since: Option<Instant>,
}

impl Ledger {
    /// Counts a stanza.
    pub(crate) const fn handled(&mut self) {
        self.handled += 1;
    }

    /// Stanzas counted.
    pub(crate) const fn count(&self) -> u64 {
        self.handled
    }

    /// The number of the last stanza before the first that is not safe.
    pub(crate) fn safe(&self) -> u64 {
        self.held.iter().find(|held| !held.is_safe()).map_or(self.handled, |first| first.number - 1)
    }

    /// Who is woken when a message of this session becomes safe, or cannot be kept.
    pub(crate) const fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Holds a kept message, which belongs to the stanza that was counted last.
    pub(crate) fn hold(&mut self, envelope: Arc<Envelope>, journaled: Journaled, diverted: bool, now: Instant) {
        let journal_at = match journaled {
            Journaled::Yes => None,
            Journaled::Later => Some(now + UNACKNOWLEDGED),
            Journaled::Refused => Some(now + FULL_JOURNAL),
        };
        self.bytes += envelope.stanza.len();
        self.unjournaled += usize::from(journal_at.is_some());
        let refused = journaled == Journaled::Refused;
        self.refused += usize::from(refused);
        self.held.push_back(Held { number: self.handled, envelope, since: now, journal_at, diverted, refused });
    }

    /// Whether an earlier message for `account` is still on its way to the store: a later one must not overtake it.
    pub(crate) fn has_diverted(&self, account: &str) -> bool {
        self.held.iter().any(|held| held.is_diverted() && to(&held.envelope) == account)
    }

    /// Whether an earlier message for `account` is with, or on its way to, another instance than these, and not where it
    /// stays: it would come back from there behind a later one.
    pub(crate) fn has_astray(&self, account: &str, instances: impl Fn(InstanceId) -> bool) -> bool {
        self.held.iter().any(|held| {
            let remotes = held.tracking().map_or(&[][..], Tracking::remotes);
            remotes.iter().any(|remote| !instances(*remote)) && to(&held.envelope) == account && !held.is_settled()
        })
    }

    /// Lets go what is safe; what is to be done next, if anything is. To be called until it says `None`.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Due> {
        while let Some(first) = self.held.front() {
            if first.is_done() || first.is_safe() && (first.is_given_up(now) || first.is_stale(now)) {
                self.pop();
            } else if first.tracking().is_some_and(Tracking::is_failed) || first.is_given_up(now) {
                return self.pop().map(|held| Due::Failed(held.envelope));
            } else {
                break;
            }
        }
        if self.unjournaled == 0 {
            return None;
        }
        let due = |held: &&mut Held| held.journal_at.is_some_and(|at| at <= now) && !held.is_done();
        while let Some(held) = self.held.iter_mut().find(due)
            && held.is_journaled()
        {
            held.journal_at = None;
            self.unjournaled -= 1;
            self.refused -= usize::from(std::mem::take(&mut held.refused));
        }
        let held = self.held.iter_mut().find(due)?;
        // Tried again then, unless `journaled` says that it was taken.
        held.journal_at = Some(now + FULL_JOURNAL);
        Some(Due::Journal(Arc::clone(&held.envelope)))
    }

    /// The journal took it.
    pub(crate) fn journaled(&mut self, envelope: &Arc<Envelope>) {
        if let Some(held) = self.held.iter_mut().find(|held| Arc::ptr_eq(&held.envelope, envelope)) {
            self.unjournaled -= usize::from(held.journal_at.take().is_some());
            self.refused -= usize::from(std::mem::take(&mut held.refused));
        }
    }

    fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= held.envelope.stanza.len();
        self.unjournaled -= usize::from(held.journal_at.is_some());
        self.refused -= usize::from(held.refused);
        if self.held.is_empty() && self.held.capacity() > 32 {
            self.held = VecDeque::new();
        }
        Some(held)
    }

    /// When [`Ledger::next`] has something to do, if nobody wakes it before.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        // The oldest is due first, give or take one try of the journal.
        let journal = (self.unjournaled > 0).then(|| self.held.iter().find_map(|held| held.journal_at)).flatten();
        let pause = self.full_since.map(|since| since + PAUSE);
        let stale = self.held.front().filter(|first| first.is_safe() && !first.is_settled());
        [journal, pause, stale.map(|first| first.since + PAUSE)].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether nothing was said of the oldest that is held.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.front().is_none_or(|first| !first.is_done() && !first.tracking().is_some_and(Tracking::is_failed))
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A journal that is full holds its senders off at once: each has one message more for it at most.
    fn is_over(&self) -> bool {
        self.held.len() >= UNSAFE_STANZAS || self.bytes >= UNSAFE_BYTES || self.refused > 0
    }

    /// Whether the client is not to be read for now.
    pub(crate) fn is_paused(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if !self.is_over() {
            self.full_since = None;
            return false;
        }
        let now = now();
        now < *self.full_since.get_or_insert(now) + PAUSE
    }

    /// Whether one more kept message is to be refused.
    pub(crate) fn refuses(&self) -> bool {
        self.is_over()
    }

    /// Registers whom to wake when something was said of a message.
    pub(crate) fn register(&self, waker: &Waker) {
        if !self.held.is_empty() {
            self.entry.register(waker);
        }
    }
}

impl Held {
    fn is_journaled(&self) -> bool {
        self.tracking().is_none_or(Tracking::is_journaled)
    }

    /// Whether no journal took it in time.
    fn is_given_up(&self, now: Instant) -> bool {
        self.journal_at.is_some() && !self.is_journaled() && now >= self.since + PAUSE
    }

    /// Whether all that is missing is the word of another instance, for too long.
    fn is_stale(&self, now: Instant) -> bool {
        let is_written = self.tracking().is_none_or(|tracking| !tracking.archived || tracking.is_written());
        is_written && now >= self.since + PAUSE
    }
}

fn to(envelope: &Envelope) -> &str {
    bare_str(envelope.to.as_ref().unwrap_or(&envelope.from))
}

#[cfg(test)]
mod tests {
    use starling_link::Standing;
    use starling_xmpp::stanza::{Kind, MessageType};

    use super::*;

    fn message(entry: &Arc<Entry>, to: &str, archived: bool) -> Arc<Envelope> {
        let tracking = Tracking::new(1, archived, Arc::clone(entry));
        let (to, from) = (Some(to.parse().unwrap()), "romeo@example.net/orchard".parse().unwrap());
        Arc::new(Envelope::kept(to, from, Kind::Message(MessageType::Chat), vec![b' '; 100], tracking))
    }

    fn tracking(envelope: &Arc<Envelope>) -> &Tracking {
        envelope.tracking.as_ref().unwrap()
    }

    struct World {
        ledger: Ledger,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { ledger: Ledger::default(), now: Instant::now() }
        }

        fn send(&mut self, to: &str, journaled: Journaled, diverted: bool) -> Arc<Envelope> {
            let envelope = message(self.ledger.entry(), to, journaled == Journaled::Yes);
            self.ledger.handled();
            self.ledger.hold(Arc::clone(&envelope), journaled, diverted, self.now);
            envelope
        }
    }

    #[test]
    fn what_is_counted_stops_before_the_first_that_is_not_safe() {
        let mut world = World::new();
        world.ledger.handled();
        let first = world.send("a@b", Journaled::Yes, false);
        world.ledger.handled();
        let second = world.send("a@b", Journaled::Yes, false);
        assert_eq!((world.ledger.count(), world.ledger.safe()), (4, 1));
        tracking(&second).committed();
        assert!(world.ledger.next(world.now).is_none());
        assert_eq!(world.ledger.safe(), 1, "in order");
        tracking(&first).committed();
        assert!(!world.ledger.is_idle());
        assert!(world.ledger.next(world.now).is_none());
        assert_eq!(world.ledger.safe(), 4);
        assert!(world.ledger.is_empty() && world.ledger.is_idle());
    }

    #[test]
    fn without_an_archive_an_acknowledgement_is_enough_and_a_second_too_long() {
        let mut world = World::new();
        let quick = world.send("a@b", Journaled::Later, false);
        tracking(&quick).acknowledge();
        let slow = world.send("a@b", Journaled::Later, false);
        assert!(world.ledger.next(world.now).is_none());
        assert_eq!(world.ledger.safe(), 1);
        assert_eq!(world.ledger.deadline(world.now), Some(world.now + UNACKNOWLEDGED));
        world.now += UNACKNOWLEDGED;
        let Some(Due::Journal(due)) = world.ledger.next(world.now) else { panic!("not due") };
        assert!(Arc::ptr_eq(&due, &slow));
        world.ledger.journaled(&due);
        assert!(world.ledger.next(world.now + PAUSE).is_none(), "it is the journal's");
        assert_eq!(world.ledger.deadline(world.now), None);
    }

    #[test]
    fn a_full_journal_is_tried_again_and_given_up_in_time() {
        let mut world = World::new();
        world.send("a@b", Journaled::Refused, true);
        let (mut tries, began) = (0, world.now);
        loop {
            match world.ledger.next(world.now) {
                None => world.now = world.ledger.deadline(world.now).unwrap(),
                Some(Due::Journal(_)) => tries += 1,
                Some(Due::Failed(_)) => break,
            }
        }
        assert_eq!(world.now - began, PAUSE);
        assert_eq!(tries, 49);
        assert_eq!(world.ledger.safe(), 1, "its sender is told");
    }

    #[test]
    fn a_full_journal_holds_its_sender_off_until_it_takes_what_it_refused() {
        let mut world = World::new();
        world.send("a@b", Journaled::Refused, false);
        let now = world.now;
        assert!(world.ledger.is_paused(|| now) && world.ledger.refuses());
        let Some(Due::Journal(due)) = world.ledger.next(now + FULL_JOURNAL) else { panic!("not due") };
        world.ledger.journaled(&due);
        assert!(!world.ledger.is_paused(|| now) && !world.ledger.refuses());
    }

    #[test]
    fn what_could_not_be_written_is_told_unless_its_client_has_it() {
        let mut world = World::new();
        let (lost, had) = (world.send("a@b", Journaled::Yes, false), world.send("a@b", Journaled::Yes, false));
        let archived = world.send("a@b", Journaled::Yes, false);
        tracking(&had).acknowledge();
        tracking(&lost).failed();
        tracking(&had).failed();
        let Some(Due::Failed(failed)) = world.ledger.next(world.now) else { panic!("not told") };
        assert!(Arc::ptr_eq(&failed, &lost));
        assert!(world.ledger.next(world.now).is_none());
        tracking(&archived).acknowledge();
        assert!(world.ledger.next(world.now).is_none());
        assert_eq!(world.ledger.safe(), 3);
        assert!(!world.ledger.is_empty(), "held until it is in the archive");
        tracking(&archived).committed();
        assert!(world.ledger.next(world.now).is_none() && world.ledger.is_empty());
    }

    #[test]
    fn who_waits_for_the_store_is_not_overtaken() {
        let mut world = World::new();
        let stored = world.send("a@b/c", Journaled::Yes, true);
        assert!(world.ledger.has_diverted("a@b") && !world.ledger.has_diverted("x@y"));
        tracking(&stored).committed();
        assert!(!world.ledger.has_diverted("a@b"));
    }

    const THERE: InstanceId = InstanceId(2);

    #[test]
    fn what_another_instance_may_have_is_not_overtaken_by_what_goes_elsewhere() {
        let mut world = World::new();
        let astray = world.send("a@b/c", Journaled::Later, false);
        let message = tracking(&astray);
        message.hold_at([THERE]);
        message.release();
        assert!(world.ledger.has_astray("a@b", |_| false) && !world.ledger.has_astray("x@y", |_| false));
        assert!(!world.ledger.has_astray("a@b", |instance| instance == THERE), "it goes the same way");
        // No word within a second: it gets a row, and stays held.
        assert!(message.take_to_journal());
        assert_eq!(message.standing(), Standing::InFlight);
        message.committed();
        assert!(world.ledger.next(world.now).is_none() && !world.ledger.is_empty());
        assert!(world.ledger.has_astray("a@b", |_| false) && !world.ledger.has_diverted("a@b"));
        // The instance has died.
        message.let_go_at(THERE, false);
        message.answered();
        assert!(world.ledger.next(world.now).is_none());
        assert!(world.ledger.has_diverted("a@b"), "its row is not pending yet");
        message.gave_back();
        assert!(!world.ledger.has_diverted("a@b") && !world.ledger.has_astray("a@b", |_| false));
        assert!(world.ledger.next(world.now).is_none() && world.ledger.is_empty());
    }

    #[test]
    fn an_instance_that_never_answers_holds_nobody_up_for_long() {
        let mut world = World::new();
        let astray = world.send("a@b/c", Journaled::Later, false);
        let message = tracking(&astray);
        message.hold_at([THERE]);
        message.release();
        assert!(message.take_to_journal() && message.standing() == Standing::InFlight);
        message.committed();
        assert_eq!(world.ledger.deadline(world.now), Some(world.now + UNACKNOWLEDGED));
        assert!(world.ledger.next(world.now + UNACKNOWLEDGED).is_none());
        assert_eq!(world.ledger.deadline(world.now), Some(world.now + PAUSE));
        assert!(world.ledger.next(world.now + PAUSE).is_none() && world.ledger.is_empty());
    }

    #[test]
    fn too_much_pauses_for_a_while_and_then_refuses_until_there_is_room() {
        let mut world = World::new();
        let all: Vec<_> = (0..UNSAFE_STANZAS).map(|_| world.send("a@b", Journaled::Yes, false)).collect();
        let now = world.now;
        assert!(world.ledger.is_paused(|| now) && world.ledger.refuses());
        assert_eq!(world.ledger.deadline(now), Some(now + PAUSE));
        assert!(!world.ledger.is_paused(|| now + PAUSE) && world.ledger.refuses());
        tracking(&all[0]).committed();
        world.ledger.next(now);
        assert!(!world.ledger.is_paused(|| now) && !world.ledger.refuses());
        assert_eq!(world.ledger.deadline(now), None);
    }
}
