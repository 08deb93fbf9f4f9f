//! A kept message on its way: who holds it, what its row says, and whether it is safe.
//!
//! ```text
//!                 ┌────────────── holders > 0 ──────────────┐      acknowledged by one, none holds it
//!   new ─────────►│ entry, each session here that was given │─────────────────────────────────────────► Delivered
//!   (entry holds) │ the envelope, each other instance       │      none acknowledged, none holds it
//!                 └─────────────────────────────────────────┘─────────────────────────────────────────► Returned
//!   its row, whenever it is written: InFlight while somebody holds it, then Delivered or Pending
//! ```
//!
//! Where the message entered, this is the whole truth about it. At another instance it is the truth about the sessions there:
//! when the last of them has let go, the entry is told ([`Arrival`]). Without the entry (it has died), or if the message was
//! claimed from the store, whoever holds it settles the row by itself.
//!
//! All of it is one atomic number: holders are let go in the tasks of their sessions, the row is written in the journal's.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use futures_util::task::AtomicWaker;
use smallvec::SmallVec;
use starling_registry::InstanceId;

/// How many hold it: the entry, sessions here, other instances.
const HOLDERS: u64 = 0xffff;
/// A holder's client has it.
const ACKNOWLEDGED: u64 = 1 << 16;
/// A row was written, or is being written, that says that the message is in flight.
const IN_FLIGHT: u64 = 1 << 17;
/// Its rows are on disk.
const COMMITTED: u64 = 1 << 18;
/// Its rows could not be written.
const FAILED: u64 = 1 << 19;
/// Somebody has handed its rows to the journal, or is about to.
const JOURNALED: u64 = 1 << 20;
/// Its row says that it is in flight, and is about to be changed: it is pending.
const RETURNING: u64 = 1 << 21;
/// Its row names this instance as a holder.
const NAMED: u64 = 1 << 22;
/// How many other instances have not said yet whether they took it.
const UNANSWERED: u64 = 0xff << 24;
const ONE_UNANSWERED: u64 = 1 << 24;
/// Which other instances hold it, a bit for each of [`Tracking::remotes`].
const FIRST_REMOTE: u32 = 32;
const REMOTES: u64 = 0xffff << FIRST_REMOTE;

/// Other instances that one message may go to. An account with sessions at more of them gets it at these, and at the others
/// from the store.
pub const MOST_REMOTES: usize = 16;

/// Where a message entered: its session is woken when something changes for it.
#[derive(Debug, Default)]
pub struct Entry(AtomicWaker);

impl Entry {
    /// Registers whom to wake.
    pub fn register(&self, waker: &std::task::Waker) {
        self.0.register(waker);
    }
}

/// How a message came from another instance: whom to tell what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where it entered.
    pub from: InstanceId,
    /// Its number on the way from there.
    pub sequence: u64,
}

#[derive(Debug)]
enum Source {
    /// It entered here.
    Entry(Arc<Entry>),
    /// It was claimed from the store.
    Store,
    /// It came from another instance.
    Remote(Arrival),
}

/// What a message was in the stream of its sender, if that can be resumed: by it a repetition is recognised after its
/// sender's server died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The id by which the stream is resumed.
    pub stream: u128,
    /// The client's own count, modulo 2^32.
    pub count: u32,
}

/// What a message's row is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody holds it who has not acknowledged it: see [`Tracking::holders`].
    InFlight,
    /// A client has it.
    Delivered,
    /// Nobody holds it, and no client has it.
    Pending,
}

/// What is to be done when a holder has let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Others hold it still, or its row, which is yet to be written, will say the right thing.
    Nothing,
    /// Its row says that it is in flight, but a client has it.
    Delivered,
    /// The last one let go, and no client has it: a row must say that it is pending.
    Returned,
}

/// See the module.
#[derive(Debug)]
pub struct Tracking {
    /// The message's id, in the account's rows and as XEP-0359 stanza-id.
    pub id: u128,
    /// Whether its row stays when a client has it.
    pub archived: bool,
    /// See there.
    pub origin: Option<Origin>,
    /// What [`Link::horizon`](crate::Link::horizon) said when it was decided where the message goes.
    pub horizon: u64,
    state: AtomicU64,
    source: Source,
    remotes: OnceLock<SmallVec<[InstanceId; 2]>>,
}

impl Tracking {
    const fn with(id: u128, archived: bool, state: u64, source: Source) -> Self {
        Self { id, archived, origin: None, horizon: 0, state: AtomicU64::new(state), source, remotes: OnceLock::new() }
    }

    /// A message that enters here. Its entry holds it until it calls [`Tracking::release`].
    #[must_use]
    pub const fn new(id: u128, archived: bool, entry: Arc<Entry>) -> Self {
        Self::with(id, archived, 1, Source::Entry(entry))
    }

    /// A message that was pending in the store and is handed to one session, whose row says so.
    #[must_use]
    pub const fn claimed(id: u128, archived: bool) -> Self {
        Self::with(id, archived, 1 | IN_FLIGHT | COMMITTED | JOURNALED, Source::Store)
    }

    /// A message that came from another instance. Whoever hands it to sessions holds it until it calls
    /// [`Tracking::release`].
    #[must_use]
    pub const fn arrived(id: u128, archived: bool, arrival: Arrival) -> Self {
        Self::with(id, archived, 1 | IN_FLIGHT | COMMITTED | JOURNALED, Source::Remote(arrival))
    }

    /// How it came, if it came from another instance.
    #[must_use]
    pub const fn arrival(&self) -> Option<Arrival> {
        match self.source {
            Source::Remote(arrival) => Some(arrival),
            Source::Entry(_) | Source::Store => None,
        }
    }

    /// One more holder here: to be called before the envelope is handed to a session.
    pub fn hold(&self) {
        self.state.fetch_add(1, Ordering::AcqRel);
    }

    /// These other instances hold it: to be called by its entry, once, before it is handed to any of them. At most
    /// [`MOST_REMOTES`]; what is more is left out.
    pub fn hold_at(&self, remotes: impl IntoIterator<Item = InstanceId>) -> &[InstanceId] {
        let mut first = false;
        let held = self.remotes.get_or_init(|| {
            first = true;
            remotes.into_iter().take(MOST_REMOTES).collect()
        });
        if first {
            let count = held.len() as u64;
            let mask = ((1 << count) - 1) << FIRST_REMOTE;
            self.state.fetch_add(count + count * ONE_UNANSWERED + mask, Ordering::AcqRel);
        }
        held
    }

    /// Another instance has said what it did with the message: it holds it, or has let go. `true`: all have, by now. To be
    /// called once for each.
    pub fn answered(&self) -> bool {
        let before = self.state.fetch_sub(ONE_UNANSWERED, Ordering::AcqRel);
        debug_assert!(before & UNANSWERED > 0, "answered by more than were asked");
        let all = before & UNANSWERED == ONE_UNANSWERED;
        if all {
            self.wake();
        }
        all
    }

    /// Whether all other instances that it was sent to have said what they did with it.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.state.load(Ordering::Acquire) & UNANSWERED == 0
    }

    /// A holder here lets go without a word about the client: a session that did not take it, or the entry that has handed
    /// it to everybody.
    pub fn release(&self) -> Settled {
        self.let_go(0, 0)
    }

    /// A holder's client has it.
    pub fn acknowledge(&self) -> Settled {
        self.let_go(ACKNOWLEDGED, 0)
    }

    /// Another instance lets go; whether a client there has the message. An instance that does not hold it changes nothing.
    pub fn let_go_at(&self, remote: InstanceId, acknowledged: bool) -> Settled {
        let Some(index) = self.remotes().iter().position(|held| *held == remote) else { return Settled::Nothing };
        self.let_go(if acknowledged { ACKNOWLEDGED } else { 0 }, 1 << (FIRST_REMOTE as usize + index))
    }

    fn let_go(&self, flag: u64, remote: u64) -> Settled {
        let change = |state: u64| {
            if remote != 0 && state & remote == 0 {
                return None;
            }
            debug_assert!(state & HOLDERS > 0, "let go by more than held it");
            let after = ((state & !remote) | flag) - u64::from(state & HOLDERS > 0);
            let returning = after & (HOLDERS | ACKNOWLEDGED) == 0 && after & IN_FLIGHT > 0;
            Some(if returning { after | RETURNING } else { after })
        };
        let Ok(before) = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change) else {
            return Settled::Nothing;
        };
        let after = change(before).unwrap_or_default();
        if after & HOLDERS > 0 {
            return Settled::Nothing;
        }
        self.wake();
        if after & ACKNOWLEDGED == 0 {
            return Settled::Returned;
        }
        if after & IN_FLIGHT == 0 { Settled::Nothing } else { Settled::Delivered }
    }

    /// What its row is to say, asked when it is about to be written. From then on its holders see to it that the row
    /// does not stay in flight.
    pub fn standing(&self) -> Standing {
        let decide = |state: u64| (state & HOLDERS > 0).then_some(state | IN_FLIGHT);
        match self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, decide) {
            Ok(_) => Standing::InFlight,
            Err(state) if state & ACKNOWLEDGED > 0 => Standing::Delivered,
            Err(_) => Standing::Pending,
        }
    }

    /// The instances that hold it now; `own`: this one. One that has not answered yet is not among them: until it has, this
    /// instance answers for it.
    #[must_use]
    pub fn holders(&self, own: InstanceId) -> SmallVec<[InstanceId; 2]> {
        let state = self.state.load(Ordering::Acquire);
        let mask = (state & REMOTES) >> FIRST_REMOTE;
        let here = (state & HOLDERS) > u64::from(mask.count_ones());
        let mut holders = SmallVec::new();
        if here || state & UNANSWERED > 0 {
            holders.push(own);
        }
        if state & UNANSWERED == 0 {
            let held = |(index, _): &(usize, &InstanceId)| mask & (1 << index) != 0;
            holders.extend(self.remotes().iter().enumerate().filter(held).map(|(_, remote)| *remote));
        }
        holders
    }

    /// Its row, written or about to be, names this instance among those that hold it, or does not any more.
    pub fn names_own(&self, named: bool) {
        if named {
            self.state.fetch_or(NAMED, Ordering::AcqRel);
        } else {
            self.state.fetch_and(!NAMED, Ordering::AcqRel);
        }
    }

    /// Those that its row may name. Of a message that entered here, that is not `own` if another instance was named instead:
    /// by then this one may have claimed the message, and hold it anew.
    #[must_use]
    pub fn named(&self, own: InstanceId) -> SmallVec<[InstanceId; 2]> {
        let is_named = match self.source {
            Source::Entry(_) => self.state.load(Ordering::Acquire) & NAMED > 0,
            Source::Store | Source::Remote(_) => true,
        };
        is_named.then_some(own).into_iter().chain(self.remotes().iter().copied()).collect()
    }

    /// All other instances that it was ever sent to.
    #[must_use]
    pub fn remotes(&self) -> &[InstanceId] {
        self.remotes.get().map_or(&[], |remotes| remotes)
    }

    /// Whether its row was, or is being, written as in flight.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.state.load(Ordering::Acquire) & IN_FLIGHT > 0
    }

    /// Takes it on oneself to hand the rows to the journal. `false`: somebody else has.
    pub fn take_to_journal(&self) -> bool {
        self.state.fetch_or(JOURNALED, Ordering::AcqRel) & JOURNALED == 0
    }

    /// The journal did not take the rows: they are to be handed to it again.
    pub fn take_back_from_journal(&self) {
        self.state.fetch_and(!JOURNALED, Ordering::AcqRel);
        self.wake();
    }

    /// Whether somebody has handed its rows to the journal.
    #[must_use]
    pub fn is_journaled(&self) -> bool {
        self.state.load(Ordering::Acquire) & JOURNALED > 0
    }

    /// Its rows are on disk.
    pub fn committed(&self) {
        self.state.fetch_or(COMMITTED, Ordering::AcqRel);
        self.wake();
    }

    /// Its row, which said that it was in flight, says that it is pending.
    pub fn gave_back(&self) {
        self.state.fetch_and(!RETURNING, Ordering::AcqRel);
        self.wake();
    }

    /// Whether its row is about to say that it is pending, and does not yet.
    #[must_use]
    pub fn is_returning(&self) -> bool {
        self.state.load(Ordering::Acquire) & RETURNING > 0
    }

    /// Its rows could not be written.
    pub fn failed(&self) {
        self.state.fetch_or(FAILED, Ordering::AcqRel);
        self.wake();
    }

    /// Whether it is safe: in rows, or with the clients that it was for.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state & COMMITTED > 0 || state & (ACKNOWLEDGED | HOLDERS) == ACKNOWLEDGED
    }

    /// Whether nothing more is to be expected of its rows: they are on disk, or could not be written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.state.load(Ordering::Acquire) & (COMMITTED | FAILED) > 0
    }

    /// Whether nobody holds it, and no client has it.
    #[must_use]
    pub fn is_returned(&self) -> bool {
        self.state.load(Ordering::Acquire) & (HOLDERS | ACKNOWLEDGED) == 0
    }

    /// Whether its sender must be told that it could not be kept.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        !self.is_safe() && self.state.load(Ordering::Acquire) & FAILED > 0
    }

    fn wake(&self) {
        if let Source::Entry(entry) = &self.source {
            entry.0.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracking() -> Tracking {
        Tracking::new(1, true, Arc::default())
    }

    #[test]
    fn acknowledged_before_its_row_is_written_it_needs_no_second_change() {
        let message = tracking();
        message.hold();
        assert_eq!(message.release(), Settled::Nothing);
        assert!(!message.is_safe());
        assert_eq!(message.acknowledge(), Settled::Nothing);
        assert!(message.is_safe());
        assert_eq!(message.standing(), Standing::Delivered);
    }

    #[test]
    fn acknowledged_after_its_row_was_written_the_row_is_changed() {
        let message = tracking();
        message.hold();
        assert_eq!(message.release(), Settled::Nothing);
        assert_eq!(message.standing(), Standing::InFlight);
        message.committed();
        assert!(message.is_safe());
        assert_eq!(message.acknowledge(), Settled::Delivered);
    }

    #[test]
    fn returned_after_its_row_was_written_it_is_on_its_way_until_the_row_says_so() {
        let message = tracking();
        message.hold();
        message.release();
        assert_eq!(message.standing(), Standing::InFlight);
        message.committed();
        assert_eq!(message.release(), Settled::Returned);
        assert!(message.is_safe() && message.is_returning());
        message.gave_back();
        assert!(message.is_safe() && !message.is_returning());
    }

    #[test]
    fn nobody_took_it() {
        let message = tracking();
        assert_eq!(message.release(), Settled::Returned);
        assert_eq!(message.standing(), Standing::Pending);
        assert!(!message.is_safe() && !message.is_returning());
        message.committed();
        assert!(message.is_safe());
    }

    #[test]
    fn one_of_two_clients_is_enough_but_only_when_the_other_has_let_go() {
        let message = tracking();
        message.hold();
        message.hold();
        assert_eq!([message.release(), message.acknowledge()], [Settled::Nothing; 2]);
        assert!(!message.is_safe());
        assert_eq!(message.standing(), Standing::InFlight);
        assert_eq!(message.release(), Settled::Delivered);
        assert!(message.is_safe());
    }

    #[test]
    fn a_claimed_message_goes_back_if_its_client_did_not_take_it() {
        let taken = Tracking::claimed(1, false);
        assert_eq!(taken.acknowledge(), Settled::Delivered);
        let returned = Tracking::claimed(1, false);
        assert_eq!(returned.release(), Settled::Returned);
        assert_eq!(returned.standing(), Standing::Pending);
    }

    const HERE: InstanceId = InstanceId(1);
    const REMOTE: [InstanceId; 2] = [InstanceId(2), InstanceId(3)];

    #[test]
    fn what_other_instances_hold_is_answered_for_here_until_all_have_answered() {
        let message = tracking();
        message.hold();
        assert_eq!(message.hold_at(REMOTE), REMOTE);
        assert_eq!(message.release(), Settled::Nothing);
        assert_eq!(message.holders(HERE).as_slice(), [HERE]);
        assert!(!message.answered() && !message.is_answered());
        assert_eq!(message.holders(HERE).as_slice(), [HERE], "one of them may never get it");
        assert!(message.answered() && message.is_answered());
        assert_eq!(message.holders(HERE).as_slice(), [HERE, REMOTE[0], REMOTE[1]]);
        assert_eq!(message.release(), Settled::Nothing);
        assert_eq!(message.holders(HERE).as_slice(), REMOTE);
        assert_eq!(message.let_go_at(REMOTE[0], false), Settled::Nothing);
        assert_eq!(message.holders(HERE).as_slice(), [REMOTE[1]]);
        assert_eq!(message.standing(), Standing::InFlight);
        assert_eq!(message.let_go_at(REMOTE[0], true), Settled::Nothing, "it does not hold it any more");
        assert_eq!(message.let_go_at(InstanceId(9), true), Settled::Nothing, "it never did");
        assert_eq!(message.let_go_at(REMOTE[1], true), Settled::Delivered);
        assert!(message.is_safe() && message.holders(HERE).is_empty());
    }

    #[test]
    fn what_is_returned_is_taken_only_from_those_that_its_row_names() {
        let message = tracking();
        message.hold_at([REMOTE[0]]);
        message.names_own(true);
        assert_eq!(message.named(HERE).as_slice(), [HERE, REMOTE[0]]);
        // This instance may have claimed it anew by then.
        message.names_own(false);
        assert_eq!(message.named(HERE).as_slice(), [REMOTE[0]]);
        assert_eq!(Tracking::claimed(1, true).named(HERE).as_slice(), [HERE]);
    }

    #[test]
    fn an_instance_that_could_not_hand_it_to_anybody_gives_it_back() {
        let message = tracking();
        message.hold_at([REMOTE[0]]);
        message.release();
        assert_eq!(message.let_go_at(REMOTE[0], false), Settled::Returned);
        assert!(message.answered() && message.is_returned());
        assert_eq!(message.standing(), Standing::Pending);
    }

    #[test]
    fn no_more_instances_hold_it_than_can_be_told_apart() {
        let message = tracking();
        let many: Vec<_> = (10..40).map(InstanceId).collect();
        assert_eq!(message.hold_at(many.iter().copied()), &many[..MOST_REMOTES]);
        for remote in &many[..MOST_REMOTES] {
            message.answered();
            assert_eq!(message.let_go_at(*remote, false), Settled::Nothing);
        }
        assert_eq!(message.release(), Settled::Returned);
    }

    #[test]
    fn one_hands_the_rows_to_the_journal() {
        let message = tracking();
        assert!(message.take_to_journal() && !message.take_to_journal() && message.is_journaled());
        message.take_back_from_journal();
        assert!(!message.is_journaled() && message.take_to_journal());
        assert!(!Tracking::claimed(1, true).take_to_journal(), "its row is there");
    }

    #[test]
    fn what_came_from_elsewhere_is_settled_by_a_word_to_its_entry() {
        let arrival = Arrival { from: REMOTE[0], sequence: 7 };
        let message = Tracking::arrived(1, true, arrival);
        message.hold();
        assert_eq!((message.release(), message.arrival()), (Settled::Nothing, Some(arrival)));
        assert_eq!(message.acknowledge(), Settled::Delivered);
        let nobody = Tracking::arrived(1, true, arrival);
        assert_eq!(nobody.release(), Settled::Returned);
    }

    #[test]
    fn a_failure_is_told_unless_the_client_has_it() {
        let message = tracking();
        message.hold();
        message.release();
        message.failed();
        assert!(message.is_failed());
        message.acknowledge();
        assert!(!message.is_failed() && message.is_safe());
    }
}
