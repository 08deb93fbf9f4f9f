//! Log-ins, and sessions that do nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    Failure,
    client::{Client, Event, Manner, RESOURCE},
    friends::{self, Ring},
    process,
    target::{Target, relay_log_in},
};

/// Sessions that are there before memory is looked at.
const WARM: usize = 16;

/// What log-ins cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogIns {
    pub(crate) cpu_ms: f64,
    pub(crate) per_second: f64,
}

impl fmt::Display for LogIns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} ms CPU per log-in, {:.0} log-ins per CPU second; {:.0} log-ins/s",
            self.cpu_ms,
            1e3 / self.cpu_ms,
            self.per_second
        )
    }
}

/// What idle sessions cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    pub(crate) kib: f64,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} KiB PSS per idle session", self.kib)
    }
}

/// Logs in and out `count` times, as different users.
pub(crate) async fn log_in(target: &Target, pid: u32, count: usize, at_once: usize) -> Result<LogIns, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let (before, began) = (process::settled_cpu(pid).await?, Instant::now());
    let mut working = JoinSet::new();
    for _ in 0..at_once.max(1) {
        let (next, target) = (Arc::clone(&next), target.clone());
        working.spawn(async move {
            loop {
                let user = next.fetch_add(1, Ordering::Relaxed);
                if user >= count {
                    return Ok::<_, Failure>(());
                }
                match &target {
                    Target::Xmpp { .. } => target.connect(user, RESOURCE, user).await?.close().await?,
                    Target::Relay { address, tls } => relay_log_in(*address, *tls).await?,
                }
            }
        });
    }
    while let Some(done) = working.join_next().await {
        done??;
    }
    log_ins(pid, before, began, count).await
}

/// Logs in and out `count` times, as users whose contacts are all online: with the roster, initial presence, and the
/// presence of each contact, who see it come and go.
pub(crate) async fn log_in_among_friends(
    target: &Target,
    pid: u32,
    count: usize,
    at_once: usize,
    ring: Ring,
) -> Result<LogIns, Failure> {
    friends::befriend(target, ring).await?;
    let manner = Manner { roster: true, presence: true, ..Manner::default() };
    let coming: Vec<usize> = ring.strangers().take(at_once.max(1)).collect();
    let staying = (0..ring.users).filter(|user| !coming.contains(user));
    let staying = Reading::new(friends::log_in(target, staying, manner).await?);
    let next = Arc::new(AtomicUsize::new(0));
    let (before, began) = (process::settled_cpu(pid).await?, Instant::now());
    let mut working = JoinSet::new();
    for user in coming {
        let (next, target) = (Arc::clone(&next), target.clone());
        working.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let mut client = Client::log_in(&target, user, RESOURCE, user, manner).await?;
                friends::until_seen(&mut client, ring, user).await?;
                client.close().await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = working.join_next().await {
        done??;
    }
    let log_ins = log_ins(pid, before, began, count).await?;
    friends::close(staying.end().await?).await?;
    Ok(log_ins)
}

async fn log_ins(pid: u32, before: Duration, began: Instant, count: usize) -> Result<LogIns, Failure> {
    let took = began.elapsed();
    let cpu = process::settled_cpu(pid).await?.saturating_sub(before);
    Ok(LogIns { cpu_ms: cpu.as_secs_f64() * 1e3 / count as f64, per_second: count as f64 / took.as_secs_f64() })
}

/// Sessions that only read, and answer `<r/>`.
pub(crate) struct Reading {
    tasks: JoinSet<Result<Client, Failure>>,
    stop: Vec<oneshot::Sender<()>>,
}

impl Reading {
    pub(crate) fn new(clients: Vec<(usize, Client)>) -> Self {
        let mut reading = Self { tasks: JoinSet::new(), stop: Vec::with_capacity(clients.len()) };
        for (_, mut client) in clients {
            let (stop, mut stopped) = oneshot::channel();
            reading.stop.push(stop);
            reading.tasks.spawn(async move {
                loop {
                    tokio::select! {
                        event = client.next() => if let Event::Asked = event? { client.answer().await? },
                        _ = &mut stopped => return Ok(client),
                    }
                }
            });
        }
        reading
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.stop.len()
    }

    /// The sessions, which are not read any more.
    ///
    /// # Errors
    /// One of them has ended meanwhile.
    pub(crate) async fn end(mut self) -> Result<Vec<Client>, Failure> {
        self.stop.clear();
        let mut clients = Vec::new();
        while let Some(client) = self.tasks.join_next().await {
            clients.push(client??);
        }
        Ok(clients)
    }
}

/// Holds `count` sessions and looks at the server's memory before and after. With a ring, which must be of so many users
/// who are subscribed already, each sees its contacts.
pub(crate) async fn idle(
    target: &Target,
    pid: u32,
    count: usize,
    manner: Manner,
    ring: Option<Ring>,
) -> Result<Idle, Failure> {
    // What the first log-ins make the server allocate once is no session's.
    let warm = friends::log_in(target, count..count + WARM, manner).await?;
    let before = process::pss_kib(pid)?;
    let mut sessions = friends::log_in(target, 0..count, manner).await?;
    if let Some(ring) = ring {
        for (user, client) in &mut sessions {
            friends::until_seen(client, ring, *user).await?;
        }
    }
    let kib = (process::pss_kib(pid)? - before) / count as f64;
    drop(warm);
    Ok(Idle { kib })
}
