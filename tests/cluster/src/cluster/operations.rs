//! What is done to parts of a cluster by name, and asked of them.

use std::{path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};

use super::{Cluster, Process};
use crate::{Error, Name, PATIENCE, Redis, Result, http};

/// Processes are asked so often whether they see each other.
const ASKED_EVERY: Duration = Duration::from_millis(20);

impl Cluster {
    /// Starts a part that was ended, with its data, on its ports; returns when it is ready. Whether others have found it:
    /// [`Cluster::whole`].
    ///
    /// # Errors
    /// [`Error::Running`], [`Error::Unknown`], and what hinders it.
    ///
    /// # Panics
    /// If Redis or PostgreSQL does not start; so does [`Cluster::restart9`].
    pub async fn start(&mut self, name: &str) -> Result<()> {
        match name.parse()? {
            Name::Redis => {
                let one = self.redis.one()?;
                if one.is_running() {
                    return Err(Error::Running(Name::Redis));
                }
                one.start_again().await;
            }
            Name::Postgres => {
                if self.database.server.is_running() {
                    return Err(Error::Running(Name::Postgres));
                }
                self.database.server.start_again().await;
            }
            name => self.process_mut(name)?.start().await?,
        }
        Ok(())
    }

    /// `kill -9`, of PostgreSQL all processes; returns when it is gone.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Unknown`]; so have those below.
    pub async fn kill9(&mut self, name: &str) -> Result<()> {
        match name.parse()? {
            Name::Redis => self.redis.running()?.kill9().await,
            Name::Postgres => self.database.running()?.kill9().await,
            name => self.process_mut(name)?.kill9().await?,
        }
        Ok(())
    }

    /// `kill -9`, and a start.
    ///
    /// # Errors
    /// Those of both.
    pub async fn restart9(&mut self, name: &str) -> Result<()> {
        self.kill9(name).await?;
        self.start(name).await
    }

    /// Redis is killed (-9), and started with nothing in it.
    ///
    /// # Errors
    /// [`Error::NotOne`].
    pub async fn empty_redis(&mut self) -> Result<()> {
        let one = self.redis.one()?;
        if one.is_running() {
            one.kill9().await;
        }
        one.forget();
        one.start_again().await;
        Ok(())
    }

    /// Kills a primary of Redis (-9), and waits until a replica has taken its place: of a cluster, the first.
    ///
    /// # Errors
    /// [`Error::NotOne`]: the only server has no replica.
    pub async fn fail_over(&mut self) -> Result<()> {
        match &mut self.redis {
            Redis::One(_) => return Err(Error::NotOne(Name::Redis)),
            Redis::Watched(watched) => {
                watched.kill_primary().await;
                watched.failed_over().await;
            }
            Redis::Many(many) => many.fail_over(0).await,
        }
        Ok(())
    }

    /// Asks it to stop (SIGTERM; PostgreSQL: without waiting for its clients); returns when it has ended.
    ///
    /// # Errors
    /// Also when it does not end well.
    pub async fn term(&mut self, name: &str) -> Result<()> {
        match name.parse()? {
            Name::Redis => self.redis.running()?.stop().await,
            Name::Postgres => self.database.running()?.stop().await,
            name => self.process_mut(name)?.term().await?,
        }
        Ok(())
    }

    /// SIGSTOP: connections stay, and nothing is answered.
    ///
    /// # Errors
    /// As above.
    pub async fn stop(&mut self, name: &str) -> Result<()> {
        match name.parse()? {
            Name::Redis => self.redis.running()?.pause().await,
            Name::Postgres => self.database.running()?.pause().await,
            name => self.process_mut(name)?.pause().await?,
        }
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As above.
    pub async fn cont(&mut self, name: &str) -> Result<()> {
        match name.parse()? {
            Name::Redis => self.redis.running()?.resume().await,
            Name::Postgres => self.database.running()?.resume().await,
            name => self.process_mut(name)?.resume().await?,
        }
        Ok(())
    }

    /// Whether it runs: it may have ended by itself.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn is_running(&mut self, name: &str) -> Result<bool> {
        Ok(match name.parse()? {
            Name::Redis => self.redis.is_running(),
            Name::Postgres => self.database.server.is_running(),
            name => self.process_mut(name)?.is_running(),
        })
    }

    /// The number of its process; of PostgreSQL, of the one that all others are children of.
    ///
    /// # Errors
    /// As above.
    pub fn number(&mut self, name: &str) -> Result<u32> {
        let name = name.parse()?;
        let number = match name {
            Name::Redis => self.redis.running()?.process(),
            Name::Postgres => Some(self.database.running()?.postmaster()),
            name => {
                let process = self.process_mut(name)?;
                if process.is_running() { process.number() } else { None }
            }
        };
        number.ok_or(Error::NotRunning(name))
    }

    /// Waits until every instance that runs is attached to all routers that do and sees the other instances, and, if Redis
    /// runs, takes new sessions. Those that are paused are not asked, and may be seen or not.
    ///
    /// # Errors
    /// Who does not, and what it sees.
    pub async fn whole(&mut self) -> Result<()> {
        let mut routers = (0, 0);
        for router in &mut self.routers {
            routers = (routers.0 + usize::from(router.is_awake()), routers.1 + usize::from(router.is_running()));
        }
        let (mut asked, mut running) = (Vec::new(), 0);
        for instance in &mut self.instances {
            running += usize::from(instance.process.is_running());
            if instance.process.is_awake() {
                asked.push(instance.process.http());
            }
        }
        let others = (asked.len().saturating_sub(1), running.saturating_sub(1));
        let registry = if self.redis.is_running() { (1, 1) } else { (0, 1) };
        let wanted = [
            ("starling_link_routers", routers),
            ("starling_link_instances", others),
            ("starling_registry_available", registry),
        ];
        let mut last = String::new();
        let see = async {
            for address in asked {
                loop {
                    let text = http::get(address, "/metrics").await.unwrap_or_default();
                    let lacks = wanted.iter().find(|(name, (least, most))| {
                        let is = http::value(&text, name);
                        !is.is_some_and(|is| is >= *least as f64 && is <= *most as f64)
                    });
                    let Some((name, (least, _))) = lacks else { break };
                    last = format!("at {address}, {name} is {:?}, not {least}", http::value(&text, name));
                    sleep(ASKED_EVERY).await;
                }
            }
        };
        let seen = timeout(PATIENCE, see).await;
        seen.map_err(|_| Error::NotWhole(last))
    }

    /// Makes accounts: addresses and passwords. Those that are there get the password.
    ///
    /// # Errors
    /// What the program says.
    pub async fn add_users<A: AsRef<str>, P: AsRef<str>>(&mut self, users: &[(A, P)]) -> Result<()> {
        let lines: String =
            users.iter().map(|(address, password)| format!("{} {}\n", address.as_ref(), password.as_ref())).collect();
        self.command(&["user", "import", "--replace", "-"], &lines).await.map(drop)
    }

    /// Runs another command of the program with the settings of an instance that runs, or of the first. What it prints.
    ///
    /// # Errors
    /// If it says that it failed.
    pub async fn command(&mut self, arguments: &[&str], input: &str) -> Result<String> {
        let awake = self.instances.iter_mut().position(|instance| instance.process.is_awake());
        let instance = self.instances.get(awake.unwrap_or_default()).ok_or(Error::NotRunning(Name::C2s(0)))?;
        let output = instance.process.run(arguments, input).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Command { what: arguments.join(" "), errors })
    }

    /// `/metrics` of a router or an instance.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&mut self, name: &str) -> Result<String> {
        let address = self.http(name)?;
        http::get(address, "/metrics").await.map_err(Error::io(format!("metrics of {name}")))
    }

    /// One metric of it by its name with labels, as it is printed. 0 while it is not there.
    ///
    /// # Errors
    /// As above.
    pub async fn metric(&mut self, name: &str, metric: &str) -> Result<f64> {
        Ok(http::value(&self.metrics(name).await?, metric).unwrap_or_default())
    }

    /// Where a router or an instance shows metrics and health.
    ///
    /// # Errors
    /// [`Error::Unknown`]; so have those below.
    pub fn http(&mut self, name: &str) -> Result<std::net::SocketAddr> {
        Ok(self.process_mut(name.parse()?)?.http())
    }

    /// The file with the settings of a router or an instance.
    ///
    /// # Errors
    /// As above.
    pub fn settings_file(&mut self, name: &str) -> Result<PathBuf> {
        Ok(self.process_mut(name.parse()?)?.settings())
    }

    /// The file that a part writes its log to.
    ///
    /// # Errors
    /// As above.
    pub fn log_file(&mut self, name: &str) -> Result<PathBuf> {
        Ok(match name.parse()? {
            Name::Redis | Name::Postgres => self.folder.join(name).join("log"),
            name => self.process_mut(name)?.log(),
        })
    }

    fn process_mut(&mut self, name: Name) -> Result<&mut Process> {
        let found = match name {
            Name::Router(number) => self.routers.get_mut(number),
            Name::C2s(number) => self.instances.get_mut(number).map(|instance| &mut instance.process),
            Name::Redis | Name::Postgres => None,
        };
        found.ok_or_else(|| Error::Unknown(name.to_string()))
    }
}
