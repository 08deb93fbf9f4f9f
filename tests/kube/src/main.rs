//! A control plane to try things against: `tests/kube/up`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use starling_kube_tests::{ControlPlane, Kubelet, Life, Options};

#[derive(Debug, Parser)]
#[command(name = "starling-kube", about = "A Kubernetes control plane on this machine, without containers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a control plane until ctrl-C. Prints how to reach it.
    Up {
        /// Let pods stay pending, instead of making all of them seem to run.
        #[arg(long)]
        no_kubelet: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Up { no_kubelet } = Arguments::parse().command;
    let plane = ControlPlane::start(Options::default()).await;
    let kubelet = if no_kubelet { None } else { Some(Kubelet::start(plane.client().await, None, Life::good).await) };
    println!("export KUBECONFIG={}", plane.admin().file().display());
    let stopped = tokio::signal::ctrl_c().await;
    drop(kubelet);
    // The servers, and their folder.
    drop(plane);
    if stopped.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
