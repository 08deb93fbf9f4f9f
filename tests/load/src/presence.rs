//! Presence, and those who see it: each user of a ring changes its presence in turn.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use starling_xml::OwnedElement;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};

use crate::{
    Failure,
    client::{Client, Event, Manner},
    friends::{self, Ring},
    process,
    tally::Tally,
    target::Target,
};

const CLIENT: &str = "jabber:client";
/// In which a change must have come to all contacts.
const LAST: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug)]
pub(crate) struct FanOut {
    pub(crate) tally: Tally,
    /// Per presence that was delivered, those that a user gets of itself included (RFC 6121 §4.4.2).
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
}

impl fmt::Display for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, cpu_us, per_second } = self;
        write!(f, "{cpu_us:.1} us CPU per delivered presence; {per_second:.0} deliveries/s; {tally}")
    }
}

/// The change that is under way.
struct Round {
    began: Mutex<Instant>,
    /// To how many contacts it has not come yet.
    left: AtomicUsize,
    done: Notify,
    /// What users got of themselves.
    echoes: AtomicU64,
}

/// One user who sees others. What it saw of each contact.
struct Viewer {
    client: Client,
    seen: HashMap<usize, Tally>,
    user: usize,
}

/// Changes presence again and again, for `duration`. The users are subscribed to each other first, where they are not.
pub(crate) async fn run(target: &Target, pid: u32, ring: Ring, duration: Duration) -> Result<FanOut, Failure> {
    friends::befriend(target, ring).await?;
    let manner = Manner { roster: true, presence: true, ..Manner::default() };
    let mut preparing = JoinSet::new();
    for (user, mut client) in friends::log_in(target, 0..ring.users, manner).await? {
        preparing.spawn(async move {
            friends::until_seen(&mut client, ring, user).await?;
            let seen = ring.of(user).map(|contact| (contact, Tally::default())).collect();
            Ok::<_, Failure>(Viewer { client, seen, user })
        });
    }
    let round = Arc::new(Round {
        began: Mutex::new(Instant::now()),
        left: AtomicUsize::new(0),
        done: Notify::new(),
        echoes: AtomicU64::new(0),
    });
    let mut turns: Vec<Option<mpsc::Sender<u64>>> = vec![None; ring.users];
    let mut viewing = JoinSet::new();
    while let Some(viewer) = preparing.join_next().await {
        let viewer = viewer??;
        let (turn, taken) = mpsc::channel(1);
        if let Some(place) = turns.get_mut(viewer.user) {
            *place = Some(turn);
        }
        viewing.spawn(viewer.view(Arc::clone(&round), taken));
    }
    let before = process::settled_cpu(pid).await?;
    let began = Instant::now();
    let changes = change(&turns, &round, ring, duration).await?;
    let took = began.elapsed();
    let cpu = process::settled_cpu(pid).await?.saturating_sub(before);
    // Without turns to come, viewers end.
    turns.clear();
    let (mut tally, mut clients) = (Tally::default(), Vec::new());
    while let Some(viewer) = viewing.join_next().await {
        let viewer = viewer??;
        for (contact, mut seen) in viewer.seen {
            seen.sent = changes.get(contact).copied().unwrap_or_default();
            tally.add(seen);
        }
        clients.push(viewer.client);
    }
    friends::close(clients).await?;
    let delivered = (tally.received + round.echoes.load(Ordering::Relaxed)).max(1) as f64;
    Ok(FanOut { cpu_us: cpu.as_secs_f64() * 1e6 / delivered, per_second: delivered / took.as_secs_f64(), tally })
}

/// One change after the other. How many each user made.
async fn change(
    turns: &[Option<mpsc::Sender<u64>>],
    round: &Round,
    ring: Ring,
    duration: Duration,
) -> Result<Vec<u64>, Failure> {
    let mut changes = vec![0; turns.len()];
    let end = Instant::now() + duration;
    loop {
        for (number, turn) in changes.iter_mut().zip(turns) {
            if Instant::now() >= end {
                return Ok(changes);
            }
            let turn = turn.as_ref().ok_or("a user without a session")?;
            *round.began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            round.left.store(ring.contacts, Ordering::Release);
            turn.send(*number).await?;
            *number += 1;
            if timeout(LAST, round.done.notified()).await.is_err() {
                // What did not come by now is lost, and counted so.
                return Ok(changes);
            }
        }
    }
}

impl Viewer {
    async fn view(mut self, round: Arc<Round>, mut turns: mpsc::Receiver<u64>) -> Result<Self, Failure> {
        const SHOWN: [&str; 4] = ["away", "chat", "dnd", "xa"];
        loop {
            tokio::select! {
                event = self.client.next() => match event? {
                    Event::Stanza(element) => self.see(&element, &round),
                    Event::Asked => self.client.answer().await?,
                    Event::Message { .. } | Event::Other => {}
                },
                turn = turns.recv() => {
                    let Some(number) = turn else { return Ok(self) };
                    let show = SHOWN.get(number as usize % SHOWN.len()).copied().unwrap_or_default();
                    self.client.write(format_args!(
                        "<presence><show>{show}</show><status>change {number}</status></presence>"
                    ));
                    self.client.flush().await?;
                }
            }
        }
    }

    fn see(&mut self, element: &OwnedElement, round: &Round) {
        let Some(from) = friends::available(element) else { return };
        let status = element.as_raw().child("status", CLIENT);
        let number = status.and_then(|status| status.text().strip_prefix("change ")?.parse().ok());
        // A contact's initial presence has no number.
        let Some(number) = number else { return };
        if from == self.user {
            round.echoes.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let latency = round.began.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let tally = self.seen.entry(from).or_default();
        if tally.receive(number, latency) && round.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            round.done.notify_one();
        }
    }
}
