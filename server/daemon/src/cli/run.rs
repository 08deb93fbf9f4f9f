//! `starlingd run`.

use std::{process::ExitCode, time::Duration};

use starling_settings::{LogFormat, Settings};
use tokio::{
    runtime, select,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::{error, info, warn};

use crate::{Error, Result, Server, telemetry};

pub(super) fn run(settings: &Settings) -> Result<ExitCode> {
    let format = match settings.log.format {
        LogFormat::Human => telemetry::Format::Human,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::start(format, &settings.log.level)?;
    // One provider for everything that asks for the process's default; an earlier one is the same.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    loop {
        let mut runtime = runtime::Builder::new_multi_thread();
        runtime.enable_all().thread_name("starling");
        if settings.threads > 0 {
            runtime.worker_threads(settings.threads as usize);
        }
        let runtime = runtime.build().map_err(|source| Error::Io { what: "threads".to_owned(), source })?;
        let ended = runtime.block_on(serve(settings)).unwrap_or_else(|error| {
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

async fn serve(settings: &Settings) -> Result<Ended> {
    let listen = |kind| signal(kind).map_err(|source| Error::Io { what: "signals".to_owned(), source });
    let (mut terminate, mut interrupt, mut hang_up) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let server = select! {
        server = Server::start(settings) => server?,
        () = either(&mut terminate, &mut interrupt) => return Ok(Ended::For(ExitCode::SUCCESS)),
    };
    loop {
        select! {
            biased;
            () = server.is_revoked() => {
                error!("Others have taken this process for dead: it begins anew, without its sessions");
                return Ok(Ended::Revoked);
            }
            () = either(&mut terminate, &mut interrupt) => break,
            _ = hang_up.recv() => server.reload().await,
        }
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

async fn either(one: &mut Signal, two: &mut Signal) {
    select! {
        _ = one.recv() => {}
        _ = two.recv() => {}
    }
}
