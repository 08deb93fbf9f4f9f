//! Whether a message costs more beside many sessions, or on a long archive.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Failure, archive,
    chat::{self, Chat, Ends, Pace, Shape},
    client::Manner,
    compare::server_program,
    friends,
    process::{self, Watched},
    server::{Installation, Place},
    sessions::Reading,
};

/// Pairs that chat, in each row.
const PAIRS: usize = 50;
/// Open files that a process has beside its connections.
const OTHER_FILES: usize = 200;

/// One row: so many sessions are logged in, those that chat included, and so many rows are in the archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    sessions: usize,
    archived: u64,
}

impl Size {
    /// The one row that is asked for, if one is.
    pub(crate) fn alone(sessions: Option<usize>, archived: Option<u64>) -> Option<Self> {
        let size =
            Self { sessions: sessions.unwrap_or_default().max(2 * PAIRS), archived: archived.unwrap_or_default() };
        (sessions.is_some() || archived.is_some()).then_some(size)
    }
}

const LONG: (&[Size], Duration) = (
    &[
        Size { sessions: 100, archived: 0 },
        Size { sessions: 1_000, archived: 0 },
        Size { sessions: 10_000, archived: 0 },
        Size { sessions: 100, archived: 1_000_000 },
    ],
    Duration::from_secs(10),
);
const SHORT: (&[Size], Duration) = (
    &[
        Size { sessions: 100, archived: 0 },
        Size { sessions: 300, archived: 0 },
        Size { sessions: 100, archived: 10_000 },
    ],
    Duration::from_secs(1),
);

/// Runs all rows, or the one that is given, each on a server of its own with the archive on, and prints the table.
///
/// # Errors
/// Something did not run at all, or was lost, doubled or out of order, also in the archive.
pub(crate) async fn run(
    program: Option<PathBuf>,
    short: bool,
    alone: Option<Size>,
    json_file: Option<&Path>,
) -> Result<(), Failure> {
    let program = server_program(program)?;
    let (sizes, duration) = if short { SHORT } else { LONG };
    let sizes = alone.as_ref().map_or(sizes, std::slice::from_ref);
    let (mut rows, mut broken, mut first) = (Vec::new(), Vec::new(), None);
    println!(
        "{:>9} {:>9} {:>15} {:>8} {:>9} {:>9}",
        "sessions", "archived", "us CPU/message", "ratio", "p50 ms", "p99 ms"
    );
    for size in sizes {
        let chat = match row(&program, *size, duration).await {
            Ok(chat) => chat,
            Err(error) => {
                println!("{:>9} {:>9} failed: {error}", size.sessions, size.archived);
                broken.push(format!("{size:?}: {error}"));
                continue;
            }
        };
        let cost = chat.all_cpu_us();
        let ratio = cost / *first.get_or_insert(cost);
        let (p50, p99) = (chat.p50.as_secs_f64() * 1e3, chat.p99.as_secs_f64() * 1e3);
        println!("{:>9} {:>9} {:>15.2} {ratio:>8.2} {p50:>9.2} {p99:>9.2}", size.sessions, size.archived, cost);
        eprintln!("  {chat}");
        if !chat.tally.is_whole() {
            broken.push(format!("{size:?}: {chat}"));
        }
        rows.push(json!({
            "sessions": size.sessions,
            "archived": size.archived,
            "unit": "us CPU/message",
            "starling": cost,
            "ratio": ratio,
            "p50_ms": p50,
            "p99_ms": p99,
        }));
    }
    if let Some(path) = json_file {
        std::fs::write(path, serde_json::to_string_pretty(&Value::Array(rows))?)?;
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

async fn row(program: &Path, size: Size, duration: Duration) -> Result<Chat, Failure> {
    let files = process::open_files_limit()?;
    if files < size.sessions + OTHER_FILES {
        return Err(format!("{} sessions, and only {files} open files are allowed (ulimit -n)", size.sessions).into());
    }
    let installation = Installation::new(program, Place::Disk, size.sessions, &[]).await?;
    if size.archived > 0 {
        archive::fill(&installation.database(), 2 * PAIRS, size.archived).await?;
    }
    let server = installation.start().await?;
    let target = server.target(false)?;
    let manner = Manner { presence: true, ..Manner::default() };
    let idle = Reading::new(friends::log_in(&target, 2 * PAIRS..size.sessions, manner).await?);
    let shape = Shape { pairs: PAIRS, pace: Pace::Window(1), managed: None, carbons: false };
    let chat = chat::run(&Ends::at(target), &[Watched::Process(server.pid)], &shape, duration).await?;
    friends::close(idle.end().await?).await?;
    match chat.unarchived(&server.database(), PAIRS).await? {
        None => Ok(chat),
        Some(wrong) => Err(wrong.into()),
    }
}
