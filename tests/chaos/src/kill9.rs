//! Clients that chat, connect and cut, while the server is killed or stopped every few seconds.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    Failure,
    journal::Event,
    plan::Plan,
    random::Random,
    report::Outcome,
    run::Run,
    server::{Program, Server},
};

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

impl Run<Server> {
    /// Starts the server in `folder`, which is there, makes accounts, and lets clients in.
    ///
    /// # Errors
    /// If that does not work.
    pub async fn alone(program: Program, folder: &Path, plan: Plan, archive: bool) -> Result<Self, Failure> {
        let variables: &[(&str, &str)] = if archive { &[] } else { &[("STARLING_ARCHIVE_ENABLED", "false")] };
        Self::start(Server::new(program, folder, variables)?, plan, archive).await
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
}

/// Does the whole run, in a folder of its own.
///
/// # Errors
/// If it could not be done; what was found is in the outcome.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::of(&[options.plan.seed, 11]);
    let mut run = Run::alone(options.program, folder.path(), options.plan, options.archive).await?;
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
