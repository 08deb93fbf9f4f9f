//! Clients that chat, connect and cut, while the server is killed or stopped every few seconds.

use std::{
    collections::HashMap,
    path::Path,
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
    random::Random,
    report::Outcome,
    rows,
    server::{Program, Server},
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

/// What is done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// `kill -9`, every so often.
    Kill(Duration),
    /// An orderly stop and a start, every so often.
    Stop(Duration),
    /// Nothing: clients cut their connections, that is all.
    None,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is tested.
    pub program: Program,
    /// What clients do.
    pub plan: Plan,
    /// For how long.
    pub length: Duration,
    /// What is done to the server meanwhile.
    pub blow: Blow,
    /// Whether the server keeps an archive.
    pub archive: bool,
}

/// A server and its clients.
pub struct Run {
    /// The server.
    pub server: Server,
    /// What the clients share.
    pub shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    users: JoinSet<()>,
    archive: bool,
}

impl Run {
    /// Starts the server in `folder`, which is there, makes accounts, and lets clients in.
    ///
    /// # Errors
    /// If that does not work.
    pub async fn start(program: Program, folder: &Path, plan: Plan, archive: bool) -> Result<Self, Failure> {
        let variables: &[(&str, &str)] = if archive { &[] } else { &[("STARLING_ARCHIVE_ENABLED", "false")] };
        let mut server = Server::new(program, folder, variables)?;
        server.make_users(plan.users).await?;
        server.start().await?;
        let at_rest = (0..plan.users).map(|_| AtomicBool::new(false)).collect();
        let count = plan.users;
        let shared = Arc::new(Shared { plan, journal: Journal::default(), address: server.address(), at_rest });
        shared.journal.note(None, Event::Started);
        let (phase, now) = watch::channel(Phase::Chat);
        let mut users = JoinSet::new();
        for number in 0..count {
            users.spawn(User::new(number, Arc::clone(&shared), now.clone()).run());
        }
        Ok(Self { server, shared, phase, users, archive })
    }

    /// Lets things go on for so long.
    ///
    /// # Errors
    /// If the server ends by itself.
    pub async fn go_on(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(LOOK)).await;
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        match self.server.ended()? {
            None => Ok(()),
            Some(status) => Err(format!("the server ended by itself: {status}\n{}", self.server.log()).into()),
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If the server was not there to be killed.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        self.shared.journal.note(None, Event::Killed);
        self.server.kill().await
    }

    /// Starts it again.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_again(&mut self) -> Result<(), Failure> {
        self.server.start().await?;
        self.shared.journal.note(None, Event::Started);
        Ok(())
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
        self.server.stop().await?;
        let plan = &self.shared.plan;
        let rows: Option<Rows> = match self.server.database() {
            Some(database) => Some(rows::read(&database, plan.users).await?),
            None => None,
        };
        for panic in self.server.panics() {
            self.shared.journal.note(None, Event::Trouble(panic));
        }
        let rules = Rules {
            users: plan.users,
            without_sm: (0..plan.users).filter(|user| plan.is_without_sm(*user)).collect(),
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
            self.check()?;
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
    fn progress(&self, seconds: u64) {
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

/// Does the whole run, in a folder of its own.
///
/// # Errors
/// If it could not be done; what was found is in the outcome.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::of(&[options.plan.seed, 11]);
    let mut run = Run::start(options.program, folder.path(), options.plan, options.archive).await?;
    let began = Instant::now();
    let end = began + options.length;
    let mut reported = began;
    while Instant::now() < end {
        let every = match options.blow {
            Blow::Kill(every) | Blow::Stop(every) => random.between(every.mul_f64(0.6), every.mul_f64(1.4)),
            Blow::None => Duration::from_secs(5),
        };
        let every = every.min(end.saturating_duration_since(Instant::now()));
        run.go_on(every).await?;
        if reported.elapsed() >= Duration::from_secs(5) {
            reported = Instant::now();
            run.progress(began.elapsed().as_secs());
        }
        match options.blow {
            Blow::Kill(_) => run.kill().await?,
            Blow::Stop(_) => {
                run.shared.journal.note(None, Event::Terminated);
                run.server.stop().await?;
            }
            Blow::None => continue,
        }
        // Away for a moment, mostly short.
        sleep(random.around(Duration::from_millis(300))).await;
        run.start_again().await?;
    }
    run.finish().await
}
