//! One direction between two instances: what is numbered and kept until the other side has it, and what comes.
//!
//! ```text
//!   Outgoing:  [ confirmed ✗ ][ transmitted, not confirmed │ waits for credit ] ◄── push
//!                             └─ first                     └─ transmitted
//!              rewind: a gap, a new path, no word for too long ──► transmitted again from there
//!   Incoming:  takes the next, drops the old, asks for a gap
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long nothing is confirmed before what was transmitted is transmitted again. Doubles up to [`RESEND_AT_MOST`].
pub(crate) const RESEND_AFTER: Duration = Duration::from_millis(500);
const RESEND_AT_MOST: Duration = Duration::from_secs(4);

/// What goes out.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    items: VecDeque<Sent<T>>,
    /// The number of the first of them.
    first: u64,
    /// How many of them, from the first on, are on their way.
    transmitted: usize,
    /// Their bytes.
    in_flight: usize,
    /// Bytes that may be, by the other side's word.
    window: usize,
    resend_at: Option<Instant>,
    patience: Duration,
}

#[derive(Debug)]
pub(crate) struct Sent<T> {
    pub(crate) item: T,
    pub(crate) weight: usize,
    pub(crate) since: Instant,
}

impl<T> Outgoing<T> {
    pub(crate) const fn new(window: usize) -> Self {
        Self {
            items: VecDeque::new(),
            first: 1,
            transmitted: 0,
            in_flight: 0,
            window,
            resend_at: None,
            patience: RESEND_AFTER,
        }
    }

    /// Numbers an item and keeps it.
    pub(crate) fn push(&mut self, item: T, weight: usize, now: Instant) {
        self.items.push_back(Sent { item, weight, since: now });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether nothing is on its way.
    pub(crate) const fn is_idle(&self) -> bool {
        self.transmitted == 0
    }

    /// The number of the next item to be transmitted, or that the next one will have.
    pub(crate) const fn next_number(&self) -> u64 {
        self.first + self.transmitted as u64
    }

    /// How many items were not transmitted yet.
    pub(crate) fn waiting(&self) -> usize {
        self.items.len() - self.transmitted
    }

    /// Whether something may be transmitted now. One item may always be on its way, however large it is.
    pub(crate) fn may_transmit(&self) -> bool {
        self.transmitted < self.items.len() && (self.transmitted == 0 || self.in_flight < self.window)
    }

    /// The next item, which counts as transmitted from now on.
    pub(crate) fn transmit(&mut self, now: Instant) -> Option<&T> {
        if !self.may_transmit() {
            return None;
        }
        let sent = self.items.get(self.transmitted)?;
        self.transmitted += 1;
        self.in_flight += sent.weight;
        if self.resend_at.is_none() {
            self.resend_at = Some(now + self.patience);
        }
        Some(&sent.item)
    }

    /// The other side has taken everything up to `number`: gives it to `done`, oldest first.
    pub(crate) fn confirm(&mut self, number: u64, now: Instant, mut done: impl FnMut(Sent<T>)) {
        // More than was transmitted cannot have been taken. (It was transmitted before the last rewind, then.)
        let taken = number.saturating_add(1).saturating_sub(self.first).min(self.items.len() as u64) as usize;
        if taken == 0 {
            return;
        }
        for _ in 0..taken {
            let Some(sent) = self.items.pop_front() else { break };
            if self.transmitted > 0 {
                self.transmitted -= 1;
                self.in_flight -= sent.weight;
            }
            self.first += 1;
            done(sent);
        }
        self.patience = RESEND_AFTER;
        self.resend_at = (self.transmitted > 0).then(|| now + self.patience);
        if self.items.is_empty() && self.items.capacity() > 256 {
            self.items = VecDeque::new();
        }
    }

    /// Credit, in bytes.
    pub(crate) const fn grant(&mut self, window: usize) {
        self.window = window;
    }

    /// What is at `number` and behind it is to be transmitted again.
    pub(crate) fn rewind_to(&mut self, number: u64) {
        let keep = number.saturating_sub(self.first).min(self.transmitted as u64) as usize;
        let again: usize = self.items.range(keep..self.transmitted).map(|sent| sent.weight).sum();
        self.transmitted = keep;
        self.in_flight -= again;
        self.resend_at = None;
    }

    /// All that is not confirmed is to be transmitted again.
    pub(crate) fn rewind(&mut self) {
        self.rewind_to(self.first);
    }

    /// When what was transmitted is to be transmitted again, if nothing is heard.
    pub(crate) const fn resend_at(&self) -> Option<Instant> {
        self.resend_at
    }

    /// Nothing was heard for too long.
    pub(crate) fn resend(&mut self) {
        self.rewind();
        self.patience = (2 * self.patience).min(RESEND_AT_MOST);
    }

    /// All that is kept, oldest first, to be looked at or changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sent<T>> {
        self.items.iter_mut()
    }

    /// Since when the oldest waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.items.front().map(|sent| sent.since)
    }

    /// Everything, for an end, oldest first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Sent<T>> + use<T> {
        let items = std::mem::take(&mut self.items);
        self.first += items.len() as u64;
        (self.transmitted, self.in_flight, self.resend_at) = (0, 0, None);
        items.into_iter()
    }
}

/// What comes in.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The number that comes next.
    expected: u64,
    /// The other side does not know yet that everything before it was taken.
    unconfirmed: bool,
    /// There is a gap, and the other side is to be told.
    gap: bool,
    /// Which gap it was told of last, and when it may be told again.
    told_of: Option<(u64, Instant)>,
}

/// What comes behind a gap, while what is missing is on its way, is not asked for each time.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What to do with payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arriving {
    /// Take them, but for so many at the beginning.
    From(usize),
    /// None of them: something is missing before.
    Gap,
}

impl Incoming {
    pub(crate) const fn new() -> Self {
        Self { expected: 1, unconfirmed: false, gap: false, told_of: None }
    }

    /// `count` payloads came, the first of them with the number `first`. What is taken counts as taken.
    pub(crate) fn arrive(&mut self, first: u64, count: usize, now: Instant) -> Arriving {
        if first > self.expected {
            if self.told_of.is_none_or(|(number, again)| number != self.expected || again <= now) {
                self.gap = true;
                self.told_of = Some((self.expected, now + ASK_AGAIN));
            }
            return Arriving::Gap;
        }
        let old = self.expected - first;
        let count = count as u64;
        // Also if all is old: whoever sends it again has not heard of it.
        self.unconfirmed |= count > 0;
        self.expected = self.expected.max(first + count);
        Arriving::From(old.min(count) as usize)
    }

    /// Everything up to this number was taken.
    pub(crate) const fn taken(&self) -> u64 {
        self.expected - 1
    }

    /// Whether the other side is to be told of what was taken.
    pub(crate) const fn is_unconfirmed(&self) -> bool {
        self.unconfirmed
    }

    /// Whether the other side is to be told of a gap.
    pub(crate) const fn has_gap(&self) -> bool {
        self.gap
    }

    /// The other side is being told of both: the number that is missing, 0 if none is.
    pub(crate) const fn told(&mut self) -> u64 {
        self.unconfirmed = false;
        if self.gap {
            self.gap = false;
            return self.expected;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(items: u32) -> (Outgoing<u32>, Instant) {
        let (mut outgoing, now) = (Outgoing::new(100), Instant::now());
        (0..items).for_each(|item| outgoing.push(item, 30, now));
        (outgoing, now)
    }

    fn transmit(outgoing: &mut Outgoing<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| outgoing.transmit(now).copied()).collect()
    }

    fn confirm(outgoing: &mut Outgoing<u32>, number: u64, now: Instant) -> Vec<u32> {
        let mut done = Vec::new();
        outgoing.confirm(number, now, |sent| done.push(sent.item));
        done
    }

    #[test]
    fn no_more_is_on_its_way_than_there_is_credit_for_and_never_nothing() {
        let (mut outgoing, now) = outgoing(10);
        assert_eq!(transmit(&mut outgoing, now), [0, 1, 2, 3], "the one that goes over it is still in");
        assert_eq!(confirm(&mut outgoing, 2, now), [0, 1]);
        assert_eq!(transmit(&mut outgoing, now), [4, 5]);
        outgoing.grant(0);
        assert_eq!(confirm(&mut outgoing, 5, now).len(), 3);
        assert_eq!(transmit(&mut outgoing, now), [0; 0]);
        confirm(&mut outgoing, 6, now);
        assert_eq!(transmit(&mut outgoing, now), [6], "without credit, one at a time");
        outgoing.grant(1000);
        assert_eq!(transmit(&mut outgoing, now), [7, 8, 9]);
        assert_eq!(confirm(&mut outgoing, 10, now).len(), 4);
        assert!(outgoing.is_empty() && outgoing.is_idle() && outgoing.resend_at().is_none());
        assert_eq!(outgoing.next_number(), 11);
    }

    #[test]
    fn what_is_missing_is_transmitted_again_from_there_and_what_is_old_is_not() {
        let (mut outgoing, now) = outgoing(4);
        transmit(&mut outgoing, now);
        outgoing.rewind_to(3);
        assert_eq!((outgoing.next_number(), transmit(&mut outgoing, now)), (3, vec![2, 3]));
        confirm(&mut outgoing, 2, now);
        outgoing.rewind_to(1);
        assert_eq!((outgoing.next_number(), transmit(&mut outgoing, now)), (3, vec![2, 3]));
        outgoing.rewind_to(100);
        assert_eq!(transmit(&mut outgoing, now), [0; 0]);
    }

    #[test]
    fn a_confirmation_of_what_was_taken_before_a_rewind_counts() {
        let (mut outgoing, now) = outgoing(4);
        transmit(&mut outgoing, now);
        outgoing.rewind();
        assert_eq!(confirm(&mut outgoing, 3, now), [0, 1, 2]);
        assert_eq!((outgoing.next_number(), transmit(&mut outgoing, now)), (4, vec![3]));
        assert_eq!(confirm(&mut outgoing, 3, now), [0; 0], "old");
        assert_eq!(confirm(&mut outgoing, 1000, now), [3], "what was never sent cannot have been taken");
        assert_eq!(outgoing.next_number(), 5);
    }

    #[test]
    fn silence_makes_it_transmit_again_ever_more_patiently() {
        let (mut outgoing, now) = outgoing(2);
        transmit(&mut outgoing, now);
        let mut waited = Vec::new();
        for _ in 0..6 {
            waited.push((outgoing.resend_at().unwrap() - now).as_millis());
            outgoing.resend();
            assert_eq!(transmit(&mut outgoing, now), [0, 1]);
        }
        assert_eq!(waited, [500, 1000, 2000, 4000, 4000, 4000]);
        confirm(&mut outgoing, 1, now);
        assert_eq!(outgoing.resend_at(), Some(now + RESEND_AFTER));
    }

    #[test]
    fn what_comes_is_taken_once_and_in_order() {
        let (mut incoming, now) = (Incoming::new(), Instant::now());
        assert_eq!(incoming.arrive(1, 0, now), Arriving::From(0));
        assert!(!incoming.is_unconfirmed());
        assert_eq!(incoming.arrive(1, 3, now), Arriving::From(0));
        assert_eq!((incoming.taken(), incoming.is_unconfirmed(), incoming.told()), (3, true, 0));
        assert_eq!(incoming.arrive(2, 4, now), Arriving::From(2));
        assert_eq!(incoming.taken(), 5);
        incoming.told();
        assert_eq!(incoming.arrive(1, 3, now), Arriving::From(3));
        assert_eq!((incoming.taken(), incoming.is_unconfirmed()), (5, true), "whoever says it again has not heard");
        assert_eq!(incoming.arrive(7, 1, now), Arriving::Gap);
        assert!(incoming.has_gap());
        assert_eq!((incoming.told(), incoming.told()), (6, 0), "once");
        assert_eq!(incoming.arrive(7, 0, now), Arriving::Gap, "also if nothing came");
        assert!(!incoming.has_gap(), "it is on its way");
        assert_eq!(incoming.arrive(8, 1, now + ASK_AGAIN), Arriving::Gap);
        assert_eq!(incoming.told(), 6);
    }
}
