//! The process that keeps a cluster.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    panic::AssertUnwindSafe,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use starling_cluster::{Cluster, Layout, Ports};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use super::{
    Said, checks,
    control::{Asker, Control, Request},
    folder::Folder,
    leftovers,
    text::{self, note, say},
};

/// With this line a detached keeper says that nothing more comes.
const NO_MORE: &str = ".";

/// Runs a keeper that goes on, and returns when all is ready.
pub(super) async fn detach(folder: &Folder) -> Said<()> {
    folder.prepare()?;
    let own = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let failed = |error| format!("{}: {error}", folder.log().display());
    // It may be the log of a keeper that runs.
    let log = File::options().create(true).append(true).open(folder.log()).map_err(failed)?;
    let before = log.metadata().map_err(failed)?.len();
    let mut command = Command::new("setsid");
    command.arg(own).args(["up", "--keep", "--data"]).arg(folder.path());
    command.env(text::COMMAND, folder.command("").trim_end());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut keeper = command.spawn().map_err(|error| format!("setsid: {error}"))?;
    let mut lines = BufReader::new(keeper.stdout.take().ok_or("no output")?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == NO_MORE {
            return Ok(());
        }
        say(&format!("{line}\n"));
    }
    keeper.wait().await.ok();
    let mut said = String::new();
    let mut log = File::open(folder.log()).map_err(failed)?;
    log.seek(SeekFrom::Start(before)).and_then(|_| log.read_to_string(&mut said)).map_err(failed)?;
    Err(said.trim_end().to_owned())
}

/// The folder's lock. `None`: somebody has it, and does not let it go: one that was killed may take a moment to be gone.
async fn lock(folder: &Folder) -> Said<Option<File>> {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        if let Some(lock) = folder.try_lock()? {
            return Ok(Some(lock));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}

/// Keeps a cluster until it is told to end it.
pub(super) async fn keep(folder: &Folder, detached: bool) -> Said<()> {
    let mut signals = Signals::new()?;
    folder.prepare()?;
    let Some(lock) = lock(folder).await? else {
        let (path, stop) = (folder.path().display(), text::command(folder, "--stop"));
        return Err(format!("A cluster is running already in {path}. This ends it:\n    {stop}"));
    };
    // It goes with the process, and not before: whoever waits for it waits for that.
    std::mem::forget(lock);
    leftovers::clear(folder)?;
    let layout = Layout {
        folder: Some(folder.path().to_owned()),
        ports: Ports::Fixed,
        fsync: true,
        redis_remembers: true,
        ..Layout::default()
    };
    checks::all(folder, &layout)?;
    let control = Control::bind(folder).map_err(|error| format!("{}: {error}", folder.control().display()))?;
    let began = Instant::now();
    say(&format!("Starting, in {}\n", folder.path().display()));
    let mut cluster = tokio::select! {
        started = guarded(Cluster::start_all(&layout)) => started?,
        () = signals.come() => return Err("Stopped before it was ready".to_owned()),
    };
    say(&text::ready(folder, &mut cluster, began.elapsed(), detached));
    if detached {
        say(&format!("{NO_MORE}\n"));
    }
    let asker = serve(&control, &mut cluster, &mut signals).await;
    note("Stopping\n");
    let ended = guarded(cluster.end()).await;
    fs::remove_file(folder.control()).ok();
    let said = ended.map(|()| format!("Stopped. Its data stay in {}\n", folder.path().display()));
    if let Some(asker) = asker {
        asker.answer(&said).await;
    }
    said.map(|said| note(&said))
}

/// Does what it is asked to, one after the other, until it is told to stop; by whom, if it was by a request.
async fn serve(control: &Control, cluster: &mut Cluster, signals: &mut Signals) -> Option<Asker> {
    loop {
        let (request, asker) = tokio::select! {
            next = control.next() => next,
            () = signals.come() => return None,
        };
        if request.verb == "stop" {
            return Some(asker);
        }
        let said = tokio::select! {
            said = guarded_text(cluster, &request) => said,
            // What was begun is dropped with the cluster.
            () = signals.come() => return None,
        };
        if request.verb != "status" {
            match &said {
                Ok(said) => note(said),
                Err(problem) => note(&format!("{} {}: {problem}\n", request.verb, request.name)),
            }
        }
        asker.answer(&said).await;
    }
}

async fn guarded_text(cluster: &mut Cluster, request: &Request) -> Said<String> {
    let Request { verb, name } = request;
    let began = Instant::now();
    let done = match verb.as_str() {
        "status" => return Ok(text::status(cluster)),
        "kill9" => guarded(cluster.kill9(name)).await.map(|()| "killed"),
        "term" => guarded(cluster.term(name)).await.map(|()| "ended"),
        "pause" => guarded(cluster.stop(name)).await.map(|()| "paused"),
        "resume" => guarded(cluster.cont(name)).await.map(|()| "goes on"),
        "start" => guarded(cluster.start(name)).await.map(|()| "ready"),
        "restart9" => guarded(cluster.restart9(name)).await.map(|()| "ready"),
        other => Err(format!("{other}: no such request")),
    }?;
    if done == "ready" {
        guarded(cluster.whole()).await.map_err(|problem| format!("{name} is ready, but {problem}"))?;
    }
    Ok(format!("{name}: {done} ({:.1} s)\n", began.elapsed().as_secs_f64()))
}

/// The backends' helpers panic where something is not as expected; here that is said, and nothing more.
async fn guarded<T>(work: impl Future<Output = starling_cluster::Result<T>>) -> Said<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("it failed").to_owned())
        }
    }
}

/// What tells it to stop.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Said<Self> {
        let on = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn come(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
