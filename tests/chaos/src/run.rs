//! Clients that chat with what is tested, until all come to rest and it is judged.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Failure,
    journal::{Event, Journal, Message},
    plan::Plan,
    report::Outcome,
    user::{Phase, Shared, User},
    verdict::{Rows, Rules, Verdict},
};

/// How long an acknowledgement of a client may be on its way to the server and into its files.
pub const GRACE: Duration = Duration::from_secs(1);
/// Nothing moves for that long: then it never will.
const QUIET: Duration = Duration::from_secs(2);
/// All must be quiet after that.
const SETTLED: Duration = Duration::from_secs(90);
/// For all to log out.
const FINISHED: Duration = Duration::from_secs(60);
/// How often it is looked whether anything moves, and whether the server is alive.
const LOOK: Duration = Duration::from_millis(100);

/// What is tested, one process or many.
pub trait Site {
    /// Where clients connect to. A client goes to any of them, as a load balancer would have it.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// Makes the accounts `user0`, `user1`, … with the passwords `password0`, `password1`, …; they are there when all has
    /// started.
    fn make_users(&mut self, count: u32) -> impl Future<Output = Result<(), Failure>>;

    /// Whether all that was not killed is still there.
    ///
    /// # Errors
    /// What has ended by itself.
    fn check(&mut self) -> Result<(), Failure>;

    /// Stops all in order, and says what the rows of the recipients are, if they can be read.
    fn end(&mut self, users: u32) -> impl Future<Output = Result<Option<Rows>, Failure>>;

    /// Panics in logs.
    fn panics(&self) -> Vec<String>;

    /// The last lines of the logs.
    fn log(&self) -> String;
}

/// What is tested, and its clients.
pub struct Run<S> {
    /// What is tested.
    pub server: S,
    /// What the clients share.
    pub shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    users: JoinSet<()>,
    archive: bool,
    /// Whether every session can be resumed whenever its client comes back, unless that has asked for less.
    pub resumes: bool,
}

impl<S: Site> Run<S> {
    /// Makes accounts, and lets clients in, once the server is there.
    ///
    /// # Errors
    /// If that does not work.
    pub async fn start(mut server: S, plan: Plan, archive: bool) -> Result<Self, Failure> {
        server.make_users(plan.users).await?;
        let at_rest = (0..plan.users).map(|_| AtomicBool::new(false)).collect();
        let count = plan.users;
        let shared = Arc::new(Shared { plan, journal: Journal::default(), addresses: server.addresses(), at_rest });
        shared.journal.note(None, Event::Started);
        let (phase, now) = watch::channel(Phase::Chat);
        let mut users = JoinSet::new();
        for number in 0..count {
            users.spawn(User::new(number, Arc::clone(&shared), now.clone()).run());
        }
        Ok(Self { server, shared, phase, users, archive, resumes: false })
    }

    /// Lets things go on for so long.
    ///
    /// # Errors
    /// If the server ends by itself.
    pub async fn go_on(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        loop {
            self.server.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(LOOK)).await;
        }
    }

    /// Lets all come to rest and log out, stops the server, and judges.
    ///
    /// # Errors
    /// If the server does not let itself be stopped, or its rows cannot be read.
    pub async fn finish(mut self) -> Result<Outcome, Failure> {
        self.phase.send_replace(Phase::Settle);
        self.settle().await?;
        self.phase.send_replace(Phase::Finish);
        let gone = timeout(FINISHED, async { while self.users.join_next().await.is_some() {} });
        // Whoever is left is stuck: the verdict finds that its journal has no end.
        if gone.await.is_err() {
            self.users.shutdown().await;
        }
        let plan = &self.shared.plan;
        let rows = self.server.end(plan.users).await?;
        for panic in self.server.panics() {
            self.shared.journal.note(None, Event::Trouble(panic));
        }
        let rules = Rules {
            users: plan.users,
            without_sm: (0..plan.users).filter(|user| plan.is_without_sm(*user)).collect(),
            resume: (0..plan.users).filter(|user| self.resumes && plan.may_stay_away(*user)).collect(),
            archive: self.archive,
            grace: GRACE,
        };
        let entries = self.shared.journal.entries();
        let verdict = Verdict::new(&entries, rows.as_ref(), &rules);
        Ok(Outcome { verdict, entries, rows, log: self.server.log() })
    }

    /// Until all clients are at rest, and nothing has moved for a while; or for the longest time.
    async fn settle(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + SETTLED;
        let (mut seen, mut moved) = (0, Instant::now());
        while Instant::now() < end {
            self.server.check()?;
            let moves =
                self.shared.journal.look(seen, |new| (new.len(), new.iter().any(|entry| is_move(&entry.event))));
            seen += moves.0;
            let at_rest = self.shared.at_rest.iter().all(|at_rest| at_rest.load(Ordering::Relaxed));
            if moves.1 || !at_rest {
                moved = Instant::now();
            }
            if moved.elapsed() >= QUIET {
                break;
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Figures of a moment, for whoever watches.
    pub(crate) fn progress(&self, seconds: u64) {
        let mut last: HashMap<u32, Message> = HashMap::new();
        let (sent, received) = self.shared.journal.look(0, |entries| {
            let mut counts = (0_u64, 0_u64);
            for entry in entries {
                match &entry.event {
                    Event::Sent { message, copy: 0, .. } => {
                        counts.0 += 1;
                        last.insert(message.from, *message);
                    }
                    Event::Received { .. } => counts.1 += 1,
                    _ => {}
                }
            }
            counts
        });
        eprintln!("  {seconds:>5} s: {sent} messages sent by {} users, {received} received", last.len());
    }
}

/// Whether this is something that comes to an end.
const fn is_move(event: &Event) -> bool {
    matches!(
        event,
        Event::Sent { .. }
            | Event::Replayed { .. }
            | Event::Received { .. }
            | Event::Returned { .. }
            | Event::Bound { .. }
            | Event::Resumed { .. }
    )
}
