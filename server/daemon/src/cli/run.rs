//! `starlingd run`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    runtime, select,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::{error, info, warn};

use crate::{
    Error, Result, Server,
    reload::{Cause, Reload, Source},
    telemetry,
};

pub(super) fn run(source: Source) -> Result<ExitCode> {
    let settings = source.read()?;
    let logs = telemetry::start(settings.log.format, &settings.log.level)?;
    let mut reload = Reload::new(Arc::new(source), settings, logs);
    // One provider for everything that asks for the process's default; an earlier one is the same.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    loop {
        let (mut runtime, threads) = (runtime::Builder::new_multi_thread(), reload.settings().threads);
        runtime.enable_all().thread_name("starling");
        if threads > 0 {
            runtime.worker_threads(threads as usize);
        }
        let runtime = runtime.build().map_err(|source| Error::Io { what: "threads".to_owned(), source })?;
        let ended = runtime.block_on(serve(&mut reload)).unwrap_or_else(|error| {
            // Where logs are collected, in their format.
            error!(%error, "Failed");
            Ended::For(ExitCode::from(error.exit_code()))
        });
        match ended {
            Ended::For(code) => {
                // What did not end in its time is not waited for.
                runtime.shutdown_background();
                return Ok(code);
            }
            // With it, everything of that run is dropped as it is: connections, above all.
            Ended::Revoked => runtime.shutdown_timeout(DROPPED),
        }
    }
}

/// For the threads of a run to let go of what they have.
const DROPPED: Duration = Duration::from_secs(5);

/// How a run ends.
enum Ended {
    /// The process ends.
    For(ExitCode),
    /// Others have taken it for dead: another one begins.
    Revoked,
}

async fn serve(reload: &mut Reload) -> Result<Ended> {
    let listen = |kind| signal(kind).map_err(|source| Error::Io { what: "signals".to_owned(), source });
    let (mut terminate, mut interrupt, mut hang_up) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let server = select! {
        server = Server::start(reload.begin()) => server?,
        () = either(&mut terminate, &mut interrupt) => return Ok(Ended::For(ExitCode::SUCCESS)),
    };
    select! {
        biased;
        () = server.is_revoked() => {
            error!("Others have taken this process for dead: it begins anew, without its sessions");
            return Ok(Ended::Revoked);
        }
        () = either(&mut terminate, &mut interrupt) => {}
        () = read_again(&server, reload, &mut hang_up) => {}
    }
    info!("Stopping; a second signal stops at once");
    select! {
        orderly = server.stop() => Ok(Ended::For(if orderly { ExitCode::SUCCESS } else { ExitCode::FAILURE })),
        () = either(&mut terminate, &mut interrupt) => {
            warn!("Stopped at once");
            Ok(Ended::For(ExitCode::FAILURE))
        }
    }
}

/// Reads again what can be read again, for as long as it is asked.
async fn read_again(server: &Server, reload: &mut Reload, hang_up: &mut Signal) {
    loop {
        select! {
            biased;
            Some(()) = hang_up.recv() => {
                server.reload().await;
                reload.read_again(server, Cause::Asked).await;
            }
            () = reload.changed() => reload.read_again(server, Cause::Changed).await,
        }
    }
}

async fn either(one: &mut Signal, two: &mut Signal) {
    select! {
        _ = one.recv() => {}
        _ = two.recv() => {}
    }
}
