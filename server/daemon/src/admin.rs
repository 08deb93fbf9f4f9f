//! The admin socket: how the command line reaches a running server.

mod client;
mod convert;
mod service;

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use starling_proto::admin::admin_server::AdminServer;
use starling_session::Service;
use starling_store::Store;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Error, Result, readiness::Readiness};

pub(crate) use client::{AdminClient, refused};

/// What the socket's orders act on.
pub(crate) struct Admin {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) service: Arc<Service>,
    pub(crate) readiness: Readiness,
    pub(crate) domains: Vec<String>,
    pub(crate) addresses: Vec<(&'static str, String)>,
    pub(crate) started: SystemTime,
}

/// The longest path of a Unix socket on Linux, in bytes.
const LONGEST_PATH: usize = 107;

/// Where the socket is, as something that can be bound: a path that is too long is shortened by way of the folder's
/// descriptor.
fn bindable(path: &Path) -> io::Result<(PathBuf, Option<std::fs::File>)> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return Ok((path.to_owned(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let folder = std::fs::File::open(folder)?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&folder);
    Ok((Path::new("/proc/self/fd").join(descriptor.to_string()).join(name), Some(folder)))
}

/// Binds the socket, for its owner alone, and serves it until `stop`.
pub(crate) async fn serve(path: &Path, admin: Admin, tasks: &TaskTracker, stop: CancellationToken) -> Result<()> {
    let failed = |source| Error::Listen { role: "admin", address: path.display().to_string(), source };
    // We hold the lock on the folder: a socket that is there belongs to nobody.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let (short, _folder) = bindable(path).map_err(failed)?;
    let listener = UnixListener::bind(&short).map_err(failed)?;
    std::fs::set_permissions(&short, Permissions::from_mode(0o600)).map_err(failed)?;
    let path = path.to_owned();
    tasks.spawn(async move {
        let server = tonic::transport::Server::builder()
            .concurrency_limit_per_connection(16)
            .add_service(AdminServer::new(admin).max_decoding_message_size(client::MESSAGE_BYTES))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled());
        if let Err(error) = server.await {
            tracing::warn!(%error, "Admin socket failed");
        }
        std::fs::remove_file(path).ok();
    });
    Ok(())
}
