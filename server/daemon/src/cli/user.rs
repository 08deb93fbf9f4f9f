//! `starlingd user …`.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use starling_settings::Settings;
use starling_store::{Account, PutMode};
use starling_xmpp::{
    SystemRandom,
    jid::{self, BareJid},
    sasl::Credentials,
};

use super::import;
use crate::{Error, Result, accounts::Accounts, parts::Parts};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an account. The password is asked for, or is the first line of standard input.
    Add(One),
    /// Give an account another password, and end its streams.
    Passwd(One),
    /// Remove an account, and end its streams.
    Remove(One),
    /// Show all accounts.
    List,
    /// Make many accounts: lines of `jid password`; empty lines and those that begin with `#` are skipped.
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The account: `alice@example.com`.
    jid: String,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file; `-` is standard input.
    pub(super) file: PathBuf,
    /// Accounts that exist get the password of the file, instead of being an error.
    #[arg(long, conflicts_with = "skip")]
    pub(super) replace: bool,
    /// Accounts that exist stay as they are, instead of being an error.
    #[arg(long)]
    pub(super) skip: bool,
}

pub(super) async fn run(command: Command, settings: &Settings, parts: &Parts) -> Result<()> {
    match command {
        Command::Add(One { jid }) => put(&jid, PutMode::Create, settings, parts).await,
        Command::Passwd(One { jid }) => put(&jid, PutMode::Replace, settings, parts).await,
        Command::Remove(One { jid }) => {
            // Also one of a domain that is no longer served.
            let account = address(&jid)?;
            let mut accounts = Accounts::open(settings).await?;
            let removed = accounts.remove(&account).await;
            accounts.close().await;
            if removed? { Ok(()) } else { Err(Error::Usage(format!("{account} does not exist"))) }
        }
        Command::List => {
            let mut accounts = Accounts::open(settings).await?;
            let mut out = io::stdout().lock();
            let shown = accounts.list(|jid| writeln!(out, "{jid}").map_err(output)).await;
            accounts.close().await;
            match shown {
                // Whoever reads has enough: `starlingd user list | head`.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                other => other,
            }
        }
        Command::Import(arguments) => import::run(&arguments, settings, parts).await,
    }
}

fn output(source: io::Error) -> Error {
    Error::Io { what: "standard output".to_owned(), source }
}

pub(super) fn address(text: &str) -> Result<BareJid> {
    let account = jid::parse_bare(text).map_err(|error| Error::Usage(format!("{text:?}: {error}")))?;
    if account.node().is_none() {
        return Err(Error::Usage(format!("{text:?} names no account, only a domain")));
    }
    Ok(account)
}

/// An account that this server would serve.
pub(super) fn parse(text: &str, parts: &Parts) -> Result<BareJid> {
    let account = address(text)?;
    if !parts.domains.iter().any(|domain| domain == account.domain().as_str()) {
        return Err(Error::Usage(format!("{} is not served: see the setting `domains`", account.domain())));
    }
    Ok(account)
}

async fn put(text: &str, mode: PutMode, settings: &Settings, parts: &Parts) -> Result<()> {
    let account = parse(text, parts)?;
    let password = read_password(&account)?;
    let credentials = Credentials::derive(&password, parts.iterations, &mut SystemRandom)
        .map_err(|error| Error::Usage(error.to_string()))?;
    let mut accounts = Accounts::open(settings).await?;
    let left_out = accounts.put(&[Account { jid: account.clone(), credentials }], mode).await;
    accounts.close().await;
    match (left_out?.is_empty(), mode) {
        (true, _) | (false, PutMode::Upsert) => Ok(()),
        (false, PutMode::Create) => Err(Error::Usage(format!("{account} exists already"))),
        (false, PutMode::Replace) => Err(Error::Usage(format!("{account} does not exist"))),
    }
}

fn read_password(account: &BareJid) -> Result<String> {
    let first = read_password_once(account)?;
    if io::stdin().is_terminal() {
        let second = rpassword::prompt_password("The same again: ").map_err(failed)?;
        if first != second {
            return Err(Error::Usage("the passwords differ".to_owned()));
        }
    }
    Ok(first)
}

/// Asked for, or the first line of standard input.
pub(super) fn read_password_once(account: &BareJid) -> Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return rpassword::prompt_password(format!("Password for {account}: ")).map_err(failed);
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(failed)?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}

fn failed(source: io::Error) -> Error {
    Error::Io { what: "the password".to_owned(), source }
}
