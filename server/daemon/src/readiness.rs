//! Whether this server wants traffic: the process's own word, for `/readyz` and the admin socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not every listener is bound yet.
    Starting,
    /// Serving.
    Ready,
    /// Stopping: sessions are being closed, and no new ones are taken.
    Draining,
}

impl State {
    /// One word, for probes and people.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The state, shared; starts as [`State::Starting`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Says how far the server is from now on.
    pub(crate) fn set(&self, state: State) {
        let code = match state {
            State::Starting => 0,
            State::Ready => 1,
            State::Draining => 2,
        };
        self.0.store(code, Ordering::Release);
    }

    /// How far the server is.
    #[must_use]
    pub(crate) fn get(&self) -> State {
        match self.0.load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_comes_back_as_it_was_set() {
        let readiness = Readiness::default();
        assert_eq!(readiness.get(), State::Starting);
        for state in [State::Ready, State::Draining, State::Starting] {
            readiness.set(state);
            assert_eq!(readiness.clone().get(), state);
        }
    }
}
