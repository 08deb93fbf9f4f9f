//! What was sent to the client and not acknowledged yet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{StreamCondition, StreamError};

/// How many stanzas go out before the client is asked.
pub const ASK_AFTER_STANZAS: u32 = 16;

/// How many bytes of stanzas go out before the client is asked.
pub const ASK_AFTER_BYTES: usize = 16 * 1024;

/// How long after a stanza went out the client is asked, if nothing else asked before.
pub const ASK_AFTER: Duration = Duration::from_secs(1);

/// The memory of a queue that had more room than this is given back when it gets empty.
const KEPT_CAPACITY: usize = 32;

/// What was sent to the client and not acknowledged yet (XEP-0198 §4), and when to ask for an acknowledgement.
///
/// One `<r/>` is outstanding at a time, and another goes out only when [`ASK_AFTER_STANZAS`] more stanzas were sent.
/// It has no bound of its own: whoever sends looks at [`Outbound::len`] and [`Outbound::bytes`] before.
#[derive(Clone, Debug)]
pub struct Outbound<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// How many were acknowledged, ever.
    acknowledged: u64,
    /// How many of the last ones went out after the last `<r/>`, and how many bytes they have.
    unasked: usize,
    unasked_bytes: usize,
    /// Since when something waits to be asked for; known at the first [`Outbound::should_ask`].
    waiting_since: Option<Instant>,
    /// One of the unasked ones is urgent.
    urgent: bool,
    /// An `<r/>` is out.
    asked: bool,
}

/// Whether the client is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Write `<r/>` behind what was sent. It counts as written.
    Now,
    /// Not before something is sent or acknowledged or, if there is one, this time has come.
    Wait(Option<Instant>),
}

/// The client acknowledges more than it was sent (XEP-0198 §4): the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{h} stanzas acknowledged, {sent} sent")]
pub struct TooHigh {
    /// What the client says it has handled.
    pub h: u32,
    /// What it was sent, modulo 2^32.
    pub sent: u32,
}

impl From<TooHigh> for StreamError {
    /// The defined condition and a text. The application-specific one is only in
    /// [`nonza::write_handled_count_too_high`](super::nonza::write_handled_count_too_high).
    fn from(error: TooHigh) -> Self {
        Self::with_text(StreamCondition::UndefinedCondition, error.to_string())
    }
}

impl<T> Default for Outbound<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Outbound<T> {
    /// As it is when the server writes `<enabled/>`: nothing sent, no memory taken.
    #[must_use]
    pub const fn new() -> Self {
        Self::resume_at(0)
    }

    /// For a session whose owner died: the client says that it has handled `h`, and what it misses is sent next.
    #[must_use]
    pub const fn resume_at(h: u32) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            acknowledged: h as u64,
            unasked: 0,
            unasked_bytes: 0,
            waiting_since: None,
            urgent: false,
            asked: false,
        }
    }

    /// Counts one stanza of this many bytes and keeps `item` until it is acknowledged.
    pub fn sent(&mut self, item: T, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        self.unasked += 1;
        self.unasked_bytes += bytes;
    }

    /// `<a h/>` or the `h` of `<resume/>` came: gives all that it covers to `done`, oldest first. An `h` below an earlier
    /// one changes nothing.
    ///
    /// # Errors
    /// More is acknowledged than was sent; nothing is changed.
    pub fn acknowledge(&mut self, h: u32, mut done: impl FnMut(T)) -> Result<(), TooHigh> {
        let low = self.acknowledged_count();
        let more = h.wrapping_sub(low) as usize;
        if more > self.items.len() {
            // Behind the last one by less than half the circle, and not before the beginning of the session.
            let behind = low.wrapping_sub(h);
            let is_old = behind <= u32::MAX / 2 && u64::from(behind) <= self.acknowledged;
            return if is_old { Ok(()) } else { Err(TooHigh { h, sent: self.sent_count() }) };
        }
        self.asked = false;
        self.acknowledged += more as u64;
        for _ in 0..more {
            let is_unasked = self.unasked == self.items.len();
            let Some((item, bytes)) = self.items.pop_front() else { break };
            self.bytes -= bytes;
            if is_unasked {
                self.unasked -= 1;
                self.unasked_bytes -= bytes;
            }
            done(item);
        }
        if self.items.is_empty() {
            self.settle();
        }
        Ok(())
    }

    /// What is not acknowledged, oldest first: what goes out again after a resumption.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(item, _)| item)
    }

    /// Takes all that is not acknowledged, oldest first: the session is over.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let items = std::mem::take(&mut self.items);
        self.acknowledged += items.len() as u64;
        self.settle();
        items.into_iter().map(|(item, _)| item)
    }

    /// How many stanzas are not acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether all is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many bytes the stanzas have that are not acknowledged.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many stanzas were sent, modulo 2^32.
    #[must_use]
    pub fn sent_count(&self) -> u32 {
        self.acknowledged_count().wrapping_add(self.items.len() as u32)
    }

    /// The highest `h` that came, modulo 2^32.
    #[must_use]
    pub const fn acknowledged_count(&self) -> u32 {
        self.acknowledged as u32
    }

    /// Says that what was [`sent`](Outbound::sent) has been written, and whether one of it is urgent: its
    /// acknowledgement is asked for at once, with the same write.
    pub fn wrote(&mut self, urgent: bool, now: Instant) {
        if self.items.is_empty() {
            return;
        }
        self.urgent |= urgent;
        self.waiting_since.get_or_insert(now);
    }

    /// Whether to ask the client now. To be called after [`Outbound::wrote`] and after `<a/>`.
    ///
    /// An answer that leaves out what was asked for is asked again after [`ASK_AFTER`], so that a client that does not
    /// get on is not asked in a circle.
    pub fn should_ask(&mut self, now: Instant) -> Ask {
        if self.items.is_empty() {
            return Ask::Wait(None);
        }
        let many = self.unasked >= ASK_AFTER_STANZAS as usize;
        if self.asked && !many {
            return Ask::Wait(None);
        }
        let due = *self.waiting_since.get_or_insert(now) + ASK_AFTER;
        if many || self.urgent || self.unasked_bytes >= ASK_AFTER_BYTES || now >= due {
            self.asked = true;
            self.unasked = 0;
            self.unasked_bytes = 0;
            self.waiting_since = None;
            self.urgent = false;
            return Ask::Now;
        }
        Ask::Wait(Some(due))
    }

    /// The stream is resumed, the client's `h` was [acknowledged](Outbound::acknowledge) and the rest is written again:
    /// an `<r/>` of the old stream has no answer any more, and the rest is asked for at once.
    pub fn resumed(&mut self) {
        self.asked = false;
        self.unasked = self.items.len();
        self.unasked_bytes = self.bytes;
        self.waiting_since = None;
        self.urgent = !self.items.is_empty();
    }

    /// Nothing is left: nothing to ask for, and no memory to hold on to after a peak.
    fn settle(&mut self) {
        self.bytes = 0;
        self.unasked = 0;
        self.unasked_bytes = 0;
        self.waiting_since = None;
        self.urgent = false;
        if self.items.capacity() > KEPT_CAPACITY {
            self.items = VecDeque::new();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.items.capacity()
    }
}
