//! Two routers and three instances under fire: each is killed, stopped and paused while clients chat, and so are Redis and
//! PostgreSQL. Clients come to any instance, and resume where they come to.
//!
//! | blow | what it is |
//! |---|---|
//! | kill | an instance, `kill -9`; started again after up to eight seconds, before or after others take it for dead |
//! | term | an instance is stopped in order, and started again |
//! | pause | an instance is stopped for seven to nine seconds (SIGSTOP), and goes on: it was taken for dead meanwhile |
//! | router | one router, `kill -9` |
//! | routers | both |
//! | redis | `kill -9`; what it knew it knows again |
//! | empty | `kill -9`; it has forgotten everything |
//! | failover | of Sentinel or Cluster, a primary is killed, once |
//! | postgres | `kill -9` |

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, time::Duration};

use clap::ValueEnum;
use starling_cluster::{Cluster, Layout, RedisMode};
use starling_store::{Instances as _, Migrate, PgConfig, PgStore, Store as _};
use tokio::time::Instant;

use crate::{
    Failure,
    journal::{Event, Journal},
    plan::Plan,
    random::Random,
    report::Outcome,
    rows,
    run::{Run, Site},
    verdict::Rows,
    wire::DOMAIN,
};

/// Lines of each log that are shown when something went wrong.
const TAIL: usize = 30;

/// What is done to the cluster. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the table at the top says what they are")]
pub enum Blow {
    Kill,
    Term,
    Pause,
    Router,
    Routers,
    Redis,
    Empty,
    Failover,
    Postgres,
}

impl Blow {
    /// Whether Redis may not know any more which streams there were.
    const fn loses_streams(self) -> bool {
        matches!(self, Self::Redis | Self::Empty | Self::Failover)
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What clients do.
    pub plan: Plan,
    /// For how long.
    pub length: Duration,
    /// What is done meanwhile, in an order that the seed chooses.
    pub blows: Vec<Blow>,
    /// From one blow to the next.
    pub every: Duration,
    /// How Redis is run.
    pub redis: RedisMode,
    /// Where settings, logs and data are, and stay.
    pub folder: Option<PathBuf>,
    /// What instances log.
    pub log: Option<String>,
    /// Whether the servers keep an archive.
    pub archive: bool,
}

struct Under {
    cluster: Cluster,
    /// What is not to be there at the moment.
    down: HashSet<String>,
}

impl Site for Under {
    fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.cluster.instances()).map(|instance| self.cluster.starttls(instance)).collect()
    }

    async fn make_users(&mut self, count: u32) -> Result<(), Failure> {
        let users: Vec<_> =
            (0..count).map(|user| (format!("user{user}@{DOMAIN}"), format!("password{user}"))).collect();
        Ok(self.cluster.add_users(&users).await?)
    }

    fn check(&mut self) -> Result<(), Failure> {
        for name in self.cluster.names() {
            let name = name.to_string();
            if !self.down.contains(&name) && !self.cluster.is_running(&name)? {
                return Err(format!("{name} ended by itself\n{}", self.log()).into());
            }
        }
        Ok(())
    }

    async fn end(&mut self, users: u32) -> Result<Option<Rows>, Failure> {
        for instance in 0..self.cluster.instances() {
            self.cluster.term(&format!("c2s-{instance}")).await?;
        }
        let (url, password) = self.cluster.database();
        let config = PgConfig {
            url,
            password_file: Some(password.to_owned()),
            ca: None,
            connections: 4,
            instance: 1,
            migrate: Migrate::Wait,
        };
        let store = PgStore::open(&config).await?;
        let rows = rows::read(&store, users).await;
        store.retire().await?;
        store.close().await;
        Ok(Some(rows?))
    }

    fn panics(&self) -> Vec<String> {
        let logs = self.logs().into_iter();
        logs.flat_map(|(name, text)| {
            let panics = text.lines().filter(|line| line.contains("panicked at"));
            panics.map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
        })
        .collect()
    }

    fn log(&self) -> String {
        let mut out = String::new();
        for (name, text) in self.logs() {
            let lines: Vec<_> = text.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
                out.push_str(&format!("{name}: {line}\n"));
            }
        }
        out
    }
}

impl Under {
    /// Those of our own processes. What cannot be read is empty.
    fn logs(&self) -> Vec<(String, String)> {
        let names = self.cluster.names().into_iter().map(|name| name.to_string());
        let ours = names.filter(|name| name.contains('-'));
        ours.map(|name| {
            let file: PathBuf = self.cluster.folder().join(&name).join("log");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            (name, text)
        })
        .collect()
    }

    async fn kill(&mut self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            self.down.insert(name.clone());
            self.cluster.kill9(name).await?;
        }
        Ok(())
    }

    async fn start(&mut self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            self.cluster.start(name).await?;
            self.down.remove(name);
        }
        Ok(())
    }
}

fn say(journal: &Journal, what: String) {
    journal.note(None, Event::Blow(what));
}

impl Run<Under> {
    async fn blow(&mut self, blow: Blow, random: &mut Random) -> Result<(), Failure> {
        let instances = u32::try_from(self.server.cluster.instances())?;
        let instance = format!("c2s-{}", random.below(instances));
        let router = format!("router-{}", random.below(2));
        let journal = &self.shared.clone().journal;
        say(journal, format!("{blow:?}: {instance}, {router}").to_lowercase());
        let mut away = async |run: &mut Self, least: f64, most: f64| {
            let away = random.between(Duration::from_secs_f64(least), Duration::from_secs_f64(most));
            run.go_on(away).await
        };
        match blow {
            Blow::Kill => {
                journal.note(None, Event::Killed);
                self.server.kill(std::slice::from_ref(&instance)).await?;
                away(self, 0.2, 8.0).await?;
                self.server.start(&[instance]).await?;
            }
            Blow::Term => {
                journal.note(None, Event::Terminated);
                self.server.down.insert(instance.clone());
                self.server.cluster.term(&instance).await?;
                away(self, 0.1, 2.0).await?;
                self.server.start(&[instance]).await?;
            }
            Blow::Pause => {
                journal.note(None, Event::Killed);
                journal.note(None, Event::FaultBegins("an instance"));
                self.server.cluster.stop(&instance).await?;
                away(self, 7.0, 9.0).await?;
                journal.note(None, Event::FaultEnds);
                journal.note(None, Event::Killed);
                self.server.cluster.cont(&instance).await?;
            }
            Blow::Router | Blow::Routers => {
                let both = vec!["router-0".to_owned(), "router-1".to_owned()];
                let routers = if blow == Blow::Routers { both } else { vec![router] };
                journal.note(None, Event::FaultBegins("routers"));
                self.server.kill(&routers).await?;
                away(self, 0.2, 3.0).await?;
                self.server.start(&routers).await?;
                self.server.cluster.whole().await?;
                journal.note(None, Event::FaultEnds);
            }
            Blow::Redis | Blow::Postgres => {
                let name = if blow == Blow::Redis { "redis" } else { "postgres" };
                journal.note(None, Event::FaultBegins(name));
                self.server.kill(&[name.to_owned()]).await?;
                away(self, 0.5, 4.0).await?;
                self.server.start(&[name.to_owned()]).await?;
                self.server.cluster.whole().await?;
                journal.note(None, Event::FaultEnds);
            }
            Blow::Empty | Blow::Failover => {
                journal.note(None, Event::FaultBegins("redis"));
                if blow == Blow::Empty {
                    self.server.cluster.empty_redis().await?;
                } else {
                    self.server.cluster.fail_over().await?;
                }
                self.server.cluster.whole().await?;
                journal.note(None, Event::FaultEnds);
            }
        }
        self.server.cluster.whole().await?;
        say(journal, "all are back".to_owned());
        Ok(())
    }
}

/// Does the whole run.
///
/// # Errors
/// If it could not be done; what was found is in the outcome.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let mut random = Random::of(&[options.plan.seed, 11]);
    let mut layout = Layout { redis: options.redis, redis_remembers: true, ..Layout::default() };
    layout.settings.push(("archive.enabled".to_owned(), options.archive.to_string()));
    layout.folder = options.folder;
    if let Some(log) = &options.log {
        layout.settings.push(("log.level".to_owned(), format!("{log:?}")));
    }
    let cluster = Cluster::start_all(&layout).await?;
    let mut run = Run::start(Under { cluster, down: HashSet::new() }, options.plan, options.archive).await?;
    run.resumes = !options.blows.iter().any(|blow| blow.loses_streams());
    let began = Instant::now();
    let mut left = Vec::new();
    let mut blows = options.blows.clone();
    while began.elapsed() < options.length {
        run.go_on(random.between(options.every.mul_f64(0.6), options.every.mul_f64(1.4))).await?;
        run.progress(began.elapsed().as_secs());
        if left.is_empty() {
            left.clone_from(&blows);
        }
        if left.is_empty() {
            continue;
        }
        let blow = left.swap_remove(random.below(u32::try_from(left.len())?) as usize);
        if blow == Blow::Failover {
            blows.retain(|blow| *blow != Blow::Failover);
        }
        run.blow(blow, &mut random).await?;
    }
    run.finish().await
}
