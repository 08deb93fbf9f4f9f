//! The one timer of a connection.

use std::{
    future::Future,
    pin::Pin,
    task::Context,
    time::{Duration, Instant},
};

use tokio::time::Sleep;

/// How long a store that failed is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Wakes the connection when something is due. There is none while nothing is.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    retry_at: Option<Instant>,
}

impl Timer {
    /// Wakes at `until` at the latest. A timer that is armed for an earlier time is left: a wake-up too many costs less
    /// than arming it anew with each message.
    pub(crate) fn arm(&mut self, until: Option<Instant>, cx: &mut Context<'_>) {
        let until = [until, self.retry_at].into_iter().flatten().min();
        let Some(until) = until else { return };
        let until = tokio::time::Instant::from_std(until);
        match &mut self.sleep {
            Some(sleep) => {
                if sleep.is_elapsed() || sleep.deadline() > until {
                    sleep.as_mut().reset(until);
                }
            }
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(until))),
        }
        if let Some(sleep) = &mut self.sleep
            && sleep.as_mut().poll(cx).is_ready()
        {
            // It is due already: whoever armed it is asked once more.
            cx.waker().wake_by_ref();
        }
    }

    /// The store has failed.
    pub(crate) fn retry_later(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY);
    }

    /// Whether the store may be asked; if not, the connection is woken when it may.
    pub(crate) fn may_retry(&mut self, cx: &mut Context<'_>) -> bool {
        match self.retry_at {
            None => true,
            Some(at) if at <= Instant::now() => {
                self.retry_at = None;
                true
            }
            Some(at) => {
                self.arm(Some(at), cx);
                false
            }
        }
    }
}
