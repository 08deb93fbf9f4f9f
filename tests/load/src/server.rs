//! The processes under load: a `starlingd` that is alone, with a data folder of its own, and the relay.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use starling_stream::connect::Security;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    Failure,
    starlingd::{Starlingd, Start},
    target::Target,
};

/// Of a size that rosters fit in, on every Linux.
const IN_MEMORY: &str = "/dev/shm";

/// Where a server keeps what lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where temporary files are.
    Disk,
    /// In memory, where that can be had: for what is written before anything is measured, not while.
    Memory,
}

/// A server's program, settings and data. The folder goes when this is dropped.
pub(crate) struct Installation {
    start: Start,
    data: TempDir,
}

impl Installation {
    /// A new data folder with so many accounts. `settings`: over those of [`Start::new`].
    pub(crate) async fn new(
        program: &Path,
        place: Place,
        accounts: usize,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let data = match place {
            Place::Memory if Path::new(IN_MEMORY).is_dir() => tempfile::tempdir_in(IN_MEMORY)?,
            Place::Memory | Place::Disk => tempfile::tempdir()?,
        };
        let start = Start::new(program, data.path());
        let start = settings.iter().fold(start, |start, (name, value)| start.set(name, *value));
        start.import(accounts).await?;
        Ok(Self { start, data })
    }

    /// The file that the server keeps messages in.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.path().join("starling.db")
    }

    /// Starts a server on the folder, which no other may have.
    pub(crate) async fn start(self) -> Result<Server, Failure> {
        let process = self.start.run().await?;
        Ok(Server { pid: process.pid, process, installation: self })
    }
}

/// A `starlingd` that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) pid: u32,
    process: Starlingd,
    installation: Installation,
}

impl Server {
    pub(crate) fn target(&self, tls: bool) -> Result<Target, Failure> {
        let security = if tls { Security::StartTls } else { Security::None };
        let certificate = self.installation.data.path().join("tls/self-signed.crt");
        Target::xmpp(self.process.address("c2s-starttls")?, security, Some(&certificate), "localhost")
    }

    /// The file that it keeps messages in.
    pub(crate) fn database(&self) -> PathBuf {
        self.installation.database()
    }

    /// Ends the process at once.
    pub(crate) async fn end(self) -> Result<Installation, Failure> {
        self.process.end().await?;
        Ok(self.installation)
    }
}

/// A relay that runs until it is dropped.
pub(crate) struct Relay {
    pub(crate) pid: u32,
    plain: SocketAddr,
    tls: SocketAddr,
    _process: Child,
}

impl Relay {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut process = Command::new(program).arg("relay").stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut out = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let line = out.next_line().await?.ok_or("the relay has ended")?;
        let (plain, tls) = line.split_once(' ').ok_or("no addresses")?;
        Ok(Self {
            pid: process.id().ok_or("the relay has ended")?,
            plain: plain.parse()?,
            tls: tls.parse()?,
            _process: process,
        })
    }

    pub(crate) const fn target(&self, tls: bool) -> Target {
        Target::Relay { address: if tls { self.tls } else { self.plain }, tls }
    }
}
