//! One life: accounts, their clients, and processes that follow one another.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use starling_xmpp::jid::BareJid;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    client::{Client, Habits},
    facts::Shared,
    process::{Config, Process},
    store::Disk,
    wire::End,
};

/// Where clients connect to: the process that runs, if one does.
pub(crate) struct Host {
    process: Mutex<Option<Arc<Process>>>,
}

impl Host {
    /// `false`: nobody listens.
    pub(crate) fn accept(&self, account: BareJid, end: End) -> bool {
        match &*self.process.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(process) => {
                process.accept(account, end);
                true
            }
            None => false,
        }
    }

    fn set(&self, process: Option<Arc<Process>>) -> Option<Arc<Process>> {
        std::mem::replace(&mut self.process.lock().unwrap_or_else(PoisonError::into_inner), process)
    }

    fn get(&self) -> Option<Arc<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn live(seed: u64, trace: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(life(seed, trace));
}

async fn life(seed: u64, trace: bool) {
    let shared = Shared::new(seed, trace);
    let (config, habits, resources, kills) = circumstances(&shared);
    let disk = Arc::<Mutex<Disk>>::default();
    let host = Arc::new(Host { process: Mutex::new(Some(Process::start(0, config, &disk, &shared).await)) });
    let mut clients = Vec::new();
    for account in 0..habits.accounts {
        for resource in 0..resources {
            let client = Client::new(Arc::clone(&host), shared.clone(), habits, account, resource);
            clients.push(tokio::spawn(client.run()));
        }
    }
    let fate = tokio::spawn(fate(kills, config, habits, Arc::clone(&disk), Arc::clone(&host), shared.clone()));
    for task in clients.into_iter().chain([fate]) {
        if let Err(error) = task.await {
            resume_unwind(error.into_panic());
        }
    }
    let process = host.set(None).expect("a process runs at the end");
    timeout(Duration::from_secs(60), process.stop()).await.expect("the process ends when everybody has gone");
    let unsettled = disk.lock().unwrap_or_else(PoisonError::into_inner).unsettled();
    shared.say(|| format!("{:?}", shared.facts().counts()));
    assert_eq!(unsettled, 0, "rows that nobody got, though somebody is there");
    shared.facts().check(habits.managed == 100);
}

/// What kind of life it is.
fn circumstances(shared: &Shared) -> (Config, Habits, usize, u64) {
    let mut dice = shared.dice();
    let resources = if dice.chance(60) { 1 } else { 2 };
    let full = resources > 1;
    let config = Config {
        archive: dice.chance(50),
        queue: if dice.chance(30) { 1 + dice.below(8) as usize } else { 1000 },
        resume_seconds: if dice.chance(50) { 2 } else { 20 },
        slowness: if dice.chance(70) { 10 } else { 400 },
    };
    let now = Instant::now();
    let until = now + Duration::from_secs(2 + dice.below(6));
    let habits = Habits {
        accounts: 2 + dice.below(2) as usize,
        managed: if dice.chance(70) { 100 } else { 60 },
        full,
        cuts: dice.below(8),
        log_outs: dice.below(6),
        leisure: 20 + dice.below(400),
        until,
        end: until + Duration::from_secs(30),
    };
    let kills = if dice.chance(50) { 0 } else { 1 + dice.below(3) };
    drop(dice);
    shared.facts().ordered = resources == 1;
    (config, habits, resources, kills)
}

/// What happens to the server.
async fn fate(kills: u64, config: Config, habits: Habits, disk: Arc<Mutex<Disk>>, host: Arc<Host>, shared: Shared) {
    let mut life = 0;
    let begin = Instant::now();
    let span = (habits.until - begin).as_millis() as u64;
    let mut times: Vec<_> = (0..kills).map(|_| (shared.dice().below(span), true)).collect();
    // The database is away for a while in some lives.
    if shared.chance(30) {
        times.push((shared.dice().below(span), false));
    }
    times.sort_unstable();
    for (at, kill) in times {
        sleep_until(begin + Duration::from_millis(at)).await;
        if kill {
            shared.say(|| "kill".to_owned());
            shared.facts().kills += 1;
            if let Some(process) = host.set(None) {
                process.kill().await;
            }
            sleep(shared.some_ms(1000)).await;
            life += 1;
            host.set(Some(Process::start(life, config, &disk, &shared).await));
        } else if let Some(process) = host.get() {
            shared.say(|| "the database is away".to_owned());
            process.store.set_away(true);
            // Now and then for longer than the journal tries.
            let long = if shared.chance(40) { 5000 } else { 0 };
            sleep(Duration::from_millis(long) + shared.some_ms(4000)).await;
            process.store.set_away(false);
            shared.say(|| "the database is back".to_owned());
        }
    }
}
