//! How a keeper is asked to do something: one line to its socket, one answer until the end.

use std::{io, os::unix::fs::PermissionsExt as _};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::{Duration, timeout},
};

use super::{Said, folder::Folder, text::say};

const DONE: &str = "done\n";
const FAILED: &str = "failed\n";
/// Whoever connects says what it wants at once.
const LINE_WITHIN: Duration = Duration::from_secs(5);
const LONGEST_LINE: u64 = 200;

/// A verb, and whom it is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) verb: String,
    pub(super) name: String,
}

impl Request {
    pub(super) fn new(verb: &str, name: &str) -> Self {
        Self { verb: verb.to_owned(), name: name.to_owned() }
    }
}

/// Asks the keeper. What it says.
pub(super) async fn ask(folder: &Folder, request: &Request) -> Said<String> {
    let mut stream = match UnixStream::connect(folder.control()).await {
        Ok(stream) => stream,
        Err(error) => return Err(nobody(folder, &error)),
    };
    let gone = || "The cluster has ended meanwhile".to_owned();
    stream.write_all(format!("{} {}\n", request.verb, request.name).as_bytes()).await.map_err(|_| gone())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|_| gone())?;
    if let Some(said) = answer.strip_prefix(DONE) {
        return Ok(said.to_owned());
    }
    Err(answer.strip_prefix(FAILED).map_or_else(gone, |problem| problem.trim_end().to_owned()))
}

/// Asks the keeper to end the cluster, and waits until itself is gone.
pub(super) async fn stop(folder: &Folder) -> Said<()> {
    let said = ask(folder, &Request::new("stop", "")).await?;
    folder.wait_for_lock()?;
    say(&said);
    Ok(())
}

fn nobody(folder: &Folder, error: &io::Error) -> String {
    let (path, command) = (folder.path().display(), folder.command("--detach"));
    match error.kind() {
        io::ErrorKind::NotFound => format!("No cluster is running in {path}. This starts one:\n    {command}"),
        io::ErrorKind::ConnectionRefused => format!(
            "The cluster in {path} has ended without being stopped (it was killed, or the machine restarted). Its data are \
             there; this starts it again:\n    {command}"
        ),
        _ => format!("{}: {error}", folder.control().display()),
    }
}

/// The keeper's end.
#[derive(Debug)]
pub(super) struct Control(UnixListener);

impl Control {
    /// Takes the place of one that nobody listens to: the caller holds the lock.
    pub(super) fn bind(folder: &Folder) -> io::Result<Self> {
        let path = folder.control();
        std::fs::remove_file(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self(listener))
    }

    /// The next request, and where to answer it. May be dropped at any point: nothing was done then.
    pub(super) async fn next(&self) -> (Request, Asker) {
        loop {
            let Ok((mut stream, _)) = self.0.accept().await else {
                // Out of files, most likely: it is not asked again at once.
                tokio::time::sleep(LINE_WITHIN).await;
                continue;
            };
            let mut line = String::new();
            let mut reader = BufReader::new(&mut stream).take(LONGEST_LINE);
            if let Ok(Ok(1..)) = timeout(LINE_WITHIN, reader.read_line(&mut line)).await
                && let Some((verb, name)) = line.trim_end_matches('\n').split_once(' ')
            {
                return (Request::new(verb, name), Asker(stream));
            }
        }
    }
}

/// Whoever waits for an answer.
#[derive(Debug)]
pub(super) struct Asker(UnixStream);

impl Asker {
    /// Says how it ended. Whoever has left does not hear it.
    pub(super) async fn answer(mut self, said: &Said<String>) {
        let text = match said {
            Ok(said) => format!("{DONE}{said}"),
            Err(problem) => format!("{FAILED}{problem}\n"),
        };
        self.0.write_all(text.as_bytes()).await.ok();
    }
}
