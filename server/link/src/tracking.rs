//! A kept message on its way: who holds it, what its row says, and whether it is safe.
//!
//! ```text
//!                 ┌────────────── holders > 0 ──────────────┐      acknowledged by one, none holds it
//!   new ─────────►│ entry, and each session that was handed │─────────────────────────────────────────► Delivered
//!   (entry holds) │ the envelope                            │      none acknowledged, none holds it
//!                 └─────────────────────────────────────────┘─────────────────────────────────────────► Returned
//!   its row, whenever it is written: InFlight while somebody holds it, then Delivered or Pending
//! ```
//!
//! All of it is one atomic number: holders are let go in the tasks of their sessions, the row is written in the journal's.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures_util::task::AtomicWaker;

const HOLDERS: u32 = 0xffff;
/// A holder's client has it.
const ACKNOWLEDGED: u32 = 1 << 16;
/// A row was written, or is being written, that says that the message is in flight.
const IN_FLIGHT: u32 = 1 << 17;
/// Its rows are on disk.
const COMMITTED: u32 = 1 << 18;
/// Its rows could not be written.
const FAILED: u32 = 1 << 19;

/// Where a message entered: its session is woken when something changes for it.
#[derive(Debug, Default)]
pub struct Entry(AtomicWaker);

impl Entry {
    /// Registers whom to wake.
    pub fn register(&self, waker: &std::task::Waker) {
        self.0.register(waker);
    }
}

/// What a message's row is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody holds it who has not acknowledged it.
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
    state: AtomicU32,
    entry: Option<Arc<Entry>>,
}

impl Tracking {
    /// A message that enters here. Its entry holds it until it calls [`Tracking::release`].
    #[must_use]
    pub const fn new(id: u128, archived: bool, entry: Arc<Entry>) -> Self {
        Self { id, archived, state: AtomicU32::new(1), entry: Some(entry) }
    }

    /// A message that was pending in the store and is handed to one session, whose row says so.
    #[must_use]
    pub const fn claimed(id: u128, archived: bool) -> Self {
        Self { id, archived, state: AtomicU32::new(1 | IN_FLIGHT | COMMITTED), entry: None }
    }

    /// One more holder: to be called before the envelope is handed to a session.
    pub fn hold(&self) {
        self.state.fetch_add(1, Ordering::AcqRel);
    }

    /// A holder lets go without a word about the client: a session that did not take it, or the entry that has handed it
    /// to everybody.
    pub fn release(&self) -> Settled {
        self.let_go(0)
    }

    /// A holder's client has it.
    pub fn acknowledge(&self) -> Settled {
        self.let_go(ACKNOWLEDGED)
    }

    fn let_go(&self, flag: u32) -> Settled {
        let change = |state: u32| {
            debug_assert!(state & HOLDERS > 0, "let go by more than held it");
            Some((state | flag) - u32::from(state & HOLDERS > 0))
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).unwrap_or_default();
        let after = change(before).unwrap_or_default();
        if after & HOLDERS > 0 {
            return Settled::Nothing;
        }
        if after & ACKNOWLEDGED == 0 {
            return Settled::Returned;
        }
        self.wake();
        if after & IN_FLIGHT == 0 { Settled::Nothing } else { Settled::Delivered }
    }

    /// What its row is to say, asked when it is about to be written. From then on its holders see to it that the row
    /// does not stay in flight.
    pub fn standing(&self) -> Standing {
        let decide = |state: u32| (state & HOLDERS > 0).then_some(state | IN_FLIGHT);
        match self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, decide) {
            Ok(_) => Standing::InFlight,
            Err(state) if state & ACKNOWLEDGED > 0 => Standing::Delivered,
            Err(_) => Standing::Pending,
        }
    }

    /// Its rows are on disk.
    pub fn committed(&self) {
        self.state.fetch_or(COMMITTED, Ordering::AcqRel);
        self.wake();
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
        if let Some(entry) = &self.entry {
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
    fn nobody_took_it() {
        let message = tracking();
        assert_eq!(message.release(), Settled::Returned);
        assert_eq!(message.standing(), Standing::Pending);
        assert!(!message.is_safe());
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
