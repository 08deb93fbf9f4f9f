//! What wakes the driver.

use std::{sync::atomic::AtomicUsize, task::Wake};

use futures_util::future::BoxFuture;
use prometheus::Registry;
use prost::bytes::Bytes;

use super::*;
use crate::{LocalLink, Metrics};

/// Of an instance that hears from nobody.
struct Deaf;

impl Handler for Deaf {
    fn answered(&self, _: &Arc<Envelope>) {}
    fn settled(&self, _: &Arc<Envelope>, _: Settled) {}
    fn failed(&self, _: &Arc<Envelope>) {}
    fn undelivered(&self, _: InstanceId, _: &Arc<Envelope>, _: Outcome) {}
    fn orphaned(&self, _: &Arc<Envelope>, _: bool) {}
    fn copied(&self, _: &Envelope) {}
    fn request(&self, _: InstanceId, _: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(async { None })
    }
    fn notified(&self, _: InstanceId, _: Bytes) {}
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Wakes {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::AcqRel)
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "it holds one command")]
async fn what_is_said_wakes_the_driver_also_when_it_has_just_written() {
    let shared = Shared {
        own: InstanceId(1),
        local: Arc::new(LocalLink::new()),
        waiting: papaya::HashMap::new(),
        requests: std::sync::Mutex::default(),
        absent: std::sync::Mutex::default(),
        horizon: std::sync::atomic::AtomicU64::new(0),
        members: tokio::sync::watch::Sender::new(Arc::default()),
        metrics: Metrics::new(&Registry::new()).unwrap(),
    };
    let (commands, received) = mpsc::unbounded_channel();
    let (_attacher, attached) = mpsc::channel(1);
    let mut driver = Driver::new(Parts {
        shared: Arc::new(shared),
        handler: Arc::new(Deaf),
        commands: received,
        sender: commands.downgrade(),
        attached,
        left: CancellationToken::new(),
        stop: CancellationToken::new(),
        attaching: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let wakes = Arc::new(Wakes::default());
    let waker = Arc::clone(&wakes).into();
    let mut cx = Context::from_waker(&waker);
    let mut run = |wakes: &Wakes| {
        // Until it waits for something to happen.
        while {
            assert!(driver.poll(&mut cx).is_pending());
            wakes.take() > 0
        } {}
    };
    run(&wakes);
    for number in 0..100 {
        commands.send(Command::Drain).unwrap();
        assert!(wakes.take() > 0, "command {number} is not heard");
        run(&wakes);
    }
}
