//! `starlingd user import`: verifiers are derived on all cores, and written a thousand to a transaction.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    thread::available_parallelism,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use starling_settings::Settings;
use starling_store::{Account, PutMode};
use starling_xmpp::{SystemRandom, jid::BareJid, sasl::Credentials};
use tokio::{sync::mpsc, task::JoinSet};

use super::user::{Import, parse};
use crate::{Error, Result, accounts::Accounts, parts::Parts};

/// Accounts of one transaction.
const TRANSACTION: usize = starling_proto::admin::PUT_LIMIT;
/// Accounts that one thread derives before it hands them on.
const PORTION: usize = 20;

struct Line {
    number: usize,
    account: BareJid,
    password: String,
}

pub(super) async fn run(arguments: &Import, settings: &Settings, parts: &Parts) -> Result<()> {
    let lines = read(&arguments.file, parts)?;
    let mode = if arguments.replace { PutMode::Upsert } else { PutMode::Create };
    let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} accounts, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    // Draws on standard error, and nothing where that is no terminal.
    let bar = ProgressBar::with_draw_target(Some(lines.len() as u64), ProgressDrawTarget::stderr()).with_style(style);
    let mut accounts = Accounts::open(settings).await?;
    let outcome = write(&mut accounts, lines, mode, parts.iterations, &bar).await;
    accounts.close().await;
    bar.finish_and_clear();
    let (written, existing) = outcome?;
    println!("{written} accounts written.");
    match existing.as_slice() {
        [] => Ok(()),
        _ if arguments.skip => {
            println!("{} existed already and were left as they are.", existing.len());
            Ok(())
        }
        [first, ..] => Err(Error::Usage(format!(
            "{} accounts exist already and were left as they are, {first} the first: use --skip or --replace",
            existing.len()
        ))),
    }
}

/// Reads and checks everything before anything is written: a mistake is found before it is half done.
fn read(file: &Path, parts: &Parts) -> Result<Vec<Line>> {
    let failed = |source| Error::Io { what: file.display().to_string(), source };
    let input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(failed)?))
    };
    let mut lines = Vec::new();
    for (index, line) in input.lines().enumerate() {
        let line = line.map_err(failed)?;
        let line = line.strip_suffix('\r').unwrap_or(&line);
        let number = index + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |reason: &str| Error::Usage(format!("{}, line {number}: {reason}", file.display()));
        let (jid, password) = line.split_once([' ', '\t']).ok_or_else(|| wrong("no password behind the address"))?;
        let account = parse(jid, parts).map_err(|error| wrong(&error.to_string()))?;
        if password.is_empty() {
            return Err(wrong("the password is empty"));
        }
        lines.push(Line { number, account, password: password.to_owned() });
    }
    Ok(lines)
}

/// How many were written, and those that existed.
async fn write(
    accounts: &mut Accounts,
    lines: Vec<Line>,
    mode: PutMode,
    iterations: u32,
    bar: &ProgressBar,
) -> Result<(usize, Vec<BareJid>)> {
    let (derived_in, mut derived) = mpsc::channel::<Result<Vec<Account>>>(64);
    let feeder = tokio::spawn(derive(lines, iterations, derived_in));
    let (mut written, mut existing, mut batch) = (0, Vec::new(), Vec::with_capacity(TRANSACTION));
    loop {
        let portion = derived.recv().await.transpose()?;
        let is_last = portion.is_none();
        batch.extend(portion.into_iter().flatten());
        if batch.len() + PORTION > TRANSACTION || is_last {
            let left_out = accounts.put(&batch, mode).await?;
            written += batch.len() - left_out.len();
            existing
                .extend(left_out.iter().filter_map(|position| batch.get(*position)).map(|account| account.jid.clone()));
            bar.inc(batch.len() as u64);
            batch.clear();
        }
        if is_last {
            break;
        }
    }
    feeder.await.map_err(|error| Error::Usage(error.to_string()))?;
    Ok((written, existing))
}

/// Keeps every core busy with a portion, and no more waiting than the channel holds.
async fn derive(lines: Vec<Line>, iterations: u32, derived: mpsc::Sender<Result<Vec<Account>>>) {
    let cores = available_parallelism().map_or(1, usize::from);
    let mut lines = lines.into_iter();
    let mut working = JoinSet::new();
    loop {
        let portion: Vec<Line> = lines.by_ref().take(PORTION).collect();
        if !portion.is_empty() {
            working.spawn_blocking(move || portion.into_iter().map(|line| account(line, iterations)).collect());
            if working.len() < cores {
                continue;
            }
        }
        match working.join_next().await {
            None => return,
            Some(Ok(accounts)) => {
                if derived.send(accounts).await.is_err() {
                    return;
                }
            }
            Some(Err(failed)) => {
                derived.send(Err(Error::Usage(failed.to_string()))).await.ok();
                return;
            }
        }
    }
}

fn account(line: Line, iterations: u32) -> Result<Account> {
    match Credentials::derive(&line.password, iterations, &mut SystemRandom) {
        Ok(credentials) => Ok(Account { jid: line.account, credentials }),
        Err(error) => Err(Error::Usage(format!("line {}: {error}", line.number))),
    }
}
