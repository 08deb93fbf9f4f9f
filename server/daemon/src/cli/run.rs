//! `starlingd run`.

use std::process::ExitCode;

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
    let runtime = runtime::Builder::new_multi_thread().enable_all().thread_name("starling").build();
    let runtime = runtime.map_err(|source| Error::Io { what: "threads".to_owned(), source })?;
    let code = runtime.block_on(serve(settings)).unwrap_or_else(|error| {
        // Where logs are collected, in their format.
        error!(%error, "Failed");
        ExitCode::from(error.exit_code())
    });
    // What did not end in its time is not waited for.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(settings: &Settings) -> Result<ExitCode> {
    let listen = |kind| signal(kind).map_err(|source| Error::Io { what: "signals".to_owned(), source });
    let (mut terminate, mut interrupt, mut hang_up) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    let server = select! {
        server = Server::start(settings) => server?,
        () = either(&mut terminate, &mut interrupt) => return Ok(ExitCode::SUCCESS),
    };
    loop {
        select! {
            () = either(&mut terminate, &mut interrupt) => break,
            _ = hang_up.recv() => server.reload().await,
        }
    }
    info!("Stopping; a second signal stops at once");
    select! {
        orderly = server.stop() => Ok(if orderly { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        () = either(&mut terminate, &mut interrupt) => {
            warn!("Stopped at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn either(one: &mut Signal, two: &mut Signal) {
    select! {
        _ = one.recv() => {}
        _ = two.recv() => {}
    }
}
