//! A connection: elements, in order, late, until it is cut. What is under way then is lost from some element on.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::facts::Shared;

/// Each end's side.
#[derive(Clone, Copy, Debug)]
enum Side {
    Client = 0,
    Server = 1,
}

#[derive(Default)]
struct Way {
    queue: VecDeque<(Instant, String)>,
    last: Option<Instant>,
    /// Nothing that is sent from now on arrives.
    cut: bool,
    /// When the reader learns that nothing comes any more.
    ends: Option<Instant>,
    reader: Option<Waker>,
}

/// One end of a connection. Dropped, it closes it: what it has sent still arrives.
pub(crate) struct End {
    ways: Arc<Mutex<[Way; 2]>>,
    side: Side,
    sleep: Pin<Box<Sleep>>,
    shared: Shared,
}

/// A new connection: the client's end and the server's.
pub(crate) fn connection(shared: &Shared) -> (End, End) {
    let ways = Arc::<Mutex<[Way; 2]>>::default();
    let end = |side| End {
        ways: Arc::clone(&ways),
        side,
        sleep: Box::pin(sleep_until(Instant::now())),
        shared: shared.clone(),
    };
    (end(Side::Client), end(Side::Server))
}

fn lock(ways: &Mutex<[Way; 2]>) -> MutexGuard<'_, [Way; 2]> {
    ways.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    fn end(&mut self, at: Instant) {
        self.cut = true;
        self.ends = Some(self.ends.map_or(at, |ends| ends.min(at)));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl End {
    /// Sends one element to the other end.
    pub(crate) fn send(&self, element: String) {
        let latency = self.shared.some_ms(40);
        let mut ways = lock(&self.ways);
        let way = &mut ways[1 - self.side as usize];
        if way.cut {
            return;
        }
        let at = (Instant::now() + latency).max(way.last.unwrap_or_else(Instant::now));
        way.last = Some(at);
        way.queue.push_back((at, element));
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
    }

    /// The next element. `None`: the connection is gone.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let mut ways = lock(&self.ways);
        let way = &mut ways[self.side as usize];
        let now = Instant::now();
        let next = way.queue.front().map(|(at, _)| *at);
        if next.is_some_and(|at| at <= now) {
            return Poll::Ready(way.queue.pop_front().map(|(_, element)| element));
        }
        if next.is_none() && way.ends.is_some_and(|ends| ends <= now) {
            return Poll::Ready(None);
        }
        way.reader = Some(cx.waker().clone());
        if let Some(at) = next.or(way.ends) {
            self.sleep.as_mut().reset(at);
            if self.sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// The network fails: from somewhere on, what is under way is lost. The client learns of it soon, the server perhaps
    /// much later.
    pub(crate) fn cut(&self) {
        let mut ways = lock(&self.ways);
        for (way, most) in ways.iter_mut().zip([300, 4000]) {
            let arrives = self.shared.dice().below(way.queue.len() as u64 + 1) as usize;
            if !way.cut {
                way.queue.truncate(arrives);
            }
            way.end(Instant::now() + self.shared.some_ms(most) + Duration::from_millis(1));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut ways = lock(&self.ways);
        let last = ways[1 - self.side as usize].last.unwrap_or_else(Instant::now);
        ways[1 - self.side as usize].end(last.max(Instant::now()));
        // Nobody reads this side any more.
        ways[self.side as usize].cut = true;
    }
}
