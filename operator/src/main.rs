//! `starling-operator`: see the library.

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

/// The operator of Starling, an XMPP server.
#[derive(Debug, Parser)]
#[command(name = "starling-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Look after the XmppServers of a cluster.
    Run(Box<starling_operator::run::Arguments>),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Crd => crd(),
        Command::Run(arguments) => run(*arguments),
    }
}

fn crd() -> ExitCode {
    let text = match serde_saphyr::to_string(&starling_operator::crd::definition()) {
        Ok(text) => text,
        Err(error) => return failed(&error),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // A reader who has enough and goes is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(&error),
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn run(arguments: starling_operator::run::Arguments) -> ExitCode {
    match starling_operator::run::main(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("starling-operator: {error}");
    ExitCode::FAILURE
}
