//! When the driver lets sessions go on for a moment before it writes what they have said.
//!
//! Where many are talking, what the others say just now goes out in the same frame, and that makes it cheaper for everybody on
//! its way. Where few are, nothing comes, and the wait costs the wake-up of a thread. So it is done while it pays, and tried
//! now and then while it does not.

/// Waits, or not.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// It is on: whatever has come when the driver runs next is what it has brought.
    is_waiting: bool,
    /// So many waits may bring nothing before there are no more of them.
    trust: u8,
    /// Frames that were written at once since it was tried last.
    at_once: u8,
}

impl Gathering {
    const TRUST: u8 = 4;
    const TRY_EVERY: u8 = 16;

    /// Sessions have said something. Whether to wait for more.
    pub(crate) fn begins(&mut self) -> bool {
        if self.is_waiting {
            return false;
        }
        self.is_waiting = self.trust > 0 || self.at_once >= Self::TRY_EVERY;
        self.is_waiting
    }

    /// What there is is being written, with `came` commands since the driver ran last.
    pub(crate) fn ends(&mut self, came: usize) {
        if std::mem::take(&mut self.is_waiting) {
            self.at_once = 0;
            self.trust = if came > 0 { Self::TRUST } else { self.trust.saturating_sub(1) };
        } else if came > 0 {
            self.at_once = self.at_once.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many messages are waited for, if each wait brings `more`.
    fn waits(gathering: &mut Gathering, messages: usize, more: usize) -> usize {
        (0..messages)
            .filter(|_| {
                let waits = gathering.begins();
                assert!(!waits || !gathering.begins(), "it waits once");
                gathering.ends(if waits { more } else { 1 });
                waits
            })
            .count()
    }

    #[test]
    fn it_waits_while_that_brings_something_and_tries_seldom_while_it_does_not() {
        let mut gathering = Gathering::default();
        let every = usize::from(Gathering::TRY_EVERY) + 1;
        assert_eq!(waits(&mut gathering, 10 * every, 0), 10);
        assert_eq!(waits(&mut gathering, every + 100, 3), 101);
        let trust = usize::from(Gathering::TRUST);
        assert_eq!(waits(&mut gathering, trust + 10 * every, 0), trust + 10);
    }
}
